"""Consistency of a detector's objects in the result with those in the sources, as metrics."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..contracts import Detection, Detector, Metric, Sources
from ..contracts import Options as NoOptions
from ..contracts.base import unfit

SAME = 0.5  # intersection over union from which two boxes are one object
# metric: its meaning, and the weight of the result's number of objects against the sources'
SHARES = {
    "kept": ("share of the sources' objects that are found in the result; nan where they have none", 0.0),
    "supported": ("share of the result's objects that a source has; nan where the result has none", 1.0),
    "F1": ("harmonic mean of kept and supported; nan where there is no object at all", 0.5),
}


def iou(a: Detection, b: Detection) -> float:
    """Intersection over union of the boxes."""
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(d.box[2] - d.box[0]) * (d.box[3] - d.box[1]) for d in (a, b)]
    return width * height / (sum(areas) - width * height)


def matches(found: Sequence[Detection], wanted: Sequence[Detection]) -> int:
    """Count the objects of `wanted` that are in `found`: one to one, equal labels, the surest first."""
    free, count = list(wanted), 0
    for detection in sorted(found, key=lambda d: -d.score):
        best = max((w for w in free if w.label == detection.label), key=lambda w: iou(w, detection), default=None)
        if best is not None and iou(best, detection) >= SAME:
            free.remove(best)
            count += 1
    return count


def union(groups: Sequence[Sequence[Detection]]) -> list[Detection]:
    """Merge the objects of all images, each once: the surest of boxes that overlap."""
    kept: list[Detection] = []
    for detection in sorted((d for group in groups for d in group), key=lambda d: -d.score):
        if all(k.label != detection.label or iou(k, detection) < SAME for k in kept):
            kept.append(detection)
    return kept


def detect(detector: Detector, images: Tensor) -> list[Sequence[Detection]]:
    """Objects in each image (B, 1 or 3, H, W)."""
    with torch.inference_mode():
        return [_checked(detector, detector(image.expand(3, -1, -1)[None])) for image in images]


def _checked(detector: Detector, found: object) -> Sequence[Detection]:
    """What a detector returned, if it is a list of objects with finite boxes and scores."""
    if not isinstance(found, Sequence) or not all(isinstance(one, Detection) for one in found):
        raise unfit(detector, "__call__", f"{found!r:.60}, expected a list of fusionkit.contracts.Detection")
    for one in found:
        if len(one.box) != 4 or not all(map(math.isfinite, (*one.box, one.score))):
            raise unfit(detector, "__call__", f"{one!r:.100}, expected a box of four finite numbers and a finite score")
    return found


class _Counts:
    """Counts objects in the result, in the sources, in both; several metrics ask for the same images."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._seen: dict[str, tuple[Any, Any]] = {}

    def __call__(self, fused: Tensor, sources: Sources) -> list[tuple[int, int, int]]:
        """Count (found, wanted, matched) for each image of the batch."""
        wanted = self._once("sources", sources, lambda: [detect(self.detector, image) for image in sources.images])
        found = self._once("fused", fused, lambda: detect(self.detector, fused))
        pairs = [(f, union([group[b] for group in wanted])) for b, f in enumerate(found)]
        return [(len(f), len(w), matches(f, w)) for f, w in pairs]

    def _once(self, key: str, of: Any, compute: Any) -> Any:
        if key not in self._seen or self._seen[key][0] is not of:
            self._seen[key] = (of, compute())
        return self._seen[key][1]


class _Consistency(Metric):
    """Matched objects over a mean of the numbers of objects in the result and in the sources."""

    Options = NoOptions
    color = True
    range = (0.0, 1.0)

    def __init__(self, counts: _Counts, name: str) -> None:
        super().__init__(NoOptions())
        meaning, self._weight = SHARES[name]
        self._counts = counts
        self.definition = (
            f"{meaning}; one object: same label and IoU of at least {SAME:g}; all sources' objects "
            f"together, each once; detector: {counts.detector.definition}"
        )
        self.version = counts.detector.version

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Share of each image: (B,), nan where there is nothing to count."""
        shares = []
        for found, wanted, matched in self._counts(fused, sources):
            number = self._weight * found + (1 - self._weight) * wanted
            shares.append(matched / number if number else math.nan)
        return torch.tensor(shares, dtype=torch.float64)


def consistency_metrics(name: str, detector: Detector) -> dict[str, Metric]:
    """Build NAME.kept, NAME.supported and NAME.F1 of a detector."""
    counts = _Counts(detector)
    return {f"{name}.{share}": _Consistency(counts, share) for share in SHARES}
