"""Volumes and series fused by position: NIfTI and DICOM, other spacings, counts, orientations and spaces."""

import json

import nibabel
import numpy as np
import pytest
import tifffile
from pydicom.uid import generate_uid

from example_files import dicom, nifti
from fusionkit.batch.plan import plan_folders
from fusionkit.errors import InputError
from fusionkit.images.onto import onto
from fusionkit.reading import count_pictures, read_image
from fusionkit.reading.matching import match
from harness import run_cli

FAST = ("--prior", "average", "--backbone", "identity", "--align", "none", "--ext", "tif")


def head(x, y, z):
    """A smooth body, at positions in mm."""
    return 300 + 200 * np.sin(x / 23) * np.cos(y / 19) + 2 * z


def volume(path, shape, affine, code=1):
    """Write a NIfTI volume of the body."""
    path.parent.mkdir(exist_ok=True)
    index = np.stack([*np.mgrid[: shape[0], : shape[1], : shape[2]], np.ones(shape)])
    values = head(*np.tensordot(np.asarray(affine, float)[:3], index, 1)).astype(np.float32)
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nibabel.save(image, path)


def grid(x, y, z, origin=(0, 0, 0)):
    return np.array([[x, 0, 0, origin[0]], [0, y, 0, origin[1]], [0, 0, z, origin[2]], [0, 0, 0, 1]], float)


def series(folder, count, spacing=2.0, z=0.0, frame="1.2.3", names=None, size=(24, 40), pixel=2.0, **fields):
    """Write single slices of the body under shuffled names; returns the positions in the order of the names."""
    folder.mkdir()
    uid, order = generate_uid(), np.random.default_rng(count).permutation(count)
    y, x = np.mgrid[: size[0], : size[1]] * pixel
    for number, k in enumerate(order):
        at = z + spacing * k
        dicom(
            folder / f"{names or 'IM'}{number:03d}.dcm",
            np.rint(head(x, y, at)).astype(np.uint16),
            RescaleSlope=None,
            RescaleIntercept=None,
            WindowCenter=None,
            WindowWidth=None,
            SeriesInstanceUID=uid,
            FrameOfReferenceUID=frame,
            ImagePositionPatient=[0, 0, at],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[pixel, pixel],
            SliceThickness=spacing,
            **fields,
        )
    return z + spacing * order


class TestVolumes:
    def test_slices_of_other_counts_and_spacing_are_matched_by_position(self, tmp_path):
        volume(tmp_path / "ct" / "p.nii.gz", (40, 30, 20), grid(4, 4, 1, (0, 0, 10)))
        volume(tmp_path / "pet" / "p.nii.gz", (40, 30, 12), grid(4, 4, 3, (0, 0, 10)))
        out = tmp_path / "out"
        fast = (*FAST, "--range", "0,700", "--pairs", tmp_path / "ct", tmp_path / "pet")
        done = run_cli("run", *fast, "-o", out)
        assert done.returncode == 0, done.stderr
        assert [p.name for p in sorted(out.glob("*.tif"))] == [f"p_{k:04d}.tif" for k in range(1, 8)]
        assert "5 of 12 slices" in done.stderr
        assert "left out" in done.stderr
        for k in range(7):
            x, y = np.meshgrid(4.0 * np.arange(39, -1, -1), 4.0 * np.arange(29, -1, -1))
            fused = tifffile.imread(out / f"p_{k + 1:04d}.tif")
            assert np.allclose(fused, head(x, y, 10 + 3 * k), atol=1)
        first = run_cli("run", *fast, "--reference", "1", "-o", tmp_path / "b")
        assert first.returncode == 0, first.stderr
        assert len(list((tmp_path / "b").glob("*.tif"))) == 20
        assert "resampled to it by position" in first.stderr
        rows = [json.loads(line) for line in (tmp_path / "b" / "manifest.jsonl").read_text().splitlines()]
        placed = {row["key"]: row.get("placed") for row in rows if "output" in row}
        assert placed["p_0001"] is None  # on a slice of the other
        assert placed["p_0002"][0]["space"] == "NIfTI patient coordinates"
        fused = tifffile.imread(tmp_path / "b" / "p_0002.tif")
        assert np.allclose(fused, head(x, y, 11), atol=1.5)

    def test_an_oblique_finer_volume_is_sampled_where_the_reference_lies(self, tmp_path):
        angle = np.deg2rad(20)
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        volume(tmp_path / "a.nii", (60, 90, 90), turn @ grid(2, 2, 2, (-20, -40, -40)))
        volume(tmp_path / "b.nii", (20, 20, 9), grid(3, 3, 4, (5, 5, 5)))
        other, main = read_image(tmp_path / "a.nii", picture=45), read_image(tmp_path / "b.nii", picture=4)
        (moved, _), (placed,) = onto([other, main], 1)
        low, high = moved.span
        assert moved.valid is None
        assert moved.size == main.size
        expected = main.pixels * (main.span[1] - main.span[0]) + main.span[0]
        assert np.abs(moved.pixels * (high - low) + low - expected).max() < 3
        assert "a.nii (slice 46) lies on another grid" in placed.note

    def test_beyond_the_field_of_view_is_no_data(self, tmp_path):
        volume(tmp_path / "a.nii", (20, 20, 5), grid(2, 2, 2))
        volume(tmp_path / "b.nii", (30, 20, 5), grid(2, 2, 2, (0, 0, 1)))
        (moved, _), (placed,) = onto([read_image(tmp_path / f"{n}.nii", picture=1) for n in "ab"], 1)
        assert moved.valid.mean() == pytest.approx(2 / 3)
        assert moved.valid[:, -20:].all()  # x runs to the left
        assert placed.row["valid"] == pytest.approx(2 / 3, abs=1e-3)

    def test_without_a_common_space_numbers_are_said_or_refused(self, tmp_path):
        volume(tmp_path / "a" / "p.nii", (20, 20, 5), grid(2, 2, 2), code=1)
        volume(tmp_path / "b" / "p.nii", (20, 20, 5), grid(2, 2, 2), code=4)
        volume(tmp_path / "c" / "p.nii", (20, 20, 5), grid(2, 2, 3), code=4)
        volume(tmp_path / "d" / "p.nii", (20, 20, 6), grid(2, 2, 2), code=4)
        done = run_cli("run", *FAST, "--pairs", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
        assert done.returncode == 0
        assert "lies in NIfTI patient coordinates, b/p.nii (slice 1) in NIfTI MNI 152" in done.stderr
        for other, reason in (("c", "are 3 mm apart"), ("d", "holds 5 pictures, and they lie in no common space")):
            plan = plan_folders([tmp_path / "a", tmp_path / other], tmp_path / "out")
            assert len(plan.jobs) == 1
            assert reason in plan.jobs[0].refused
        done = run_cli("run", *FAST, "--pairs", tmp_path / "a", tmp_path / "c", "-o", tmp_path / "out2")
        assert done.returncode == 1
        assert "no common space" in done.stderr

    def test_a_missing_slice_is_no_data(self, tmp_path):
        series(tmp_path / "ct", 9)
        at = series(tmp_path / "mr", 9)
        for k in np.argsort(at)[3:6]:  # 6, 8 and 10 mm
            (tmp_path / "mr" / f"IM{k:03d}.dcm").unlink()
        found = match([tmp_path / "mr", tmp_path / "ct"])
        assert len(found.groups) == 6
        assert len(found.unmatched) == 3

    def test_no_common_slice_is_refused(self, tmp_path):
        volume(tmp_path / "a" / "p.nii", (20, 20, 5), grid(2, 2, 2))
        volume(tmp_path / "b" / "p.nii", (20, 20, 5), grid(2, 2, 2, (0, 0, 50)))
        (job,) = plan_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out").jobs
        assert "none of its slices lies where the others have any" in job.refused

    def test_two_slices_of_one_volume_are_fused_as_they_are_named(self, tmp_path):
        volume(tmp_path / "a.nii", (20, 20, 5), grid(2, 2, 2))
        pictures = [read_image(f"{tmp_path / 'a.nii'}#{number}") for number in (2, 4)]
        (same, _), placed = onto(pictures, 1)
        assert same is pictures[0]
        assert placed == []

    def test_several_volumes(self, tmp_path):
        """fMRI: numbers run over the volumes; each is matched with an anatomy, and several with as many."""
        for folder, count in (("one", 1), ("two", 2), ("three", 3)):
            (tmp_path / folder).mkdir()
            values = np.arange(24 * count).reshape(2, 3, 4, count, order="F").astype(np.int16)
            nifti(tmp_path / folder / "p.nii.gz", values)
        path = tmp_path / "three" / "p.nii.gz"
        assert count_pictures(path) == 12
        assert read_image(f"{path}#6").name == "p.nii.gz (volume 2, slice 2)"
        plan = plan_folders([tmp_path / "one", tmp_path / "three"], tmp_path / "out")
        assert [job.pictures for job in plan.jobs] == [(k % 4, k) for k in range(12)]
        (job,) = plan_folders([tmp_path / "three", tmp_path / "two"], tmp_path / "out").jobs
        assert "holds 3 volumes" in job.refused
        assert "#N" in job.refused


class TestSeries:
    def test_files_are_sorted_and_matched_by_position(self, tmp_path):
        positions = series(tmp_path / "ct", 9, spacing=2.0)
        series(tmp_path / "mr", 5, spacing=3.0, z=1.0, names="slice")
        found = match([tmp_path / "mr", tmp_path / "ct"])
        assert [g[1].name for g in found.groups] == [f"IM{np.argsort(positions)[k]:03d}.dcm" for k in range(8)]
        assert found.unmatched == [
            tmp_path / "ct" / f"IM{np.argsort(positions)[8]:03d}.dcm"
        ]  # at 16 mm; the other ends at 14.5
        done = run_cli(
            "run", *FAST, "--range", "0,800", "--pairs", tmp_path / "mr", tmp_path / "ct", "-o", tmp_path / "out"
        )
        assert done.returncode == 0, done.stderr
        assert "without a partner" in done.stderr
        y, x = np.mgrid[:24, :40] * 2.0
        for number, at in enumerate(positions):
            if at in (0, 16):  # beyond the centre of the other's outermost slice, or beyond its end
                continue
            fused = tifffile.imread(tmp_path / "out" / f"IM{number:03d}.tif")
            assert np.allclose(fused, head(x, y, at), atol=1.5)

    def test_another_pixel_size_and_field_of_view(self, tmp_path):
        series(tmp_path / "ct", 4)
        series(tmp_path / "pet", 3, spacing=4.0, pixel=4.0, size=(12, 20))
        done = run_cli(
            "run", *FAST, "--range", "0,800", "--pairs", tmp_path / "pet", tmp_path / "ct", "-o", tmp_path / "out"
        )
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "out").glob("*.tif"))) == 4
        for path in (tmp_path / "out").glob("*.tif"):
            assert tifffile.imread(path).shape == (24, 40)

    def test_other_series_in_a_folder_are_named(self, tmp_path):
        series(tmp_path / "ct", 4)
        series(tmp_path / "mr", 4)
        series(tmp_path / "scout", 2)
        for path in (tmp_path / "scout").iterdir():
            path.rename(tmp_path / "ct" / f"S{path.name}")
        found = match([tmp_path / "ct", tmp_path / "mr"])
        assert len(found.groups) == 4
        assert {p.name[:3] for p in found.unmatched} == {"SIM"}

    def test_several_patients_and_pictures_without_a_place(self, tmp_path):
        """Each frame of reference by itself; what has no place goes by name."""
        for k, (slices, frame) in enumerate(((4, "1.5.1"), (1, "1.5.2"))):
            for name in ("ct", "mr"):
                series(tmp_path / f"{name}{k}", slices, frame=frame, names=f"{name}{k}_")
                (tmp_path / name).mkdir(exist_ok=True)
                for path in (tmp_path / f"{name}{k}").iterdir():
                    path.rename(tmp_path / name / path.name)
        for name in ("ct", "mr"):
            dicom(tmp_path / name / "xray.dcm")
        found = match([tmp_path / "ct", tmp_path / "mr"])
        assert len(found.groups) == 6
        assert all(a.stem.removeprefix("ct") == b.stem.removeprefix("mr") for a, b in found.groups)
        assert found.unmatched == []

    def test_files_of_many_frames_of_reference_go_by_name(self, tmp_path):
        for k in range(3):
            for name in ("ct", "mr"):
                series(tmp_path / f"{name}{k}", 1, frame=f"1.{k}.{1 + (name == 'ct')}", z=k)
                (tmp_path / name).mkdir(exist_ok=True)
                (tmp_path / f"{name}{k}" / "IM000.dcm").rename(tmp_path / name / f"p{2 - k}.dcm")
        found = match([tmp_path / "ct", tmp_path / "mr"])
        assert [tuple(p.name for p in group) for group in found.groups] == [(f"p{k}.dcm",) * 2 for k in range(3)]

    def test_other_frames_of_reference_are_said_or_refused(self, tmp_path):
        positions = series(tmp_path / "ct", 4), series(tmp_path / "mr", 4, frame="1.2.4", z=100)
        found = match([tmp_path / "ct", tmp_path / "mr"])
        order = [[f"IM{k:03d}.dcm" for k in np.argsort(at)] for at in positions]
        assert [tuple(p.name for p in group) for group in found.groups] == list(zip(*order, strict=True))
        assert "their spaces differ" in found.notes[0]
        series(tmp_path / "few", 3, frame="1.2.4")
        with pytest.raises(InputError, match="no common space"):
            match([tmp_path / "ct", tmp_path / "few"])
        series(tmp_path / "away", 4, z=500)
        with pytest.raises(InputError, match="no slice lies where the other folders have any"):
            match([tmp_path / "ct", tmp_path / "away"])

    def test_several_pictures_at_one_position_are_matched_by_name(self, tmp_path):
        for name in ("ct", "mr"):
            series(tmp_path / name, 3, spacing=0.0)
        assert len(match([tmp_path / "ct", tmp_path / "mr"]).groups) == 3

    def test_single_slices_take_the_series_in_their_folder(self, tmp_path):
        first = np.argmin(series(tmp_path / "ct", 4, spacing=3.0))
        second = np.argsort(series(tmp_path / "mr", 4, spacing=5.0))[1]
        main = read_image(tmp_path / "mr" / f"IM{second:03d}.dcm", (0.0, 800.0))
        other = read_image(tmp_path / "ct" / f"IM{first:03d}.dcm", (0.0, 800.0))
        (_, moved), _ = onto([main, other], 0)
        assert np.abs(moved.values.astype(int) - main.values).max() <= 2
        for path in (tmp_path / "ct").iterdir():
            if path.name != f"IM{first:03d}.dcm":
                path.unlink()
        with pytest.raises(InputError, match="has no data where"):
            onto([main, other], 0)
