"""Consistency of a detector's output on results and sources."""

import math

import pytest
import torch

from fusionkit.contracts import Detection, Detector, Options, Sources
from fusionkit.scoring.detection import SHARES, _Consistency, _Counts, iou, matches, union
from harness import run_cli


def box(left, top, right, bottom, score=1.0, label="thing"):
    return Detection((left, top, right, bottom), score, label)


class Bright(Detector):
    """The bounding box of each level 0.5 and 1.0, labelled so; counts how often it is asked."""

    definition = "bounding boxes of two levels"

    def __init__(self):
        super().__init__(Options())
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        found = []
        for level in (0.5, 1.0):
            rows, columns = torch.nonzero(image[0, 0] == level, as_tuple=True)
            if len(rows):
                edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                found.append(box(*map(float, edges), score=level, label=f"{level}"))
        return found


def image(*squares):
    x = torch.zeros(1, 1, 30, 40)
    for left, top, level in squares:
        x[..., top : top + 8, left : left + 8] = level
    return x


def test_overlap():
    assert iou(box(0, 0, 4, 4), box(2, 0, 6, 4)) == pytest.approx(1 / 3)
    assert iou(box(0, 0, 4, 4), box(4, 0, 6, 4)) == 0


def test_matching_is_one_to_one_by_label_and_certainty():
    wanted = [box(0, 0, 10, 10), box(20, 0, 30, 10)]
    assert matches([box(0, 0, 10, 9), box(0, 0, 10, 10, 0.5)], wanted) == 1
    assert matches([box(0, 0, 10, 9), box(21, 0, 30, 10)], wanted) == 2
    assert matches([box(0, 0, 10, 10, label="other")], wanted) == 0


def test_an_object_in_both_sources_counts_once():
    merged = union([[box(0, 0, 10, 10, 0.4)], [box(0, 0, 10, 9, 0.9), box(50, 0, 60, 10)]])
    assert [d.score for d in merged] == [1.0, 0.9]


def test_shares_of_objects():
    counts = _Counts(Bright())
    a, b = image((2, 2, 0.5)), image((2, 2, 0.5), (20, 2, 1.0))
    fused = image((20, 2, 1.0), (2, 20, 0.5))  # keeps one, loses one, invents one
    sources = Sources((a, b), (a, b))
    kept, supported, f1 = (float(_Consistency(counts, name)(fused, sources)) for name in SHARES)
    assert (kept, supported, f1) == (0.5, 0.5, 0.5)
    assert counts.detector.calls == 3, "each image is looked at once, whatever the number of metrics"


def test_nothing_to_count_is_no_number():
    counts, empty = _Counts(Bright()), image()
    sources = Sources((empty, empty), (empty, empty))
    assert all(math.isnan(float(_Consistency(counts, name)(empty, sources))) for name in SHARES)
    one = image((2, 2, 1.0))
    assert float(_Consistency(counts, "F1")(one, sources)) == 0
    assert math.isnan(float(_Consistency(counts, "kept")(one, sources)))


def test_options_without_a_detector_are_a_mistake(tmp_path):
    done = run_cli("evaluate", "--fused", tmp_path, "--pairs", tmp_path, tmp_path, "--detector-opt", "x=1")
    assert done.returncode == 2
    assert "--detector NAME chooses one" in done.stderr
