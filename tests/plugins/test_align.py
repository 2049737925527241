"""The stage `align`, the warning without it, and transforms in files."""

import json

import numpy as np
import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.errors import InputError, OptionError, OutputError, SizeMismatch
from fusionkit.images import write_image
from fusionkit.images.transforms import read_transforms, save_transforms
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.registration import warp
from fusionkit.scenes import infrared_visible
from fusionkit_plugins.stages.align import Align
from harness import load_image, make, psnr, run_cli

PLAIN = {"prior": "average", "backbone": "identity", "device": "cpu"}
MOVE = torch.tensor([[1.0, 0.0, 8.0], [0.0, 1.0, -5.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def pair():
    """An infrared and a visible image, (1, 1 and 3, 192, 256)."""
    return [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in infrared_visible((192, 256), seed=4)]


@pytest.fixture(scope="module")
def misplaced(pair):
    return [warp(pair[0], MOVE)[0], pair[1]]


@pytest.fixture
def files(misplaced, tmp_path):
    for name, image in zip(("ir.png", "vis.png"), misplaced, strict=True):
        write_image(tmp_path / name, image[0].permute(1, 2, 0).numpy(), "8")
    return tmp_path / "ir.png", tmp_path / "vis.png"


def test_a_misplaced_source_is_moved_and_what_is_outside_is_said(pair, misplaced):
    sources = Sources.of(misplaced, reference=1, names=("ir", "vis"))
    moved = make(Align, model="translation").before(sources)
    inner = (..., slice(12, -12), slice(12, -12))
    assert psnr(moved.images[0][inner], pair[0][inner]) > psnr(misplaced[0][inner], pair[0][inner]) + 6
    assert moved.images[1] is sources.images[1]
    assert sources.report.notes[0].startswith("ir aligned to vis (translation): it was 9.")
    assert "of the picture lies outside ir and shows vis alone" in sources.report.notes[1]
    (row,) = sources.report.records["aligned"]
    assert (row["source"], row["reference"], row["size"]) == (1, 2, [256, 192])
    assert row["after"] > row["before"]
    assert row["outside"] == pytest.approx(1 - 248 * 187 / (256 * 192), abs=0.01)


def test_what_lies_right_or_nowhere_stays_bit_by_bit(pair, generator):
    sources = Sources.of(pair, reference=1)
    assert make(Align, model="translation").before(sources) is sources
    noise = torch.rand(1, 1, 192, 256, generator=generator)
    sources = Sources.of([noise, pair[1]], reference=1, names=("noise", "vis"))
    assert make(Align).before(sources) is sources
    assert sources.report.notes == ["noise: not aligned: no confident match with vis"]


def test_a_grey_source_in_three_channels_stays_grey(misplaced):
    sources = Sources.of([misplaced[0].expand(-1, 3, -1, -1), misplaced[1]], reference=1)
    moved = make(Align, model="translation").before(sources).images[0]
    assert torch.allclose(moved[:, 0], moved[:, 2], atol=1e-6)


def test_each_image_of_a_batch_by_itself(pair, misplaced):
    both = [torch.cat([a, b]) for a, b in zip(pair, misplaced, strict=True)]
    moved = make(Align, model="translation").before(Sources.of(both, reference=1)).images[0]
    assert torch.equal(moved[:1], pair[0])
    alone = make(Align, model="translation").before(Sources.of(misplaced, reference=1)).images[0]
    assert torch.allclose(moved[1:], alone, atol=1e-5)


def test_the_warning_comes_without_being_asked_for(pair, misplaced):
    notes = Pipeline(**PLAIN).run(misplaced, names=("ir", "vis")).notes
    assert "ir looks 9 px off vis (-8 to the right, +5 down); `align=affine` moves it there" in notes
    for images, align in ((pair, "check"), (misplaced, "none"), (misplaced, "translation")):
        assert not any(
            "px off vis (" in n for n in Pipeline(align=align, **PLAIN).run(images, names=("ir", "vis")).notes
        )


def test_sizes_are_made_one_first(pair, misplaced):
    small = torch.nn.functional.interpolate(misplaced[0], (96, 128), mode="area")
    with pytest.raises(SizeMismatch, match="`resize=reference` resizes them first"):
        Pipeline(align="affine", **PLAIN).run([small, pair[1]])
    fused = Pipeline(align="translation", resize="reference", **PLAIN).run([small, pair[1]])
    assert fused.image.shape == pair[1].shape
    assert fused.found["aligned"][0]["pixels_off"] == pytest.approx(9.4, abs=1)


def test_a_rig_is_aligned_once(files, tmp_path):
    transform = tmp_path / "rig.json"
    done = run_cli("run", "--align", "translation", "--save-transform", transform, *files, "-o", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert "aligned to vis.png (translation)" in done.stderr
    done = run_cli("run", "--transform", transform, *files, "-o", tmp_path / "b.png")
    assert f"ir.png moved as {transform} says" in done.stderr
    assert np.array_equal(load_image(tmp_path / "a.png"), load_image(tmp_path / "b.png"))
    row = json.loads((tmp_path / "a.manifest.jsonl").read_text())
    assert row["aligned"][0]["matrix"] == json.loads(transform.read_text())["transforms"][0]["matrix"]
    done = run_cli("run", "--align", "rigid", "--save-transform", transform, *files, "-o", tmp_path / "c.png")
    assert (done.returncode, (tmp_path / "c.png").exists()) == (2, False)
    assert "exists already; --force overwrites it" in done.stderr
    done = run_cli("run", "--save-transform", tmp_path / "none.json", *files, "-o", tmp_path / "d.png")
    assert (done.returncode, (tmp_path / "d.png").exists()) == (2, False)
    assert "has no effect: nothing is aligned; add --align affine" in done.stderr
    still, found = (files[1], files[1]), tmp_path / "none.json"
    done = run_cli("run", "--align", "translation", "--save-transform", found, *still, "-o", tmp_path / "e.png")
    assert (done.returncode, (tmp_path / "e.png").exists()) == (2, False)
    assert "no source was moved" in done.stderr


def test_transforms_fit_other_resolutions_but_no_other_shape_or_reference(tmp_path):
    path = tmp_path / "t.json"
    row = {"source": 1, "reference": 2, "size": [200, 100], "matrix": [[1.0, 0.0, 4.0], [0.0, 1.0, -2.0]]}
    save_transforms(path, [row, {**row, "source": 3, "matrix": None}])
    found = read_transforms(path)
    assert found.matrix(0, 1, (200, 400)) == [[1, 0, 8], [0, 1, -4]]
    assert found.matrix(2, 1, (100, 200)) is None
    with pytest.raises(InputError, match=r"found on images of 200x100, these are 300x200"):
        found.matrix(0, 1, (200, 300))
    with pytest.raises(InputError, match="name it with `reference=2`"):
        found.matrix(1, 0, (100, 200))
    with pytest.raises(OutputError, match="no source was moved"):
        save_transforms(path, [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"reference": 1}',
        '{"reference":1,"size":[2,2],"transforms":[{"source":1,"matrix":[[NaN,0,0],[0,1,0]]}]}',
    ],
)
def test_what_is_no_file_of_transforms_is_one_line(text, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no file of transforms") as error:
        read_transforms(path)
    assert "\n" not in str(error.value)
    with pytest.raises((InputError, OptionError), match=r"missing\.json"):
        Pipeline(transform=str(tmp_path / "missing.json"), **PLAIN)
