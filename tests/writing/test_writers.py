"""What the writers of scientific formats write, read back by the formats' own libraries."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from example_files import dicom, nifti, ramp
from fusionkit import fuse, read_image, write_image
from fusionkit.errors import FusionWarning, OutputError
from fusionkit.images.picture import Picture
from fusionkit.images.place import Place
from fusionkit.writing import check_output, depth_in, extension_of

PLANE = {"prior": "average", "backbone": "identity", "align": "none"}
OBLIQUE = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]
PLACED = {
    "ImagePositionPatient": [-12.5, 30.0, -400.25],
    "ImageOrientationPatient": OBLIQUE,
    "PixelSpacing": [0.7, 0.9],
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.7",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.8",
    "SliceThickness": 3,
}
GEO = [
    (33550, "d", 3, (2.0, 2.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True),
    (34735, "H", 12, (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32632), True),
]


class TestDicom:
    @pytest.fixture(autouse=True)
    def _needs(self):
        self.pydicom = pytest.importorskip("pydicom")

    def fused(self, folder, name="ct.dcm", **fields):
        """A slice fused with itself, written beside it: the file's elements, and the values that were fused."""
        expected = dicom(folder / name, **PLACED, **fields)
        result = fuse(folder / name, folder / name, **PLANE)
        result.save(folder / "out" / name)
        return self.pydicom.dcmread(folder / "out" / name), expected

    def test_it_lies_where_the_reference_does(self, tmp_path):
        data, _ = self.fused(tmp_path)
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            np.testing.assert_allclose([float(v) for v in data[name].value], PLACED[name], rtol=1e-12)
        assert data.FrameOfReferenceUID == PLACED["FrameOfReferenceUID"]

    def test_hounsfield_units_and_the_window_are_kept(self, tmp_path):
        data, expected = self.fused(tmp_path)
        low, high = -160, 240  # of the window that `dicom` states
        found = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert np.abs(found - expected[..., 0].clip(low, high)).max() < (high - low) / 100_000
        assert (float(data.WindowCenter), float(data.WindowWidth)) == (40, 400)

    def test_it_is_a_new_object_without_a_patient(self, tmp_path):
        data, _ = self.fused(tmp_path)
        source = self.pydicom.dcmread(tmp_path / "ct.dcm")
        assert data.SOPClassUID == self.pydicom.uid.SecondaryCaptureImageStorage
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            assert data[name].value.is_valid
            assert name not in source or data[name].value != source[name].value
        assert "Nobody" in str(source.PatientName)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
            assert not data[name].value
        assert b"Nobody" not in (tmp_path / "out" / "ct.dcm").read_bytes()

    def test_slices_of_a_folder_are_one_series_of_several_objects(self, tmp_path):
        one, _ = self.fused(tmp_path, "1.dcm")
        two, _ = self.fused(tmp_path, "2.dcm")
        assert one.SeriesInstanceUID == two.SeriesInstanceUID
        assert one.SOPInstanceUID != two.SOPInstanceUID

    @pytest.mark.parametrize(("depth", "channels"), [("8", 1), ("8", 3), ("16", 1), ("16", 3)])
    def test_grey_and_colour_of_8_and_16_bits(self, depth, channels, tmp_path):
        values = ramp(np.uint8 if depth == "8" else np.uint16, 250 if depth == "8" else 65_000, channels)[:23, :39]
        write_image(tmp_path / "a.dcm", values)
        data = self.pydicom.dcmread(tmp_path / "a.dcm")
        assert (data.BitsStored, data.SamplesPerPixel) == (int(depth), channels)
        assert np.array_equal(data.pixel_array.reshape(values.shape), values)
        assert "ImagePositionPatient" not in data

    def test_places_without_data_are_padding(self, tmp_path):
        values = np.linspace(-1000, 2000, 600, dtype=np.float32).reshape(20, 30, 1)
        valid = np.ones((20, 30), bool)
        valid[5:9, 3:] = False
        unit = ((values + 1000) / 3000).astype(np.float32)
        write_image(tmp_path / "a.dcm", Picture(unit, "float", (-1000.0, 2000.0), valid=valid))
        data = self.pydicom.dcmread(tmp_path / "a.dcm")
        assert np.array_equal(data.pixel_array == data.PixelPaddingValue, ~valid)
        found = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert np.abs(found - values[..., 0])[valid].max() < 0.03

    def test_a_part_lies_where_its_pixels_did(self, tmp_path):
        dicom(tmp_path / "ct.dcm", **PLACED)
        whole = read_image(tmp_path / "ct.dcm")
        write_image(tmp_path / "part.dcm", whole.part(slice(4, 12), slice(7, 20)))
        part = read_image(tmp_path / "part.dcm", whole.span)
        np.testing.assert_allclose(part.place.matrix @ (2, 3, 1), whole.place.matrix @ (9, 7, 1), atol=1e-9)

    def test_colours_as_floats_are_refused_before_anything_is_computed(self, tmp_path):
        with pytest.raises(OutputError, match="colours as floats; pass `depth=8`"):
            check_output(tmp_path / "a.dcm", "float", 3)


class TestNifti:
    @pytest.fixture(autouse=True)
    def _needs(self):
        self.nibabel = pytest.importorskip("nibabel")

    def volume(self, path, affine, dtype=np.int16):
        values = np.random.default_rng(0).integers(0, 900, (14, 11, 5)).astype(dtype)
        image = self.nibabel.Nifti1Image(values, affine)
        image.set_sform(affine, 4)
        self.nibabel.save(image, path)
        return values

    @pytest.mark.parametrize("name", ["out.nii.gz", "out.nii"])
    def test_a_slice_has_the_affine_of_its_volume(self, name, tmp_path):
        angle = np.deg2rad(12)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn * (1.5, 2.0, 3.0), (-20, 33, 7)
        values = self.volume(tmp_path / "mr.nii.gz", affine)
        with pytest.warns(FusionWarning, match="black is .* white is"):
            fuse(f"{tmp_path}/mr.nii.gz#3", f"{tmp_path}/mr.nii.gz#3", **PLANE).save(tmp_path / name)
        image = self.nibabel.load(tmp_path / name)
        expected = affine.copy()
        expected[:3, 3] = (affine @ (0, 0, 2, 1))[:3]
        np.testing.assert_allclose(image.affine, expected, atol=1e-5)
        assert (int(image.header["sform_code"]), image.header.get_xyzt_units()[0]) == (4, "mm")
        np.testing.assert_allclose(image.get_fdata()[..., 0], values[:, :, 2], atol=0.01)
        assert (gzip.decompress if name.endswith("gz") else bytes)((tmp_path / name).read_bytes())[344:348] == b"n+1\0"
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["mr.nii.gz", name])

    def test_a_slice_of_dicom_lies_at_the_same_millimetres(self, tmp_path):
        pytest.importorskip("pydicom")
        expected = dicom(tmp_path / "ct.dcm", **PLACED)[..., 0].clip(-160, 240)
        source = read_image(tmp_path / "ct.dcm")
        write_image(tmp_path / "ct.nii.gz", source)
        image = self.nibabel.load(tmp_path / "ct.nii.gz")
        assert int(image.header["sform_code"]) == 1
        values, inverse = image.get_fdata(), np.linalg.inv(image.affine)
        for x, y in ((0, 0), (39, 0), (0, 23), (17, 9)):
            right, front, top = source.place.matrix @ (x, y, 1) * (-1, -1, 1)
            at = tuple(np.rint(inverse @ (right, front, top, 1)).astype(int)[:3])
            np.testing.assert_allclose(inverse @ (right, front, top, 1), (*at, 1), atol=1e-4)
            assert abs(values[at] - expected[y, x]) < 0.01
        assert abs(np.linalg.norm(image.affine[:3, np.argmin(image.shape)]) - 3) < 1e-6

    def test_colours_and_gaps(self, tmp_path):
        colours = ramp(np.uint8, 250, 3)
        write_image(tmp_path / "a.nii", colours)
        assert np.array_equal(np.asarray(read_image(tmp_path / "a.nii")), colours)
        with pytest.raises(OutputError, match="colours of 8 bits alone"):
            check_output(tmp_path / "a.nii.gz", "16", 3)
        unit = ramp(np.float32, 1)
        write_image(tmp_path / "b.nii", Picture(unit, "float", (0.0, 40.0), valid=unit[..., 0] > 0.2))
        stored = self.nibabel.load(tmp_path / "b.nii").get_fdata()
        assert np.isnan(stored).sum() == (unit <= 0.2).sum()


class TestExr:
    @pytest.fixture(autouse=True)
    def _needs(self):
        self.OpenEXR = pytest.importorskip("OpenEXR")

    def test_floats_beyond_1_and_windows_are_kept(self, tmp_path):
        values = ramp(np.float32, 6.0, 3)
        place = Place("an EXR display window of 200x100", np.array([[1.0, 0, 30], [0, 1, -8]]))
        write_image(tmp_path / "a.exr", Picture(values / np.float32(8), "float", (0.0, 8.0), place=place))
        with self.OpenEXR.File(str(tmp_path / "a.exr")) as file:
            header = file.header()
            assert [tuple(map(int, corner)) for corner in header["dataWindow"]] == [(30, -8), (69, 15)]
            assert [tuple(map(int, corner)) for corner in header["displayWindow"]] == [(0, 0), (199, 99)]
            np.testing.assert_allclose(file.channels()["RGB"].pixels, values, atol=1e-6)
        again = read_image(tmp_path / "a.exr").place
        assert again.space == place.space
        np.testing.assert_allclose(again.matrix, place.matrix)

    def test_8_bits_become_floats_by_themselves_and_the_depth_8_is_refused(self, tmp_path):
        values = ramp(np.uint8, 255)
        assert depth_in(tmp_path / "a.exr", "8") == "float"
        write_image(tmp_path / "a.exr", values)
        with self.OpenEXR.File(str(tmp_path / "a.exr")) as file:
            np.testing.assert_allclose(file.channels()["Y"].pixels, values[..., 0] / 255, atol=1e-6)
        with pytest.raises(OutputError, match=r"\.exr cannot hold 8-bit images.*`depth=float`"):
            write_image(tmp_path / "b.exr", values, 8)

    def test_alpha_is_premultiplied_as_the_format_wants(self, tmp_path):
        values, alpha = ramp(np.float32, 1.0, 3), ramp(np.float32, 1.0)[..., 0]
        write_image(tmp_path / "a.exr", Picture(values, "float", (0.0, 1.0), alpha))
        with self.OpenEXR.File(str(tmp_path / "a.exr")) as file:
            stored = file.channels()["RGBA"].pixels
        np.testing.assert_allclose(stored[..., :3], values * alpha[..., None], atol=1e-6)
        again = read_image(tmp_path / "a.exr")
        np.testing.assert_allclose(again.alpha, alpha, atol=1e-6)
        np.testing.assert_allclose(again.pixels[alpha > 0.01], values[alpha > 0.01], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*black is .* white is")
class TestGeoTiff:
    def written(self, folder, values, nodata, depth=None, **more):
        """The result of a map and itself: values, tags, and what `read_image` makes of it."""
        tags = [*GEO, *([(42113, "s", 0, nodata, True)] if nodata else [])]
        tifffile.imwrite(folder / "map.tif", values, extratags=tags, metadata=None)
        result = fuse(folder / "map.tif", folder / "map.tif", **PLANE)
        result.save(folder / "out.tif", depth, **more)
        with tifffile.TiffFile(folder / "out.tif") as file:
            tags = {tag.code: tag.value for tag in file.pages[0].tags}
            return file.pages[0].asarray(), tags, read_image(folder / "out.tif")

    def test_place_and_coordinate_system_are_kept(self, tmp_path):
        _, tags, again = self.written(tmp_path, ramp(np.uint16, 60_000)[..., 0], None)
        assert [tuple(tags[code]) for code, *_ in GEO] == [value for *_, value, _ in GEO]
        assert 42113 not in tags
        assert again.metadata.geo

    @pytest.mark.parametrize(
        ("dtype", "top", "nodata", "depth", "tag"),
        [
            (np.float32, 320.0, -9999.0, None, "-9999"),
            (np.uint16, 60_000, 65_535, None, "65535"),
            (np.uint16, 60_000, 65_535, 8, "0"),
            (np.uint8, 250, 0, None, "0"),
            (np.float32, 320.0, -9999.0, 16, "0"),
            (np.uint8, 250, 255, "float", "nan"),
        ],
    )
    def test_nodata_says_what_is_written(self, dtype, top, nodata, depth, tag, tmp_path):
        values = ramp(dtype, top)[..., 0]
        values[5:9, 7:20] = nodata
        gaps = values == nodata
        stored, tags, again = self.written(tmp_path, values, f"{nodata:g}" if nodata != 65_535 else "65535", depth)
        assert tags[42113].strip("\0") == tag
        meant = np.isnan(stored) if tag == "nan" else stored == float(tag)
        assert np.array_equal(meant, gaps)
        assert np.array_equal(~again.valid, gaps)

    def test_without_gaps_a_tag_of_another_depth_is_left_out(self, tmp_path):
        values = ramp(np.uint16, 60_000)[..., 0]
        assert 42113 not in self.written(tmp_path, values, "65535", 8)[1]
        assert self.written(tmp_path, values, "65535")[1][42113] == "65535"

    def test_rasterio_finds_the_same(self, tmp_path):
        rasterio = pytest.importorskip("rasterio")
        values = ramp(np.float32, 320.0)[..., 0]
        values[3:6, 3:9] = -9999
        self.written(tmp_path, values, "-9999")
        with rasterio.open(tmp_path / "out.tif") as file:
            assert file.crs.to_epsg() == 32632
            assert file.nodata == -9999
            assert file.xy(0, 0) == (500_001.0, 3_999_999.0)
            np.testing.assert_allclose(file.read(1), values, atol=1e-3)

    def test_black_is_not_taken_for_a_gap(self, tmp_path):
        picture = Picture(np.zeros((4, 5, 1), np.uint8), "8", (0.0, 255.0), valid=np.eye(4, 5) == 0, nodata=0.0)
        write_image(tmp_path / "a.tif", picture)
        assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), (np.eye(4, 5) == 0).astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.nii.gz", ".nii.gz"), ("A.NII.GZ", ".nii.gz"), ("a.b.tif", ".tif"), ("a.mp4", ".mp4"), ("a", "")],
)
def test_extensions_of_two_parts_are_known(name, extension, tmp_path):
    assert extension_of(tmp_path / name) == extension


def test_what_other_formats_cannot_hold_is_said(tmp_path):
    pytest.importorskip("nibabel")
    nifti(tmp_path / "a.nii")
    picture = replace(read_image(tmp_path / "a.nii#1"), icc=b"0" * 16 + b"GRAY")
    assert write_image(tmp_path / "b.nii", picture) == [".nii holds no colour profile: it was left out"]
