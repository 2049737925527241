"""Scores are kept as they are computed, taken where nothing changed, and computed anew where something did."""

import numpy as np
import pytest

from fusionkit.contracts import Metric
from fusionkit.engines.options import EngineOptions
from fusionkit.options import Options
from fusionkit.reading.ranges import Reading
from fusionkit.scoring.cache import ScoreCache, pair_key
from fusionkit.scoring.evaluation import evaluate
from fusionkit.scoring.metrics import load_metrics
from fusionkit.writing import write_image


class Counted(Metric):
    """Counts how often it is asked; breaks at the call that it is told."""

    Options = Options
    definition = "mean of the result, for a test"

    def __init__(self, breaks_at=0, version="1"):
        super().__init__(Options())
        self.calls, self.breaks_at, self.version = 0, breaks_at, version

    def __call__(self, fused, sources):
        self.calls += 1
        if self.calls == self.breaks_at:
            raise KeyboardInterrupt
        return fused.mean((1, 2, 3))


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("ir", "vis", "mine", "yours"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b", "c"):
            write_image(tmp_path / folder / f"{name}.png", rng.random((24, 32, 1)).astype(np.float32), "8")
    return tmp_path


def run(folders, metric, methods=("mine",), **how):
    paths = {name: folders / name for name in methods}
    sources = [folders / "ir", folders / "vis"]
    return evaluate(paths, sources, {"M": metric}, baselines=False, cache=folders / "s", **how)


def test_what_is_known_is_not_computed_again(folders):
    first, second = Counted(), Counted()
    fresh = run(folders, first)
    again = run(folders, second)
    assert (first.calls, second.calls) == (3, 0)
    assert (fresh.reused, again.reused) == (0, 3)
    assert again.values == fresh.values
    assert again.files == fresh.files
    third = Counted()
    assert run(folders, third, methods=("mine", "yours")).reused == 3
    assert third.calls == 3


def test_a_stopped_evaluation_goes_on(folders):
    with pytest.raises(KeyboardInterrupt):
        run(folders, Counted(breaks_at=3))
    metric = Counted()
    assert run(folders, metric).reused == 2
    assert metric.calls == 1


def test_another_version_file_or_range_is_another_score(folders):
    run(folders, Counted())
    changed = Counted(version="2")
    assert run(folders, changed).reused == 0
    write_image(folders / "mine" / "a.png", np.zeros((24, 32, 1), np.float32), "8")
    write_image(folders / "ir" / "b.png", np.zeros((24, 32, 1), np.float32), "8")
    assert run(folders, Counted()).reused == 1
    for name in "abc":  # of 16 bits, for which a range counts
        write_image(folders / "ir" / f"{name}.png", np.zeros((24, 32, 1), np.float32), "16")
    run(folders, Counted())
    assert run(folders, Counted()).reused == 3
    assert run(folders, Counted(), reading=Reading(("full",))).reused == 0


def test_a_broken_or_missing_place_costs_nothing_but_the_cache(folders):
    (folders / "s").write_bytes(b"no database" * 100)
    assert run(folders, Counted()).reused == 0
    cache = ScoreCache(folders / "none" / "s")
    (folders / "none").write_text("a file")
    cache.keep("k", {"M": 1.0}, {"M": Counted()})
    assert cache.known("k", {"M": Counted()}) == {}


def test_undefined_values_are_kept_as_such(folders):
    cache, metrics = ScoreCache(folders / "n"), {"M": Counted()}
    cache.keep("k", {"M": float("nan")}, metrics)
    assert np.isnan(cache.known("k", metrics)["M"])
    assert cache.known("other", metrics) == {}
    assert pair_key("a", ["b"]) != pair_key("b", ["a"])


def test_processes_give_the_same_scores_in_the_same_order(folders):
    metrics = load_metrics(["EN", "SD"], None)
    sources = [folders / "ir", folders / "vis"]
    one, two = (
        evaluate({"mine": folders / "mine"}, sources, metrics, engine=EngineOptions(jobs=jobs).make())
        for jobs in (1, 2)
    )
    assert one.pairs == two.pairs
    assert one.values == two.values


def test_a_method_no_better_than_a_source_is_marked(folders):
    """A constant result beside sources of noise: by EN and SD nothing was gained."""
    for name in ("a", "b", "c"):
        write_image(folders / "yours" / f"{name}.png", np.full((24, 32, 1), 0.5, np.float32), "8")
    methods = {name: folders / name for name in ("mine", "yours")}
    result = evaluate(methods, [folders / "ir", folders / "vis"], load_metrics(["EN", "SD"], None))
    assert "yours" in result.no_better_than_a_source()
    assert result.record()["methods"]["yours"]["no_better_than_a_source"] is True
