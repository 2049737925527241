"""Small targets: the observer finds them, and what became of them is told of methods whose answer is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fusionkit.errors import SizeMismatch
from fusionkit.images.picture import Picture
from fusionkit.survival import SIZES, Survival, survival
from fusionkit.writing import write_image
from harness import run_cli

PLAIN = {"backbone": "identity", "look": "faithful", "align": "none", "restore": "none"}


@pytest.fixture(scope="module")
def scene():
    """Two pictures of soft noise, as flat as a target needs."""
    rng = np.random.default_rng(0)
    images = [0.4 + 0.3 * gaussian_filter(rng.normal(size=(220, 260)), 3)[..., None] for _ in range(2)]
    return [
        Picture(image.astype(np.float32), "8", (0.0, 255.0), name=name)
        for name, image in zip("ab", images, strict=True)
    ]


def followed(scene, **options):
    methods = {
        name: {**PLAIN, "prior": {"name": prior, **more}}
        for name, prior, more in (
            ("first", "source", {"number": 1}),
            ("last", "source", {"number": 2}),
            ("average", "average", {}),
            ("max", "max", {}),
        )
    }
    return {one.name: one for one in survival([scene], methods, contrast=0.3, device="cpu", **options)}


def test_a_source_alone_keeps_its_own_targets_and_none_of_the_others(scene):
    found = followed(scene)
    for name, own in (("first", 0), ("last", 1)):
        kept = {source: [k for _, s, k in found[name].targets if s == source] for source in (0, 1)}
        assert len(kept[0]) > 10
        assert all(kept[own])
        assert np.mean(kept[1 - own]) < 0.1
        assert found[name].invented() == 0


def test_the_mean_of_both_keeps_more_than_a_source_and_less_noise_hides_fewer(scene):
    clean, noisy = followed(scene), followed(scene, noise=0.1)
    shares = {name: np.mean([k for *_, k in one.targets]) for name, one in clean.items()}
    assert shares["average"] > shares["first"] + 0.1
    assert len(noisy["max"].targets) < len(clean["max"].targets)


def test_the_smallest_width_kept_from_there_on():
    rows = [(size, 0, size >= 3 or i == 0) for size in range(len(SIZES)) for i in range(20)]
    smallest, low, high = Survival("x", rows).smallest()
    assert (smallest, low, high) == (SIZES[3], SIZES[3], SIZES[3])
    lost = [(size, source, kept and size != len(SIZES) - 1) for size, source, kept in rows]
    assert all(map(math.isnan, Survival("x", lost).smallest()))
    mixed = [(size, 0, i > 1 or size > 4) for size in range(len(SIZES)) for i in range(20)]
    found = Survival("x", mixed).smallest()
    assert found[0] == SIZES[0]
    assert found[1] <= found[0] <= found[2]
    assert found[2] > SIZES[0]


def test_a_method_that_draws_what_no_source_has_is_told(scene):
    dots = np.zeros((220, 260, 1), np.float32)
    dots[20::40, 20::40] = 0.4
    drawn = replace(scene[1], values=np.clip(scene[1].values + gaussian_filter(dots, (1.5, 1.5, 0)) * 14, 0, 1))
    from fusionkit.survival import _luma, _observed, _peaks, _plain

    result, *sources = (_observed(_luma(p), _luma(p))[3] for p in (drawn, *scene))
    peaks, plain = _peaks(result, SIZES[3]), [_plain(one, SIZES[3]) for one in sources]
    assert (peaks & plain[0] & plain[1]).sum() > 0.5 * peaks.sum() > 5


def test_other_sizes_are_refused_and_a_method_that_fails_is_told(scene):
    small = replace(scene[0], values=scene[0].values[:100])
    with pytest.raises(SizeMismatch, match="one size"):
        list(survival([[small, scene[1]]], {"x": PLAIN}, device="cpu"))
    (found,) = survival([scene], {"x": {**PLAIN, "prior": "no-such"}}, device="cpu")
    assert "no-such" in found.reason


def test_the_command(scene, tmp_path):
    for name, picture in zip(("ir", "vis"), scene, strict=True):
        write_image(tmp_path / name / "1.png", picture.values, "8")
    report = tmp_path / "report.json"
    options = ("--priors", "average,no-such", "--contrast", "0.3", "-o", report, "--align", "none")
    ran = run_cli("survival", tmp_path / "ir", tmp_path / "vis", *options)
    assert ran.returncode == 0, ran.stderr
    assert "average" in ran.stdout
    assert "skipped no-such" in ran.stderr
    rows = {row["method"]: row for row in json.loads(report.read_text())["methods"]}
    assert set(rows["average"]["kept"]) == {str(size) for size in SIZES}
    other = run_cli("survival", tmp_path / "ir", tmp_path / "vis", "--priors", "average", "--set", "prior=laplacian")
    assert other.returncode == 2
    assert "choose them by --priors" in other.stderr
    for priors, said in (("no-such", "no prior 'no-such'"), ("network,no-such", "prior network needs `file`")):
        refused = run_cli("survival", tmp_path / "ir", tmp_path / "vis", "--priors", priors, "-o", tmp_path / "x.json")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert said in refused.stderr
        assert not (tmp_path / "x.json").exists()
    mixed = run_cli("survival", tmp_path / "ir", tmp_path / "vis" / "1.png", "--priors", "average")
    assert (mixed.returncode, len(mixed.stderr.splitlines())) == (2, 1)
    assert "two folders or two pictures" in mixed.stderr
    two = run_cli("survival", tmp_path / "ir" / "1.png", tmp_path / "vis" / "1.png", "--limit", "10")
    assert (two.returncode, len(two.stderr.splitlines())) == (2, 1)
    assert "--limit 10 has no effect on two pictures" in two.stderr
    hidden = ("--priors", "average", "--contrast", "0.005", "--noise", "50", "--align", "none", "--restore", "none")
    silent = run_cli("survival", tmp_path / "ir", tmp_path / "vis", *hidden)
    assert silent.returncode == 2
    assert "raise --contrast" in silent.stderr
    assert "average" not in silent.stdout
