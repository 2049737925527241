"""`save_aligned`: frames as `align` moves them, as files."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from fusionkit import read_image
from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import job_of
from fusionkit.batch.run import fuse_files
from fusionkit.errors import OutputError
from fusionkit.images.transforms import matrices
from fusionkit.method.pipeline import Pipeline

SHIFTS = [(0, 0), (6, -9), (12, 5)]


def test_everything_that_follows_matrices_refuses_a_field_alike():
    rows = [{"source": 1, "matrix": None}, {"source": 3, "matrix": [[1, 0, 0], [0, 1, 0]]}]
    assert matrices(rows, "readings") == {3: rows[1]}
    with pytest.raises(OutputError, match=r"`save_aligned` follows matrices, .* moved by a field"):
        matrices([*rows, {"source": 2, "matrix": [[1, 0, 0], [0, 1, 0]], "field": {}}], "save_aligned")


@pytest.fixture
def files(tmp_path):
    paths = []
    for i, (y, x) in enumerate(SHIFTS):
        paths.append(tmp_path / f"f{i}.png")
        Image.fromarray(data.coffee()[80 + y : 320 + y, 140 + x : 460 + x]).save(paths[-1])
    return paths


def fuse(files, **options):
    pipeline = Pipeline(
        prior="average", backbone="identity", restore="none", device="cpu", align="handheld", reference=1,
        crop=options.pop("crop", "fill"),
    )  # fmt: skip
    return fuse_files(pipeline, job_of(files, files[0].parent / "fused.png"), FileOptions(**options))


def test_frames_show_what_the_reference_shows(files, tmp_path):
    fuse(files, save_aligned=str(tmp_path / "aligned"))
    reference = np.asarray(Image.open(files[0]).convert("RGB"), float)
    assert sorted(p.name for p in (tmp_path / "aligned").iterdir()) == ["f0.png", "f1.png", "f2.png"]
    for name in ("f0.png", "f1.png", "f2.png"):
        frame = np.asarray(Image.open(tmp_path / "aligned" / name).convert("RGBA"), float)
        inside = frame[..., 3] == 255
        assert inside.mean() > 0.85
        assert (name == "f0.png") == inside.all()
        assert np.abs(frame[..., :3] - reference)[inside].mean() < 2


def test_they_are_cut_as_the_result_is(files, tmp_path):
    outcome = fuse(files, crop="common", save_aligned=str(tmp_path / "aligned"))
    size = read_image(tmp_path / "fused.png").size
    assert size[0] < 320
    assert outcome.record["cut"][2] - outcome.record["cut"][0] == size[0]
    for i in range(3):
        assert read_image(tmp_path / "aligned" / f"f{i}.png").size == size


def test_files_are_not_overwritten(files, tmp_path):
    (tmp_path / "aligned").mkdir()
    (tmp_path / "aligned" / "f1.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        fuse(files, save_aligned=str(tmp_path / "aligned"))
    assert not (tmp_path / "fused.png").exists()
    fuse(files, save_aligned=str(tmp_path / "aligned"), force=True)
    assert (tmp_path / "aligned" / "f1.png").read_bytes()[:4] == b"\x89PNG"


def test_a_source_that_a_stage_has_resized_first_lies_on_the_reference_too(tmp_path):
    scene = data.camera()
    Image.fromarray(scene[100:340, 100:420]).resize((640, 480), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    Image.fromarray(scene[94:334, 108:428]).save(tmp_path / "b.png")
    pipeline = Pipeline(
        prior="average", backbone="identity", restore="none", device="cpu", align="affine", resize="reference"
    )
    job = job_of([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "fused.png")
    fuse_files(pipeline, job, FileOptions(save_aligned=str(tmp_path / "aligned")))
    moved, reference = (np.asarray(Image.open(tmp_path / "aligned" / f"{n}.png").convert("LA"), float) for n in "ab")
    inside = moved[..., 1] == 255
    assert inside.mean() > 0.9
    assert np.abs(moved - reference)[..., 0][inside].mean() < 3
