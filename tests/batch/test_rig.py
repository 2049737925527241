"""`fusionkit align fit`: one transform from many pairs, and runs by it."""

import json
import math

import numpy as np
import pytest
import torch

from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import plan_folders
from fusionkit.batch.rig import RigOptions, fit_rig
from fusionkit.errors import InputError
from fusionkit.images.transforms import about_corner, read_transforms
from fusionkit.numerics.homography import warp
from fusionkit.scenes import infrared_visible
from fusionkit.writing import write_image
from harness import run_cli

SIZE, GIVEN = (192, 256), (120, 160)


def truth(right=5.0):
    """A narrower, turned thermal camera: from the reference's centre to its own."""
    scale, turn = 160 / 256 / 0.75, math.radians(2)
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    return torch.tensor([[cos, -sin, right], [sin, cos, -4.0], [0, 0, 1]], dtype=torch.float64)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """Folders ir and vis of five pairs; the source of the fourth lies 12 px elsewhere, the fifth shows nothing."""
    folder = tmp_path_factory.mktemp("rig")
    for k in range(5):
        ir, vis = (torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in infrared_visible(SIZE, seed=k))
        small = warp(ir, truth(5.0 + 10 * (k == 3)).inverse(), GIVEN)[0]
        small = torch.full_like(small, 0.5) if k == 4 else small
        for name, image, depth in (("ir", small, "16"), ("vis", vis, "8")):
            (folder / name).mkdir(exist_ok=True)
            write_image(folder / name / f"{k}.png", image[0].permute(1, 2, 0).numpy(), depth)
    return folder


def test_a_rig_is_fitted_and_every_pair_runs_by_it(rig, tmp_path):
    done = run_cli("align", "fit", rig / "ir", rig / "vis", "-o", tmp_path / "rig.json", "--fov", 0.75)
    assert done.returncode == 0, done.stderr
    assert "sees 0.75 of its field of view" in done.stdout
    assert "of 4 of 5 pairs with a sure match" in done.stdout
    assert "1 of 4 pairs disagree with the rig by more than 5 px: 3 (" in done.stdout
    found = read_transforms(tmp_path / "rig.json")
    corners = np.array([[0, 255, 255, 0], [0, 0, 191, 191], [1, 1, 1, 1]])
    own, wanted = (
        np.array(m) @ corners for m in (found.transforms[0].matrix, about_corner(truth().numpy(), SIZE, GIVEN))
    )
    assert np.linalg.norm((own / own[2] - wanted)[:2], axis=0).max() < 1.0
    fit = found.transforms[0].fit
    assert (fit["pairs"], fit["matched"], list(fit["disagree"])) == (5, 4, ["3"])
    again = run_cli("align", "fit", rig / "ir", rig / "vis", "-o", tmp_path / "rig.json")
    assert again.returncode == 2
    assert "rig.json" in again.stderr
    out = tmp_path / "out"
    plain = ("--prior", "average", "--backbone", "identity", "--transform", tmp_path / "rig.json")
    done = run_cli("run", "--pairs", rig / "ir", rig / "vis", *plain, "-o", out)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert sum("aligned" in row for row in rows) == 5


def test_too_few_sure_pairs_are_refused(rig, tmp_path):
    (tmp_path / "ir").mkdir()
    for k in (0, 4):
        (tmp_path / "ir" / f"{k}.png").write_bytes((rig / "ir" / f"{k}.png").read_bytes())
    done = run_cli("align", "fit", tmp_path / "ir", rig / "vis", "-o", tmp_path / "rig.json", "--fov", "0.75")
    assert done.returncode == 2
    (line,) = [text for text in done.stderr.splitlines() if "error" in text]
    assert "source 1: 1 of 2 pairs have a sure match, a rig needs 3" in line
    assert not (tmp_path / "rig.json").exists()


def test_pairs_that_agree_on_nothing_are_refused(tmp_path):
    for k, right in enumerate((-24.0, 0.0, 24.0)):
        ir, vis = (torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in infrared_visible(SIZE, seed=k))
        moved = warp(ir, torch.tensor([[1, 0, right], [0, 1, 0], [0, 0, 1]], dtype=torch.float64))[0]
        for name, image in (("ir", moved), ("vis", vis)):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(tmp_path / name / f"{k}.png", image[0].permute(1, 2, 0).numpy(), "8")
    plan = plan_folders([tmp_path / "ir", tmp_path / "vis"], tmp_path / "rig.json")
    with pytest.raises(InputError, match="source 1: the pairs agree on no one transform: 2 of 3 lie more than 5 px"):
        fit_rig(plan.jobs, RigOptions("translation"), FileOptions())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--model", "bent"), "--model bent: expected one of translation, rigid, affine"),
        (("--fov", 1, "--fov", 1, "--fov", 1), "3 fields of view for 2 sources"),
        (("--reference", 3), "--reference 3, but there are only 2 sources"),
        (("--bands", "1"), "--bands has no effect"),
    ],
)
def test_options_that_cannot_be_are_refused(rig, tmp_path, more, said):
    done = run_cli("align", "fit", rig / "ir", rig / "vis", "-o", tmp_path / "rig.json", *more)
    assert done.returncode == 2
    assert said in done.stderr
