"""Does a detector find in the result what it finds in the sources? As metrics of the evaluator."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..contracts import Detection, Detector, Metric, Sources
from ..contracts import Options as NoOptions
from ..registry.loading import get_registry

__all__ = ["consistency_metrics", "iou", "matches", "union"]

SAME = 0.5  # intersection over union from which two boxes are one object


def iou(a: Detection, b: Detection) -> float:
    """Intersection over union of the boxes."""
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(d.box[2] - d.box[0]) * (d.box[3] - d.box[1]) for d in (a, b)]
    return width * height / (sum(areas) - width * height)


def matches(found: Sequence[Detection], wanted: Sequence[Detection]) -> int:
    """How many objects of `wanted` are in `found`: one to one, equal labels, the surest first."""
    free, count = list(wanted), 0
    for detection in sorted(found, key=lambda d: -d.score):
        best = max((w for w in free if w.label == detection.label), key=lambda w: iou(w, detection), default=None)
        if best is not None and iou(best, detection) >= SAME:
            free.remove(best)
            count += 1
    return count


def union(groups: Sequence[Sequence[Detection]]) -> list[Detection]:
    """The objects of all images, each once: of boxes that overlap, the surest."""
    kept: list[Detection] = []
    for detection in sorted((d for group in groups for d in group), key=lambda d: -d.score):
        if all(k.label != detection.label or iou(k, detection) < SAME for k in kept):
            kept.append(detection)
    return kept


class _Counts:
    """Objects in the result, in the sources, in both; remembers the last images, which several metrics ask for."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._seen: dict[str, tuple[Any, Any]] = {}

    def __call__(self, fused: Tensor, sources: Sources) -> list[tuple[int, int, int]]:
        """For each image of the batch: (found, wanted, matched)."""
        wanted = self._once("sources", sources, lambda: [self._detect(image) for image in sources.images])
        found = self._once("fused", fused, lambda: self._detect(fused))
        return [
            (len(f), len(w), matches(f, w))
            for f, w in ((f, union([group[b] for group in wanted])) for b, f in enumerate(found))
        ]

    def _once(self, key: str, of: Any, compute: Any) -> Any:
        if key not in self._seen or self._seen[key][0] is not of:
            self._seen[key] = (of, compute())
        return self._seen[key][1]

    def _detect(self, images: Tensor) -> list[Sequence[Detection]]:
        return [self.detector(image.expand(3, -1, -1)[None]) for image in images]


class _Consistency(Metric):
    """One of the three shares."""

    Options = NoOptions
    color = True
    range = (0.0, 1.0)
    MEANING: ClassVar[str]

    def __init__(self, counts: _Counts) -> None:
        super().__init__(NoOptions())
        self._counts = counts
        detector = counts.detector
        self.definition = (
            f"{self.MEANING}; one object: same label and IoU of at least {SAME:g}; all sources' objects "
            f"together, each once; detector: {detector.definition}"
        )
        self.version = detector.version

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,), nan where there is nothing to count."""
        shares = [self.share(*counts) for counts in self._counts(fused, sources)]
        return torch.tensor(shares, dtype=torch.float64)

    def share(self, found: int, wanted: int, matched: int) -> float:
        """From the objects in the result, in the sources, in both."""
        raise NotImplementedError


class _Kept(_Consistency):
    MEANING = "share of the sources' objects that are found in the result; nan where they have none"

    def share(self, found: int, wanted: int, matched: int) -> float:
        return matched / wanted if wanted else math.nan


class _Supported(_Consistency):
    MEANING = "share of the result's objects that a source has; nan where the result has none"

    def share(self, found: int, wanted: int, matched: int) -> float:
        return matched / found if found else math.nan


class _F1(_Consistency):
    MEANING = "harmonic mean of kept and supported; nan where there is no object at all"

    def share(self, found: int, wanted: int, matched: int) -> float:
        return 2 * matched / (found + wanted) if found + wanted else math.nan


def consistency_metrics(name: str, options: dict[str, Any] | None = None) -> dict[str, Metric]:
    """NAME.kept, NAME.supported and NAME.F1 of the detector NAME."""
    counts = _Counts(get_registry().create("detector", name, options))
    return {f"{name}.kept": _Kept(counts), f"{name}.supported": _Supported(counts), f"{name}.F1": _F1(counts)}
