"""The evaluator: tables over the same pairs, intervals, tests, baselines, reports."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fusionkit.contracts import Metric
from fusionkit.errors import InputError, OptionError
from fusionkit.scenes import infrared_visible
from fusionkit.scoring.baselines import baseline_rows
from fusionkit.scoring.evaluation import Evaluation, evaluate
from fusionkit.scoring.metrics import load_metrics
from fusionkit.scoring.statistics import holm
from fusionkit.writing import write_image
from harness import run_cli


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Eight pairs, their plain average as method `mean`, and the average with noise as method `noisy`."""
    root = tmp_path_factory.mktemp("evaluation")
    paths = {name: root / name for name in ("ir", "vis", "mean", "noisy")}
    for path in paths.values():
        path.mkdir()
    rng = np.random.default_rng(0)
    for seed in range(8):
        ir, vis = (image.astype(np.float32) for image in infrared_visible((48, 64), seed=seed))
        grey = (vis @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        mean = (ir + grey) / 2
        noisy = np.clip(mean + 0.1 * rng.standard_normal(mean.shape), 0, 1).astype(np.float32)
        for name, image in (("ir", ir), ("vis", grey), ("mean", mean), ("noisy", noisy)):
            write_image(paths[name] / f"{seed}.png", image, "8")
    return paths


@pytest.fixture(scope="module")
def result(folders) -> Evaluation:
    methods = {name: folders[name] for name in ("mean", "noisy")}
    return evaluate(methods, [folders["ir"], folders["vis"]], load_metrics(None, None))


def test_every_method_has_every_value_over_the_same_pairs(result):
    assert len(result.pairs) == 8
    assert set(result.values) == {"mean", "noisy", *baseline_rows()}
    assert all(len(v) == 8 for table in result.values.values() for v in table.values())


def test_a_baseline_equals_the_same_image_given_as_a_method(result):
    for metric in result.metrics:
        ours, baseline = (result.summary(method, metric).mean for method in ("mean", "average"))
        assert ours == pytest.approx(baseline, rel=2e-2), metric  # the file is rounded once more
    assert result.summary("mean", "PSNR").mean > result.summary("noisy", "PSNR").mean


def test_undefined_values_are_counted_not_averaged(result):
    summary = result.summary("first source", "SCD")
    assert summary.defined == 0
    assert math.isnan(summary.mean)
    assert result.summary("mean", "SCD").defined == 8


def test_intervals_hold_the_mean_and_repeat(result):
    first, again = result.summary("mean", "EN"), result.summary("mean", "EN")
    assert first == again
    assert first.low < first.mean < first.high


def test_ranks_are_means_of_ranks_and_respect_the_direction():
    class Up(Metric):
        definition = "up"

        def __call__(self, fused, sources):
            return fused

    class Down(Up):
        higher_is_better = False

    values = {"a": {"u": [2.0], "d": [1.0]}, "b": {"u": [1.0], "d": [2.0]}, "c": {"u": [math.nan], "d": [2.0]}}
    table = Evaluation(["x"], {"u": Up(), "d": Down()}, values)
    assert table.mean_ranks() == {"a": 1.0, "b": (2 + 2.5) / 2, "c": (3 + 2.5) / 2}


def test_significance_is_paired_and_corrected(result):
    p = result.tests("mean")
    assert p["noisy"]["SSIM"] < 0.05  # eight of eight pairs: 0.0078 before correction for six others
    assert "mean" not in p
    raw = [0.01, 0.04, math.nan, 0.03]
    corrected = holm(raw)
    assert corrected[:2] == pytest.approx([0.03, 0.06])
    assert math.isnan(corrected[2])
    assert corrected[3] == pytest.approx(0.06)


def test_only_pairs_that_all_methods_have_count_and_the_rest_is_reported(folders, tmp_path):
    partial = tmp_path / "partial"
    partial.mkdir()
    for seed in (0, 1, 2):
        (partial / f"{seed}.png").write_bytes((folders["mean"] / f"{seed}.png").read_bytes())
    write_image(partial / "2.png", np.zeros((10, 10, 1), np.float32), "8")
    (partial / "1.png").write_bytes(b"broken")
    methods = {"mean": folders["mean"], "partial": partial}
    table = evaluate(methods, [folders["ir"], folders["vis"]], load_metrics(["EN"], None), baselines=False)
    assert table.pairs == ["0"]
    assert any("sizes of result and sources differ (10x10" in f for f in table.failures)
    assert any(f.startswith("1: ") for f in table.failures)
    assert any("not in every folder" in f for f in table.failures)
    with pytest.raises(InputError, match="holds no images"):
        evaluate({"x": tmp_path}, [folders["ir"], folders["vis"]], load_metrics(["EN"], None))


def test_a_dialect_is_all_its_metrics_and_an_unknown_one_lists_the_known():
    assert set(load_metrics(None, "cddfuse")) >= {"cddfuse.SSIM", "cddfuse.VIFF"}
    assert list(load_metrics(["SSIM"], "cddfuse")) == ["cddfuse.SSIM"]
    with pytest.raises(OptionError, match="dialects: audit, cddfuse, ivif_zoo, linfeng, vifb"):
        load_metrics(None, "nope")


class TestCommand:
    def run(self, folders, *more, cwd=None):
        return run_cli(
            "evaluate",
            "--fused",
            f"mine={folders['mean']}",
            "--fused",
            folders["noisy"],
            "--pairs",
            folders["ir"],
            folders["vis"],
            *more,
            cwd=cwd,
        )

    def test_the_json_report_says_what_each_number_is(self, folders, tmp_path):
        done = self.run(folders, "-o", tmp_path / "r.json")
        assert done.returncode == 0, done.stderr
        assert "mine" in done.stdout
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["metrics"]["PSNR"]["definition"].startswith("10 log10(255²")
        assert set(report["methods"]) == {"mine", "noisy", *baseline_rows()}
        assert len(report["methods"]["mine"]["files"][0]["sha256"]) == 64
        assert report["methods"]["first source"]["summary"]["SCD"]["mean"] is None
        assert report["tests"]["p"]["mine"]["noisy"]["SSIM"] is not None
        again = self.run(folders, "-o", tmp_path / "r.json")
        assert again.returncode == 2
        assert "--force" in again.stderr

    def test_the_table_is_written_by_its_extension(self, folders, tmp_path):
        for name, begins in (("r.csv", "method,input,baseline"), ("r.md", "| method |"), ("r.tex", "% needs")):
            done = self.run(folders, "--metrics", "EN,SD", "--no-baselines", "-o", tmp_path / name)
            assert done.returncode == 0, done.stderr
            assert (tmp_path / name).read_text().startswith(begins)
        rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
        assert {row["method"] for row in rows} == {"mine", "noisy"}

    def test_a_piped_table_marks_best_and_second_by_signs(self, folders, tmp_path):
        out = self.run(folders, "--metrics", "PSNR", "--no-baselines").stdout
        rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
        assert rows["mine"][-1].endswith("*")
        assert rows["noisy"][-1].endswith("+")
        assert "best *, second +" in out
        assert "bold" not in out

    def test_the_reason_that_nothing_was_scored_is_the_pairs_own(self, folders, tmp_path):
        for name, size in (("3", (40, 60)), ("lonely", (48, 64))):
            write_image(tmp_path / f"{name}.png", np.zeros((*size, 1), np.float32), "8")
        done = run_cli("evaluate", "--fused", tmp_path, "--pairs", folders["ir"], folders["vis"], "--metrics", "EN")
        assert done.returncode == 2
        [line] = done.stderr.strip().splitlines()
        assert "no pair could be scored: 3: " in line
        assert "sizes of result and sources differ (60x40, 64x48, 64x48); --resize resizes" in line
        assert "; without a partner: " in line

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            (("--metrics", "EM"), "no metric 'EM'; installed: AG"),
            (("--dialect", "nope"), "no dialect 'nope'"),
            (("-o", "report.pdf"), "expected .json, .tex, .md or .csv"),
            (("--fused", "average=."), "is the name of a baseline"),
            (("--fused", "noisy=."), "twice"),
        ],
    )
    def test_wrong_requests_are_one_line(self, folders, tmp_path, more, reason):
        done = self.run(folders, *more, cwd=tmp_path)
        assert done.returncode == 2
        assert reason in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_all_means_every_metric_of_no_dialect_or_of_one():
    every, usual = load_metrics(["all"], None), load_metrics(None, None)
    assert set(usual) < set(every)
    assert not any("." in name for name in every)
    assert set(load_metrics(["all"], "vifb")) == set(load_metrics(None, "vifb"))


def test_a_colour_metric_gets_the_channels_of_the_files(tmp_path):
    rng = np.random.default_rng(0)
    ir, vis = rng.random((48, 64, 1), dtype=np.float32), rng.random((48, 64, 3), dtype=np.float32)
    for folder, image in (("ir", ir), ("vis", vis), ("f", vis)):
        write_image(tmp_path / folder / "x.png", image, "8")
    folders = [tmp_path / n for n in ("ir", "vis")]
    scored = evaluate({"f": tmp_path / "f"}, folders, load_metrics(["EN"], "vifb"), baselines=True)
    levels = np.round(vis * 255).astype(int)
    p = [np.bincount(levels[..., k].ravel(), minlength=256) / levels[..., k].size for k in range(3)]
    expected = np.mean([-(q[q > 0] * np.log2(q[q > 0])).sum() for q in p])
    assert scored.values["f"]["vifb.EN"] == [pytest.approx(expected)]
    assert scored.values["average"]["vifb.EN"] != scored.values["f"]["vifb.EN"]


class TestRangesAndSizes:
    """Thermal counts, and sources of two sizes."""

    @pytest.fixture
    def folders(self, tmp_path):
        rng = np.random.default_rng(0)
        for name in ("ir", "vi", "fused"):
            (tmp_path / name).mkdir()
        for i in range(2):
            counts = rng.integers(29_000, 30_600, (48, 64)).astype(np.uint16)
            tifffile.imwrite(tmp_path / "ir" / f"{i}.tif", counts[::2, ::2])
            tifffile.imwrite(tmp_path / "vi" / f"{i}.tif", counts)
            tifffile.imwrite(tmp_path / "fused" / f"{i}.tif", counts)
        return tmp_path

    def command(self, folders, *more):
        return run_cli(
            "evaluate", "--fused", f"mine={folders / 'fused'}", "--pairs", folders / "ir", folders / "vi",
            "--metrics", "SD,MSE", "-o", folders / "r.json", *more,
        )  # fmt: skip

    def test_a_result_is_read_as_its_reference_is(self, folders):
        done = self.command(folders, "--resize")
        assert done.returncode == 0, done.stderr
        summary = json.loads((folders / "r.json").read_text())["methods"]
        assert summary["mine"]["summary"]["SD"]["mean"] == pytest.approx(
            summary["last source"]["summary"]["SD"]["mean"]
        )
        assert summary["mine"]["summary"]["SD"]["mean"] > 50

    def test_sizes_that_differ_are_one_line(self, folders):
        done = self.command(folders)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "--resize" in done.stderr
