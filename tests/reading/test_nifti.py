"""NIfTI of several volumes, with gaps, colour, other units and axes; files that would fill the memory."""

import gzip
from importlib.resources import files

import nibabel
import numpy as np
import pytest

from fusionkit.errors import ImageReadError
from fusionkit.reading import count_pictures, read_image
from fusionkit_plugins.readers.nifti import NiftiReader

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("affine", [np.diag([-2, 3, 4, 1]), [[0, 2, 0, 5], [0, 0, -3, 1], [4, 0, 0, 2], [0, 0, 0, 1]]])
@pytest.mark.parametrize(("dtype", "slope"), [("<i2", None), (">i2", None), ("<i2", 0.37), ("<f8", None)])
def test_slices_of_all_volumes_in_canonical_axes(tmp_path, affine, dtype, slope):
    image = nibabel.Nifti1Image(RNG.integers(0, 900, (9, 7, 5, 3)).astype(dtype), np.array(affine, float))
    if slope:
        image.header.set_slope_inter(slope, 2.5)
    nibabel.save(image, tmp_path / "a.nii.gz")
    canonical = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz"))
    values = np.asarray(canonical.dataobj).astype(np.float32)
    stored = NiftiReader().read(tmp_path / "a.nii.gz", 10**6)
    count = values.shape[2]
    assert len(stored) == 3 * count
    for i, one in enumerate(stored):
        volume, k = divmod(i, count)
        assert one.name == f"volume {volume + 1}, slice {k + 1}"
        assert np.array_equal(one.values[..., 0], values[::-1, ::-1, k, volume].T)
    corner = canonical.affine @ (values.shape[0] - 1 - 2, values.shape[1] - 1 - 1, 1, 1)
    assert np.allclose(stored[1].place.matrix @ (2, 1, 1), corner[:3])


def test_nan_is_left_to_the_core_and_does_not_set_the_range(tmp_path):
    values = RNG.uniform(0, 500, (8, 9, 4)).astype(np.float32)
    values[:3], values[7, 8, 3] = np.nan, np.inf
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    stored = NiftiReader().read(tmp_path / "a.nii.gz", 10**6)[0]
    assert np.isnan(stored.values[:, -3:]).all()
    assert np.isfinite(stored.series).all()


def test_colour(tmp_path):
    values = np.zeros((4, 5, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    values["R"][1, 2, 1], values["B"] = 200, 7
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    pixels = read_image(tmp_path / "a.nii", picture=1).values
    assert pixels.dtype == np.uint8
    assert pixels[2, 2].tolist() == [200, 0, 7]
    assert (pixels[..., 2] == 7).all()


def test_units_and_spaces(tmp_path):
    for name, unit, code in (("a", "mm", 1), ("b", "micron", 2), ("c", "mm", 4), ("d", "mm", 0)):
        image = nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4) * (1000 if unit == "micron" else 1))
        image.header.set_xyzt_units(unit)
        image.set_sform(image.affine, code)
        image.set_qform(image.affine, code)
        nibabel.save(image, tmp_path / f"{name}.nii")
    a, b, c, d = (NiftiReader().read(tmp_path / f"{name}.nii", 10**6)[0].place for name in "abcd")
    assert a.space == b.space == "NIfTI patient coordinates"
    assert np.allclose(a.matrix, b.matrix)
    assert c.space == "NIfTI MNI 152"
    assert "states no coordinates" in d.space


def test_odd_headers_are_read_without_a_word(tmp_path, capfd):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4)), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[80:84] = np.float32(-1).tobytes()  # a voxel's size
    (tmp_path / "a.nii").write_bytes(data)
    assert len(NiftiReader().read(tmp_path / "a.nii", 10**6)) == 3
    assert capfd.readouterr() == ("", "")


def test_bombs_are_refused_by_their_header(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((3000, 3000, 3000))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(10_000)))
    with pytest.raises(ImageReadError, match="3000 pictures of 3000x3000 is over the limit"):
        read_image(tmp_path / "a.nii.gz", picture=0)
    header.set_data_shape((30, 30, 30))
    header.set_data_offset(2**33)
    header["magic"] = b"n+1"
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(10_000)))
    with pytest.raises(ImageReadError, match="its values begin after 8589934592 bytes"):
        read_image(tmp_path / "b.nii.gz", picture=0)


@pytest.mark.parametrize(
    "name",
    [
        *("anatomical.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii", "standard.nii.gz"),
        *("reoriented_anat_moved.nii", "resampled_anat_moved.nii"),
    ],
)
def test_real_files(name):
    path = files("nibabel") / "tests" / "data" / name
    if not path.is_file():
        pytest.skip("not in this nibabel's package")
    image = nibabel.load(path)
    assert count_pictures(path) == np.prod(image.shape[2:])
    first = NiftiReader().read(path, 10**8)[0]
    canonical = nibabel.as_closest_canonical(image)
    assert first.values.shape[1::-1] == canonical.shape[:2]
    assert np.isfinite(first.values).any()


def test_surfaces_are_no_images():
    path = files("nibabel") / "tests" / "data" / "row_major.dconn.nii"
    if not path.is_file():
        pytest.skip("not in this nibabel's package")
    with pytest.raises(ImageReadError, match="no grid of voxels"):
        read_image(path)


def test_values_are_read_when_a_slice_is_asked_for_and_let_go_with_the_file(tmp_path, monkeypatch):
    import weakref

    from fusionkit.reading import read as module

    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4)), tmp_path / "b.nii.gz")
    decoded = []
    real = NiftiReader._slices
    monkeypatch.setattr(NiftiReader, "_slices", lambda *given: decoded.append(1) or real(*given))
    with pytest.raises(ImageReadError, match="holds 3 pictures"):
        read_image(tmp_path / "a.nii.gz")
    assert not decoded
    kept = weakref.ref(module.open_pictures(tmp_path / "a.nii.gz"))
    read_image(tmp_path / "a.nii.gz", picture=0)
    read_image(tmp_path / "a.nii.gz", picture=1)
    assert len(decoded) == 1
    assert kept() is not None
    (tmp_path / "a.nii.gz").unlink()
    count_pictures(tmp_path / "b.nii.gz")
    assert kept() is None
