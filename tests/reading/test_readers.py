"""Readers of further formats, who is asked for which file, volumes slice by slice, files that hold a pair."""

import json

import numpy as np
import pytest
import tifffile

from example_files import dicom, exr, nifti, ramp
from fusionkit.errors import ImageReadError
from fusionkit.reading import count_pictures, read_image
from harness import load_image, run_cli

FAST = ("--prior", "average", "--backbone", "identity", "--align", "none")


class TestDicom:
    def test_a_window_is_what_is_shown(self, tmp_path):
        shown = dicom(tmp_path / "a.dcm")
        picture = read_image(tmp_path / "a.dcm")
        assert picture.span == (-160, 240)
        assert np.allclose(picture.pixels, np.clip((shown + 160) / 400, 0, 1), atol=1e-6)
        assert picture.notes == ("black is -160, white is 240 (`range=auto`), as the file says",)
        assert read_image(tmp_path / "a.dcm", (-1000, 2000)).pixels.max() == pytest.approx(1, abs=0.02)

    def test_without_one_the_range_is_that_of_all_frames(self, tmp_path):
        frames = np.stack([ramp(np.uint16, top)[..., 0] for top in (1000, 2000, 4000)])
        dicom(tmp_path / "a.dcm", frames, WindowCenter=None, WindowWidth=None)
        assert count_pictures(tmp_path / "a.dcm") == 3
        pictures = [read_image(tmp_path / "a.dcm", picture=i) for i in range(3)]
        assert len({p.span for p in pictures}) == 1
        assert [p.name for p in pictures] == [f"a.dcm (frame {i})" for i in (1, 2, 3)]
        assert pictures[0].pixels.max() == pytest.approx(0.25, abs=0.01)

    def test_monochrome1_is_turned_round(self, tmp_path):
        dicom(tmp_path / "a.dcm")
        dicom(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1")
        a, b = (read_image(tmp_path / name, (-1000, 2000)).pixels for name in ("a.dcm", "b.dcm"))
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(-1)

    def test_what_is_no_picture_and_who_the_patient_is_stay_out(self, tmp_path):
        import pydicom

        dicom(tmp_path / "a.dcm")
        data = pydicom.dcmread(tmp_path / "a.dcm")
        del data.PixelData
        data.save_as(tmp_path / "b.dcm")
        with pytest.raises(ImageReadError, match=r"b\.dcm: a DICOM object without pixels"):
            read_image(tmp_path / "b.dcm")
        dicom(tmp_path / "c.dcm")
        done = run_cli("run", *FAST, tmp_path / "a.dcm", tmp_path / "c.dcm", "-o", tmp_path / "out.tif")
        assert done.returncode == 0, done.stderr
        assert b"Nobody" not in (tmp_path / "out.tif").read_bytes()
        assert b"Nobody" not in (tmp_path / "out.manifest.jsonl").read_bytes()


class TestNifti:
    def test_slices_are_seen_from_below_with_the_front_up(self, tmp_path):
        import nibabel

        values = np.zeros((20, 30, 4), np.float32)
        values[0, 29, 0] = 1  # left, front, lowest
        for affine in (np.eye(4), np.diag([-1, 1, 1, 1])):
            nibabel.save(nibabel.Nifti1Image(values if affine[0, 0] > 0 else values[::-1], affine), tmp_path / "a.nii")
            first = read_image(tmp_path / "a.nii", picture=0).pixels[..., 0]
            assert first.shape == (30, 20)
            assert np.argwhere(first == 1).tolist() == [[0, 19]]  # radiologists' view: the left is on the right

    def test_a_volume_alone_is_no_image_and_has_one_range(self, tmp_path):
        nifti(tmp_path / "a.nii.gz", (np.arange(5) * 200 + 100).astype(np.int16) * np.ones((8, 9, 1), np.int16))
        with pytest.raises(ImageReadError, match=r"holds 5 pictures; name one as a\.nii\.gz#1"):
            read_image(tmp_path / "a.nii.gz")
        with pytest.raises(ImageReadError, match="none of number 6"):
            read_image(tmp_path / "a.nii.gz", picture=5)
        levels = [float(read_image(tmp_path / "a.nii.gz", picture=i).pixels.mean()) for i in range(5)]
        assert levels == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-5)

    def test_folders_of_volumes_are_fused_slice_by_slice(self, tmp_path):
        import nibabel

        for name, seed in (("ct", 0), ("mri", 1)):
            (tmp_path / name).mkdir()
            volume = np.random.default_rng(seed).integers(0, 900, (40, 24, 3)).astype(np.int16)
            nifti(tmp_path / name / "head.nii.gz", volume)
        done = run_cli(
            "run", *FAST, "--pairs", tmp_path / "ct", tmp_path / "mri", "-o", tmp_path / "out", "--ext", "tif"
        )
        assert done.returncode == 0, done.stderr
        assert sorted(p.name for p in (tmp_path / "out").glob("*.tif")) == [f"head_000{i}.tif" for i in (1, 2, 3)]
        with tifffile.TiffFile(tmp_path / "out" / "head_0002.tif") as tiff:
            assert tiff.asarray().shape == (24, 40)
            assert tiff.asarray().max() > 300  # in the units of the reference
        again = run_cli(
            "run", *FAST, "--pairs", tmp_path / "ct", tmp_path / "mri", "-o", tmp_path / "out", "--ext", "tif"
        )
        assert "3 finished before" in again.stdout
        image = nibabel.Nifti1Image(np.zeros((40, 24, 4), np.int16), None)  # states no place
        nibabel.save(image, tmp_path / "ct" / "head.nii.gz")
        odd = run_cli("run", *FAST, "--pairs", tmp_path / "ct", tmp_path / "mri", "-o", tmp_path / "b", "--ext", "tif")
        assert odd.returncode == 1
        assert "holds 4 pictures" in odd.stderr


def test_light_beyond_one_has_its_own_range(tmp_path):
    values = exr(tmp_path / "a.exr")
    picture = read_image(tmp_path / "a.exr")
    assert picture.span == (pytest.approx(values.min()), pytest.approx(values.max()))
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": ramp(np.float32, 1.0)[..., 0]}).write(str(tmp_path / "z.exr"))
    with pytest.raises(ImageReadError, match="has the channels Z; RGB, RGBA or Y can be read"):
        read_image(tmp_path / "z.exr")


class TestRaw:
    @pytest.fixture
    def dng(self, tmp_path):
        """A Bayer mosaic of one grey."""
        matrix = [v for row in range(3) for column in range(3) for v in (int(row == column), 1)]
        tags = [
            (271, 2, None, "Cam Works", True),
            (306, 2, None, "2026:03:01 10:20:30", True),
            (33421, 3, 2, (2, 2), True),
            (33422, 1, 4, bytes((0, 1, 1, 2)), True),
            (50706, 1, 4, bytes((1, 4, 0, 0)), True),
            (50708, 2, None, "made for a test", True),
            (50714, 4, 1, 0, True),
            (50717, 4, 1, 16000, True),
            (50721, 10, 9, matrix, True),
            (50728, 5, 3, (1, 1, 1, 1, 1, 1), True),
            (50778, 3, 1, 21, True),
        ]
        values = np.full((640, 960), 4000, np.uint16)
        tifffile.imwrite(tmp_path / "a.dng", values, photometric=32803, metadata=None, extratags=tags)
        return tmp_path / "a.dng"

    def test_a_file_is_developed_and_keeps_its_exif(self, dng):
        from PIL import Image

        picture = read_image(dng, "full")
        assert (picture.format, picture.depth, picture.size) == ("RAW", "16", (960, 640))
        assert picture.pixels[20:40, 20:40].mean() == pytest.approx(0.537, abs=0.08)  # sRGB of a quarter of the light
        exif = Image.Exif()
        exif.load(picture.metadata.exif)
        assert (exif[271], exif[306]) == ("Cam Works", "2026:03:01 10:20:30")

    @pytest.mark.parametrize("length", [13_000, 600_000, 1_200_000])
    def test_stumps_are_refused(self, length, dng):
        dng.write_bytes(dng.read_bytes()[:length])
        with pytest.raises(ImageReadError, match=r"copy it again"):
            read_image(dng, "full")

    def test_rows_without_any_light_are_missing(self):
        from fusionkit_plugins.readers.raw import _cut

        mosaic = np.full((100, 80), 600, np.uint16)
        assert not _cut(mosaic)
        mosaic[60:] = 0
        assert _cut(mosaic)

    def test_a_box_of_canon_holds_exif(self):
        from PIL import Image

        from fusionkit_plugins.readers.raw import _of_boxes

        main, detail = Image.Exif(), Image.Exif()
        main[271], detail[36867] = "Canon", "2026:03:01 10:20:30"
        boxes = b"".join(
            (len(block) + 8).to_bytes(4, "big") + name + block
            for name, block in ((b"CMT1", main.tobytes()[6:]), (b"CMT2", detail.tobytes()[6:]))
        )
        exif = Image.Exif()
        exif.load(_of_boxes(b"\0\0\0\x18ftypcrx " + boxes, []).exif)
        assert exif[271] == "Canon"
        assert exif.get_ifd(0x8769)[36867] == "2026:03:01 10:20:30"


class TestWhoReads:
    READER = """
import numpy as np
import fusionkit
from fusionkit.contracts import Reader, Stored

class Pair(Reader):
    def read(self, path, max_pixels):
        values = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
        return [Stored(values[..., None], name="thermal"), Stored(np.stack([values, values // 2, values], 2), name="visible")]

@fusionkit.hookimpl
def fusionkit_readers():
    yield fusionkit.ReaderRecord(
        name="pair", summary="two in one", target="two_in_one:Pair", extensions=(".png",), mark=b"TWO IN ONE", several=True
    )
"""

    @pytest.fixture
    def both(self, tmp_path, site):
        from PIL import Image

        site.add("two-in-one", self.READER)
        path = tmp_path / "both.png"
        Image.new("L", (8, 8)).save(path)
        path.write_bytes(path.read_bytes() + b"TWO IN ONE")
        return path

    def test_a_third_partys_mark_goes_first_and_one_file_is_a_pair(self, both, tmp_path, site):
        env = {"FUSIONKIT_PLUGINS": "imagefusionkit,two-in-one", "PYTHONPATH": str(site.site)}
        done = run_cli("run", *FAST, both, "-o", tmp_path / "out.png", env=env)
        assert done.returncode == 0, done.stderr
        assert load_image(tmp_path / "out.png").size == (64, 64)
        row = json.loads((tmp_path / "out.manifest.jsonl").read_text())
        assert row["reference_source"] == 2  # the visible one

    def test_others_are_read_as_before(self, both, tmp_path):
        assert read_image(both).size == (8, 8)
        done = run_cli("run", *FAST, both, "-o", tmp_path / "out.png")
        assert done.returncode == 2
        assert "fusing needs two or more images" in done.stderr

    def test_a_wrong_extension_does_not_decide(self, tmp_path):
        from PIL import Image

        for name in ("a.dcm", "a.tif", "a.exr", "a.unknown"):
            Image.new("L", (9, 7)).save(tmp_path / name, format="PNG")
            assert read_image(tmp_path / name).size == (9, 7)

    def test_a_missing_library_is_named_with_how_to_get_it(self, tmp_path, monkeypatch):
        nifti(tmp_path / "a.nii")
        monkeypatch.setattr(
            "fusionkit.registry.loading.find_spec", lambda name: None if name == "nibabel" else object()
        )
        with pytest.raises(ImageReadError, match=r"a\.nii: reader nifti needs nibabel: pip install 'nibabel>="):
            read_image(tmp_path / "a.nii", picture=0)
