"""Files that state odd, missing or impossible things: the right picture, or one line; nothing wrong in silence."""

import io
import json
import struct
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from example_files import dicom
from fusionkit.errors import Caution, ImageReadError, InputError, OptionError
from fusionkit.images.transforms import read_transforms
from fusionkit.reading import read_image
from fusionkit.reading.matching import in_turn
from fusionkit.writing import write_image
from fusionkit_plugins.readers.codecs import _Bits, _is_plain, _profile

ROW, COLUMN = np.mgrid[:24, :32]
GREY = (COLUMN * 7 + ROW).astype(np.uint8)
DEEP = (COLUMN * 1000 + ROW * 10).astype(np.uint16)
WARM = (20 + COLUMN / 10).astype(np.float32)


def tiff(path, values, *tags, **options):
    tifffile.imwrite(path, values, photometric="minisblack", extratags=[(*tag, True) for tag in tags], **options)
    return path


def without(path, tag):
    """Give a tag of a little-endian TIFF a code that nobody knows."""
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    for at in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 12):
        if struct.unpack_from("<H", data, at)[0] == tag:
            struct.pack_into("<H", data, at, 65000)
    path.write_bytes(data)
    return path


def chunked(path, values, *chunks):
    """A PNG with more chunks."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    data = stream.getvalue()
    made = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    path.write_bytes(data[:33] + b"".join(made) + data[33:])
    return path


def pixels(path, **options):
    return np.asarray(read_image(path, **options))


class TestTiff:
    @pytest.mark.parametrize("text", ["-3.40282e+38", "-3,40282e+38", "-3.4028234663852886e+38 0"])
    def test_nodata_is_read_as_gdal_reads_it(self, text, tmp_path):
        values = np.where(COLUMN < 8, np.finfo(np.float32).min, WARM)
        picture = read_image(tiff(tmp_path / "a.tif", values, (42113, 2, 0, text)))
        assert np.array_equal(picture.valid, COLUMN >= 8)
        assert picture.span == pytest.approx((20.8, WARM.max()))

    def test_large_integers_beside_nodata_are_data(self, tmp_path):
        values = np.where(COLUMN < 8, 2**31 - 1, 2**31 - 1000 - COLUMN).astype(np.int32)
        picture = read_image(tiff(tmp_path / "a.tif", values, (42113, 2, 0, "2147483647")))
        assert np.array_equal(picture.valid, COLUMN >= 8)

    def test_without_the_tag_that_says_so_black_is_zero_and_three_samples_are_rgb(self, tmp_path):
        assert np.array_equal(pixels(without(tiff(tmp_path / "a.tif", GREY), 262)), GREY)
        colour = np.dstack([GREY, GREY[::-1], GREY // 2])
        tifffile.imwrite(tmp_path / "b.tif", colour, photometric="rgb")
        assert np.array_equal(pixels(without(tmp_path / "b.tif", 262)), colour)

    def test_tags_of_another_type_are_passed_over(self, tmp_path):
        path = tiff(tmp_path / "a.tif", DEEP, (281, 2, 0, "hello"), (34675, 2, 0, "no profile"), (274, 2, 0, "6"))
        picture = read_image(path, "full")
        assert (picture.span, picture.icc, picture.turned) == ((0, 65535), None, False)
        assert np.array_equal(np.asarray(picture), DEEP)


class TestPng:
    def test_one_clear_value_of_sixteen_bits(self, tmp_path):
        picture = read_image(chunked(tmp_path / "a.png", DEEP, (b"tRNS", struct.pack(">H", int(DEEP[3, 3])))))
        assert np.array_equal(picture.alpha == 0, DEEP[3, 3] == DEEP)

    def test_a_damaged_profile_is_said(self, tmp_path):
        picture = read_image(chunked(tmp_path / "a.png", GREY, (b"iCCP", b"x\0\0garbage")))
        assert "its colour profile is damaged and was left out" in picture.notes

    def test_linear_grey_has_a_profile_of_grey(self, tmp_path):
        pytest.importorskip("imagecodecs")
        picture = read_image(chunked(tmp_path / "a.png", GREY, (b"gAMA", struct.pack(">I", 100_000))))
        assert picture.icc[16:20] == b"GRAY"


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16])
def test_jpeg_2000_gives_the_values_of_the_file(dtype, tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    values = (COLUMN * 100 if dtype is np.uint16 else COLUMN * 3 - 40).astype(dtype)
    options = {"bitspersample": 12} if dtype is np.uint16 else {}
    (tmp_path / "a.jp2").write_bytes(codecs.jpeg2k_encode(values, level=0, **options))
    picture = read_image(tmp_path / "a.jp2")
    assert np.allclose(np.asarray(picture), values, atol=1e-3)
    assert dtype is not np.uint16 or picture.span == (0, 4095)


class TestNetpbm:
    def test_a_picture_without_pixels(self, tmp_path):
        (tmp_path / "a.pgm").write_bytes(b"P5\n0 2\n255\n")
        with pytest.raises(ImageReadError, match="0x2 is no picture"):
            read_image(tmp_path / "a.pgm")

    def test_nothing_is_whiter_than_white(self, tmp_path):
        (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n1000\n" + struct.pack(">HH", 500, 65535))
        picture = read_image(tmp_path / "a.pgm")
        assert picture.pixels.ravel().tolist() == [0.5, 1.0]


class TestDicom:
    def made(self, path, **fields):
        """A file of DEEP with its elements set afterwards, to whatever."""
        plain = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"))
        dicom(path, DEEP, **plain, BitsStored=16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom knows that they are none
            data = pydicom.dcmread(path)
            for name, value in fields.items():
                setattr(data, name, value)
            data.save_as(path)
        return path

    @pytest.mark.parametrize(
        ("fields", "note"),
        [
            ({"RescaleSlope": "0", "RescaleIntercept": "-1024"}, "rescale slope 0"),
            ({"RescaleSlope": "nan", "RescaleIntercept": "0"}, "rescale slope nan"),
            ({"RescaleSlope": "1e300", "RescaleIntercept": "0"}, "rescale slope 1e+300"),
            ({"WindowCenter": "nan", "WindowWidth": "100"}, ""),
            ({"NumberOfFrames": 0}, ""),
            ({"BitsStored": 0}, ""),
            ({"RescaleSlope": ["1", "3"], "RescaleIntercept": "0"}, ""),
        ],
    )
    def test_numbers_that_are_none_change_nothing(self, fields, note, tmp_path):
        picture = read_image(self.made(tmp_path / "a.dcm", **fields))
        assert np.array_equal(np.asarray(picture), DEEP)
        assert note in " ".join(picture.notes)

    def test_a_window_beside_all_values_is_said(self, tmp_path):
        (note,) = read_image(self.made(tmp_path / "a.dcm", WindowCenter="60000", WindowWidth="100")).notes
        assert isinstance(note, Caution)
        assert note.endswith("no value lies between")

    def test_bits_that_end_higher_are_refused(self, tmp_path):
        self.made(tmp_path / "a.dcm", BitsStored=12)
        with pytest.raises(ImageReadError, match="High Bit 15"):
            read_image(tmp_path / "a.dcm")


def test_an_affine_without_axes_is_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4)), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<h", data, 254, 1)  # sform_code
    struct.pack_into("<12f", data, 280, *[0.0] * 12)
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(ImageReadError, match="its affine gives the voxels no axes"):
        read_image(tmp_path / "a.nii", picture=0)


def test_alpha_of_grey_light_and_parts(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    half = np.full(WARM.shape, 0.5, np.float32)
    exr.File({}, {"Y": WARM / 100, "A": half}).write(str(tmp_path / "a.exr"))
    picture = read_image(tmp_path / "a.exr")
    assert np.array_equal(picture.alpha, half)
    assert np.allclose(np.asarray(picture), WARM / 50)
    exr.File([exr.Part({}, {"Y": WARM}, name) for name in "ab"]).write(str(tmp_path / "b.exr"))
    assert "holds 2 parts, of which the first was read" in read_image(tmp_path / "b.exr").notes


class TestNumbers:
    @pytest.mark.parametrize("number", ["²", "0", "9" * 5000, "-1", "x"])
    def test_what_is_no_number_of_a_picture_is_a_name(self, number, tmp_path):
        Image.fromarray(GREY).save(tmp_path / "a.png")
        with pytest.raises(ImageReadError, match="cannot be opened"):
            read_image(f"{tmp_path / 'a.png'}#{number}")

    def test_names_with_other_digits_are_sorted(self, tmp_path):
        paths = [tmp_path / name for name in ("1²3.png", "1²2.png")]
        assert in_turn(paths, opened=False)[0] == paths[::-1]


class TestJpegXl:
    """Colours that a header states by numbers (ISO/IEC 18181-1, ColourEncoding), written here bit by bit."""

    P3, ENUM = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06), {0: (0, 2), 1: (1, 2), 2: (2, 6), 8: (2 | 6 << 2, 6)}

    def stated(self, *fields):
        """The profile that fields (number, bits) state, and the notes."""
        value = at = 0
        for number, count in ((0, 1), (0, 1), *fields):  # not all default, no profile in the file
            value, at = value | number << at, at + count
        notes = []
        return _profile(b"", _Bits(value.to_bytes(64, "little")), notes), notes

    def test_spaces_with_a_name(self):
        pytest.importorskip("imagecodecs")
        rgb, d65, primaries, p3 = self.ENUM[0], self.ENUM[1], self.ENUM[1], (2 | 9 << 2, 6)
        linear, srgb, pq = self.ENUM[8], (2 | 11 << 2, 6), (2 | 14 << 2, 6)
        assert self.stated(rgb, d65, primaries, (0, 1), srgb) == (None, [])
        profile, notes = self.stated(rgb, d65, p3, (0, 1), srgb)
        assert (profile[16:20], notes) == (b"RGB ", [])
        assert self.red(profile) == pytest.approx(self.red_of(self.P3), abs=2e-3)
        assert self.stated(self.ENUM[1], d65, (0, 1), linear)[0][16:20] == b"GRAY"
        assert self.stated(rgb, d65, p3, (0, 1), pq) == (
            None,
            ["its colours are stated as PQ, which is not converted: values were used as stored"],
        )

    def test_a_space_of_ones_own(self):
        pytest.importorskip("imagecodecs")
        points = [(2 * round(n * 1e6), 0) for n in self.P3]
        coded = [self.coordinate(n) for n, _ in points]
        profile, _ = self.stated(self.ENUM[0], self.ENUM[1], self.ENUM[2], *coded, (1, 1), (5_000_000, 24))
        assert self.red(profile) == pytest.approx(self.red_of(self.P3), abs=2e-3)

    def coordinate(self, number):
        """A number as the format writes coordinates: a choice of two bits, then 19 to 21."""
        choice = min(number >> 19, 2) if number < 3 << 19 else 3
        count, less = ((19, 0), (19, 1 << 19), (20, 1 << 20), (21, 1 << 21))[choice]
        return choice | (number - less) << 2, count + 2

    def red(self, profile):
        from PIL import ImageCms

        return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.red_primary[1][:2]

    def red_of(self, primaries):
        """(x, y) of red, adapted to the D50 of profiles."""
        codecs = pytest.importorskip("imagecodecs")
        corners = [part for at in (0, 2, 4) for part in (*primaries[at : at + 2], 1.0)]
        return self.red(bytes(codecs.cms_profile("rgb", whitepoint=(0.3127, 0.329, 1.0), primaries=corners, gamma=2.0)))

    def test_fields_before_the_colours(self):
        fields = ((0, 1), (1, 1), (5, 3), (0, 1), (0, 1), (1, 1))  # extra fields: orientation, an animation
        fields += ((0, 2), (0, 2), (0, 2), (0, 1))  # 100 ticks a second, for ever
        fields += ((0, 1), (0, 2), (0, 1))  # 8 bits
        fields += (
            (1, 2),
            (0, 1),
            (0, 2),
            (0, 1),
            (0, 2),
            (0, 2),
            (1, 2),
            (3, 4),
            (0, 24),
            (1, 1),
        )  # alpha, premultiplied
        fields += ((1, 1), (1, 1))
        value = at = 0
        for number, count in fields:
            value, at = value | number << at, at + count
        bits, notes = _Bits(value.to_bytes(32, "little")), []
        assert not _is_plain(bits, notes)
        assert notes == [
            "an animation, of which the first frame was read",
            "alpha is premultiplied in the file; colours were used as stored",
        ]
        assert bits.take(1) == 1  # colours: all default

    def test_a_profile_in_the_file_needs_another_decoder(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "pillow_jxl", None)  # not installed
        notes = []
        assert _profile(b"", _Bits(b"\x02"), notes) is None
        assert notes == ["its colour profile was not read: pip install pillow-jxl-plugin"]
        decoder = lambda num_threads: lambda data: (False, None, b"", b"profile of " + data, [])  # noqa: E731
        monkeypatch.setitem(sys.modules, "pillow_jxl", SimpleNamespace(Decoder=decoder))
        assert _profile(b"it", _Bits(b"\x02"), []) == b"profile of it"


class TestLimits:
    def test_files_that_are_read_whole_are_not_larger_than_their_pictures(self, tmp_path):
        for name, begin in (("a.jxl", b"\xff\x0a"), ("a.gif", b"GIF89a"), ("a.dcm", bytes(128) + b"DICM")):
            with (tmp_path / name).open("wb") as stream:
                stream.write(begin)
                stream.truncate(1 << 36)
            with pytest.raises(ImageReadError, match="more than such a file can have"):
                read_image(tmp_path / name)

    def test_elements_of_nothing_are_not_read_for_ever(self, tmp_path):
        dicom(tmp_path / "a.dcm")
        assert read_image(tmp_path / "a.dcm").size == (40, 24)
        (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:400] + bytes(900_000))
        with pytest.raises(ImageReadError, match="more than 100000 elements"):
            read_image(tmp_path / "a.dcm")

    def test_items_of_nothing_are_not_read_for_ever(self, tmp_path):
        dicom(tmp_path / "a.dcm")
        whole, begin = (tmp_path / "a.dcm").read_bytes(), b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
        at, items = whole.index(b"\x08\x00\x16\x00"), b"\xfe\xff\x00\xe0\0\0\0\0"
        for number, refused in ((1, False), (330_000, True)):
            end = b"\xfe\xff\xdd\xe0\0\0\0\0"
            (tmp_path / "b.dcm").write_bytes(whole[:at] + begin + number * items + end + whole[at:])
            if not refused:
                assert read_image(tmp_path / "b.dcm").size == (40, 24)
                continue
            with pytest.raises(ImageReadError, match="more than 300000 items"):
                read_image(tmp_path / "b.dcm")

    @pytest.mark.parametrize("span", [(5, 5), (10, 5), (0, float("nan")), (float("-inf"), 2)])
    def test_ranges_that_are_none(self, span, tmp_path):
        with pytest.raises(OptionError, match="white must be above black"):
            read_image(tiff(tmp_path / "a.tif", DEEP), span)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.eye(3) * 1j, "Cannot cast"),
        (np.array([["a", "b"]]), "Cannot cast"),
        ({"reference": 1, "size": [4, 4], "transforms": []}, "transforms"),
        (
            {"reference": 1, "size": [4, 4], "transforms": [{"source": 2, "matrix": np.eye(3)[:2].tolist()}] * 2},
            "several",
        ),
    ],
)
def test_transforms_that_would_be_passed_over(content, said, tmp_path):
    path = tmp_path / ("a.json" if isinstance(content, dict) else "a.npy")
    if isinstance(content, dict):
        path.write_text(json.dumps(content))
    else:
        np.save(path, content)
    with pytest.raises(InputError, match=said):
        read_transforms(path)


def test_what_is_clear_is_white_where_there_is_no_alpha(tmp_path):
    cover = np.where(COLUMN < 8, 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([GREY, GREY, GREY, cover])).save(tmp_path / "a.png")
    for name in ("a.bmp", "a.dcm"):
        assert f"{name[1:]} has no alpha: composited onto white" in write_image(
            tmp_path / name, read_image(tmp_path / "a.png")
        )
        found = read_image(tmp_path / name).pixels[..., 0]
        assert np.array_equal(found, np.where(COLUMN < 8, 255, GREY).astype(np.float32) / 255), name


def test_gaps_are_no_light_where_the_format_has_no_value_for_them(tmp_path):
    values = np.where(COLUMN < 8, -9999, WARM / 100).astype(np.float32)
    picture = read_image(tiff(tmp_path / "a.tif", values, (42113, 2, 0, "-9999")))
    for module, name in (("OpenEXR", "a.exr"), ("nibabel", "a.nii")):
        pytest.importorskip(module)
        write_image(tmp_path / name, picture)
        found = read_image(tmp_path / name, picture=0)
        assert np.array_equal(found.valid, picture.valid), name
        assert found.span == pytest.approx((0, 1)) or found.span[0] > 0
    pytest.importorskip("imagecodecs")
    assert ".hdr holds no places without data: they became 0" in write_image(tmp_path / "a.hdr", picture)
