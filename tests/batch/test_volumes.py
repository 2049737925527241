"""Volumes fused slice by slice into one file."""

import numpy as np
import pytest

from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import job_of, plan_folders
from fusionkit.batch.run import fuse_files
from fusionkit.errors import FusionkitError, NoEffect
from fusionkit.method.pipeline import Pipeline

nibabel = pytest.importorskip("nibabel")

AFFINE = np.array([[0.0, -2, 0, 20], [1.5, 0, 0, -33], [0, 0, 3, 7], [0, 0, 0, 1]])
AVERAGE = {"prior": "average", "backbone": "identity", "align": "none", "task": "medical"}


def volume(path, values, affine=AFFINE, code=1):
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, code)
    nibabel.save(image, path)
    return values


def ramp(shape, dtype=np.int16, top=900):
    return np.random.default_rng(len(shape)).uniform(0, top, shape).astype(dtype)


def fused(folder, name="out.nii.gz", sources=("a.nii.gz", "b.nii.gz"), files=None, **method):
    job = job_of([folder / source for source in sources], folder / name)
    return fuse_files(Pipeline(**{**AVERAGE, **method}), job, FileOptions(**(files or {})))


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii"])
def test_a_volume_of_volumes_has_their_grid_and_values(name, tmp_path):
    a = volume(tmp_path / "a.nii.gz", ramp((24, 20, 9)))
    b = volume(tmp_path / "b.nii.gz", a[::-1, ::-1].copy())
    outcome = fused(tmp_path, name)
    found = nibabel.load(tmp_path / name)
    same = nibabel.as_closest_canonical(nibabel.load(tmp_path / "b.nii.gz"))
    np.testing.assert_allclose(found.affine, same.affine, atol=1e-5)
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image((a.astype(float) + b) / 2, AFFINE)).get_fdata()
    assert np.abs(found.get_fdata() - expected).max() < (high - low) / 1000
    assert outcome.notes[0] == f"9 slices fused into {name}"
    assert len(outcome.notes) < 9
    assert outcome.record["output"]["size"] == [*found.shape[:2], 9]


def test_slices_are_matched_by_position_and_cut_to_what_both_show(tmp_path):
    y, x, z = np.mgrid[:24, :20, :10]
    volume(tmp_path / "a.nii.gz", (10.0 * z + x).astype(np.float32), np.eye(4))
    lower = np.diag([1.0, 1, 2, 1])
    lower[2, 3] = -4
    volume(tmp_path / "b.nii.gz", (10.0 * (2 * z - 4) + x).astype(np.float32), lower)
    outcome = fused(tmp_path, files={"range": "0,200"}, prior="average")
    found = nibabel.load(tmp_path / "out.nii.gz")
    assert found.shape == (24, 20, 5)  # from 0 to 8 mm; b alone lies below, and above 9
    assert found.affine[2, 3] == 0
    np.testing.assert_allclose(found.get_fdata(), (10.0 * (2 * z - 4) + x)[..., 2:7], atol=0.05)
    assert any("lie where other sources have none" in note for note in outcome.notes)


def test_series_in_time_keep_their_fourth_axis(tmp_path):
    a = volume(tmp_path / "a.nii.gz", ramp((24, 20, 3, 2)), np.eye(4))
    volume(tmp_path / "b.nii.gz", a, np.eye(4))
    fused(tmp_path)
    found = nibabel.load(tmp_path / "out.nii.gz")
    assert found.shape == a.shape
    assert np.abs(found.get_fdata() - a).max() < 0.05


def test_colour_over_grey_and_16_bits(tmp_path):
    volume(tmp_path / "a.nii.gz", ramp((24, 20, 3), np.uint8, 250), np.eye(4))
    colours = np.zeros((24, 20, 3), [(name, np.uint8) for name in "RGB"])
    colours["R"], colours["G"] = 200, 90
    colours[:, :, 0] = (0, 0, 0)  # a slice without colour changes neither reference nor type
    volume(tmp_path / "b.nii.gz", colours, np.eye(4))
    fused(tmp_path)
    assert nibabel.load(tmp_path / "out.nii.gz").get_data_dtype().names == ("R", "G", "B")
    volume(tmp_path / "b.nii.gz", ramp((24, 20, 3), np.uint16, 60_000), np.eye(4))
    fused(tmp_path, "deep.nii.gz")
    assert nibabel.load(tmp_path / "deep.nii.gz").get_data_dtype() == np.uint16


def test_dicom_of_several_frames_becomes_a_volume(tmp_path):
    pytest.importorskip("pydicom")
    from example_files import dicom

    values = np.arange(4 * 24 * 40).reshape(4, 24, 40).astype(np.uint16) % 3000
    dicom(tmp_path / "a.dcm", values)
    dicom(tmp_path / "b.dcm", values)
    fused(tmp_path, sources=("a.dcm", "b.dcm"))
    assert nibabel.load(tmp_path / "out.nii.gz").shape == (40, 24, 4)


def test_what_cannot_be_is_refused(tmp_path):
    volume(tmp_path / "a.nii.gz", ramp((24, 20, 3)))
    volume(tmp_path / "b.nii.gz", ramp((24, 20, 4)), code=4)
    with pytest.raises(FusionkitError, match=r"holds 4 pictures, .* no common space"):
        fused(tmp_path)
    with pytest.raises(FusionkitError, match="name one as"):
        fused(tmp_path, "out.png")
    volume(tmp_path / "b.nii.gz", ramp((24, 20, 3)))
    with pytest.raises(NoEffect, match="`save_transform` is for one set"):
        fused(tmp_path, files={"save_transform": str(tmp_path / "t.json")})
    assert {path.name for path in tmp_path.iterdir()} == {"a.nii.gz", "b.nii.gz"}


def test_folders_of_volumes_have_a_file_a_slice(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        volume(tmp_path / name / "p.nii.gz", ramp((24, 20, 3)))
    plan = plan_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out", ".nii.gz")
    assert [job.output.name for job in plan.jobs] == [f"p_000{k}.nii.gz" for k in (1, 2, 3)]
    few = plan_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out", ".nii.gz", limit=1)
    assert few.jobs == plan.jobs
