"""What a file says beside its pixels reaches the result, in every format that can hold it; what is untrue does not."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from fusionkit.errors import ImageReadError
from fusionkit.images.metadata import Metadata, calibrated_view, software
from fusionkit.reading import read_image
from fusionkit.writing import write_image
from harness import load_image, run_cli

EXIF, GPS = 0x8769, 0x8825
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6">thermal</d></x:xmpmeta>'


@pytest.fixture
def photo(tmp_path):
    """A JPEG on its side, with EXIF, GPS and XMP."""
    exif = Image.Exif()
    exif[271], exif[274], exif[305] = "Cam Works", 6, "Firmware 3"
    exif.get_ifd(EXIF)[36867] = "2026:03:01 10:20:30"
    exif.get_ifd(EXIF)[37386] = TiffImagePlugin.IFDRational(50, 1)
    exif.get_ifd(EXIF)[40962] = 24
    exif.get_ifd(GPS)[1], exif.get_ifd(GPS)[2] = "N", (48.0, 8.0, 14.5)
    pixels = (np.random.default_rng(0).random((16, 24, 3)) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "vis.jpg", exif=exif, xmp=XMP, quality=95)
    return tmp_path / "vis.jpg"


def written(tmp_path, picture, name, depth="8"):
    path = tmp_path / name
    notes = write_image(path, picture.pixels, depth, metadata=picture.metadata)
    return path, notes


@pytest.mark.parametrize(
    ("name", "depth"),
    [("a.jpg", "8"), ("a.png", "8"), ("a.png", "16"), ("a.webp", "8"), ("a.tif", "16"), ("a.tif", "float")],
)
def test_it_travels(photo, tmp_path, name, depth):
    picture = read_image(photo)
    path, notes = written(tmp_path, picture, name, depth)
    assert notes == []
    image = load_image(path) if (name, depth) != ("a.tif", "float") else None
    back = read_image(path, "full").metadata
    exif = Image.Exif()
    exif.load(back.exif)
    assert exif[271] == "Cam Works"
    assert exif.get_ifd(EXIF)[36867] == "2026:03:01 10:20:30"
    assert float(exif.get_ifd(EXIF)[37386]) == 50
    assert (exif.get_ifd(GPS)[1], tuple(map(float, exif.get_ifd(GPS)[2]))) == ("N", (48, 8, 14.5))
    assert b"thermal" in back.xmp
    assert b'tiff:Orientation="1"' in back.xmp
    if image is not None:
        assert image.getexif()[305] == software()
        assert image.getexif().get(274, 1) == 1
        assert image.size == (16, 24)
        assert (image.getexif().get_ifd(EXIF)[40962], image.getexif().get_ifd(EXIF)[40963]) == (16, 24)
    write_image(tmp_path / f"plain{path.suffix}", picture.pixels, depth)
    assert np.array_equal(read_image(tmp_path / f"plain{path.suffix}", "full").pixels, read_image(path, "full").pixels)


def test_geotiff_stays_geotiff(tmp_path):
    tags = [
        (33550, 12, 3, (0.5, 0.5, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0), True),
        (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
        (34737, 2, None, "WGS 84 / UTM zone 11N|", True),
    ]
    tifffile.imwrite(tmp_path / "geo.tif", np.full((6, 8), 300, np.uint16), metadata=None, extratags=tags)
    picture = read_image(tmp_path / "geo.tif", "full")
    path, notes = written(tmp_path, picture, "out.tif", "16")
    assert notes == []
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[0].tags
        assert [found[code].value for code in (33550, 33922, 34735)] == [tag[3] for tag in tags[:3]]
        assert found[34737].value == tags[3][3]
        assert found["Software"].value == software()
        assert tiff.pages[0].asarray().max() == 300
    _, notes = written(tmp_path, picture, "out.png", "16")
    assert notes == [".png holds no GeoTIFF tags: they were left out; .tif keeps them"]


def test_a_turned_geotiff_is_nowhere(tmp_path):
    tags = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (274, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "geo.tif", np.zeros((6, 8), np.uint8), metadata=None, extratags=tags)
    picture = read_image(tmp_path / "geo.tif")
    assert picture.metadata.geo == ()
    assert any("before it was turned" in note for note in picture.notes)


def test_a_colour_profile_stays_in_a_deep_png(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert write_image(tmp_path / "a.png", np.full((4, 5, 3), 0.5, np.float32), "16", icc=profile) == []
    assert load_image(tmp_path / "a.png").info["icc_profile"] == profile
    assert read_image(tmp_path / "a.png").icc == profile


def test_a_damaged_block_is_left_out_and_said(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(20))
    picture = read_image(tmp_path / "a.jpg")
    assert picture.metadata == Metadata()
    Image.new("RGB", (8, 8)).save(tmp_path / "b.bmp")
    assert write_image(tmp_path / "c.bmp", picture.pixels, "8", metadata=Metadata(xmp=XMP)) == [
        ".bmp holds no metadata: EXIF, XMP and the like were left out"
    ]


def test_a_makers_note_too_large_for_a_file_goes_first(tmp_path):
    exif = Image.Exif()
    exif[271] = "Cam"
    exif.get_ifd(EXIF)[37500] = bytes(70_000)
    notes = write_image(tmp_path / "a.jpg", np.zeros((4, 4, 3), np.float32), "8", metadata=Metadata(exif.tobytes()))
    assert "the maker's note was left out" in notes[0]
    assert load_image(tmp_path / "a.jpg").getexif()[271] == "Cam"


def test_the_command_carries_the_references_and_strips_on_request(photo, tmp_path):
    infrared = tmp_path / "ir.png"
    write_image(infrared, np.random.default_rng(1).random((24, 16, 1)).astype(np.float32), "8")
    fast = ("--prior", "average", "--backbone", "identity")
    done = run_cli("run", *fast, infrared, photo, "-o", tmp_path / "a.jpg")
    assert done.returncode == 0, done.stderr
    exif = load_image(tmp_path / "a.jpg").getexif()
    assert (exif[271], exif[305], exif.get_ifd(GPS)[1]) == ("Cam Works", software(), "N")
    done = run_cli("run", *fast, "--strip", infrared, photo, "-o", tmp_path / "b.jpg")
    assert done.returncode == 0, done.stderr
    stripped = load_image(tmp_path / "b.jpg")
    assert not stripped.getexif()
    assert "xmp" not in stripped.info
    assert np.array_equal(stripped, load_image(tmp_path / "a.jpg"))
    assert json.loads((tmp_path / "b.manifest.jsonl").read_text().splitlines()[0])["event"] == "pair"


class TestOddTags:
    """Tags of other types or lengths than they have, as damaged files and careless programs write them."""

    def with_tags(self, path, *tags):
        tifffile.imwrite(path, np.full((6, 8), 200, np.uint8), metadata=None, software=False, extratags=tags)
        return read_image(path)

    @pytest.mark.parametrize(
        "tag",
        [
            (33550, 16, 1, 9436448592920306622, True),
            (33550, 2, None, "half a metre", True),
            (33922, 5, 6, (1, 2) * 6, True),
            (34735, 12, 4, (1.5, 1.0, 0.0, 1.0), True),
            (34735, 4, 4, (70_000, 1, 0, 1), True),
            (34737, 3, 3, (1, 2, 3), True),
            (42113, 12, 1, -9999.0, True),
            (271, 5, 1, (1, 0), True),
            (282, 2, None, "many", True),
        ],
    )
    def test_they_never_stop_a_result(self, tag, tmp_path):
        picture = self.with_tags(tmp_path / "a.tif", tag, (272, 2, None, "Model 3", True))
        path, _ = written(tmp_path, picture, "out.tif")
        with tifffile.TiffFile(path) as tiff:
            assert tiff.pages[0].tags[272].value == "Model 3"  # the sound ones stay
        for suffix in ("jpg", "png", "webp"):
            written(tmp_path, picture, f"out.{suffix}")

    def test_those_left_out_are_said(self, tmp_path):
        picture = self.with_tags(tmp_path / "a.tif", (33550, 2, None, "half", True), (34737, 3, 3, (1, 2, 3), True))
        assert picture.metadata.geo == ()
        assert "2 of its tags are damaged and were left out: 33550, 34737" in picture.notes

    def test_mutated_files_are_written(self, photo, tmp_path):
        rng = np.random.default_rng(0)
        with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
            geo = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (34737, 2, None, "WGS 84|", True)]
            tiff.write(np.full((6, 8), 200, np.uint8), metadata=None, extratags=[*geo, (282, 5, 1, (72, 1), True)])
        data = (tmp_path / "a.tif").read_bytes()
        for _ in range(60):
            changed = bytearray(data)
            for place in rng.integers(8, len(changed), 6):
                changed[place] = rng.integers(256)
            (tmp_path / "b.tif").write_bytes(changed)
            try:
                picture = read_image(tmp_path / "b.tif", picture=0)
            except ImageReadError:
                continue
            written(tmp_path, picture, "out.tif")


def test_statistics_of_the_source_are_not_the_results(tmp_path):
    item, kept = '<Item name="STATISTICS_MEAN" sample="0">7.5</Item>', '<Item name="DESCRIPTION" sample="0">red</Item>'
    for content, expected in ((item, None), (item + kept, kept)):
        tags = [(42112, 2, None, f"<GDALMetadata>{content}</GDALMetadata>", True)]
        tifffile.imwrite(tmp_path / "a.tif", np.full((6, 8), 200, np.uint8), metadata=None, extratags=tags)
        path, _ = written(tmp_path, read_image(tmp_path / "a.tif"), "out.tif")
        with tifffile.TiffFile(path) as tiff:
            found = tiff.pages[0].tags.get(42112)
            assert (found and found.value) == (expected and f"<GDALMetadata>{expected}</GDALMetadata>")


DJI = 'xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" drone-dji:CalibratedFocalLength="{}" {} drone-dji:Other="1"'
CENTRE = 'drone-dji:CalibratedOpticalCenterX="2640.0" drone-dji:CalibratedOpticalCenterY="1978.0"'
PIX4D = "><Camera:PerspectiveFocalLength>5.42</Camera:P><Camera:PrincipalPoint>{}</Camera:P><other"
PACKET = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {}></rdf:Description></x:xmpmeta>'


@pytest.mark.parametrize(
    ("stated", "view"),
    [
        (DJI.format("3725.15", CENTRE), 2640 / 3725.15),
        (DJI.format("3725.15", CENTRE).replace('"', "'"), 2640 / 3725.15),
        (PIX4D.format("2.28596, 1.80131"), 2.28596 / 5.42),
        (PIX4D.format("2.28596"), None),
        (DJI.format("3725.15", ""), None),
        (DJI.format("0", CENTRE), None),
        (DJI.format("nan", CENTRE), None),
        (DJI.format("?", CENTRE), None),
        ("", None),
    ],
)
def test_a_calibration_in_the_xmp_says_what_a_camera_sees(stated, view):
    """Packets made after the layout that drones write."""
    assert calibrated_view(Metadata(xmp=PACKET.format(stated).encode())) == view


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_a_calibration_counts_before_a_focal_length(tmp_path, suffix):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[41989] = 40
    path = tmp_path / f"drone{suffix}"
    packet = PACKET.format(DJI.format("3725.15", CENTRE)).encode()
    if suffix == ".tif":
        tifffile.imwrite(path, np.zeros((30, 40), np.uint8), extratags=[(700, 1, len(packet), packet, True)])
    else:
        Image.new("L", (40, 30)).save(path, exif=exif, xmp=packet)
    assert read_image(path).view == 2640 / 3725.15
