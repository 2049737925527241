"""Whether fusion helps a detector: labelled objects that it misses and its false finds, on sources and results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts import Detection, Detector
from ..errors import InputError
from ..images.convert import to_tensor
from ..reading.boxes import Box
from ..reading.matching import bare_name
from .detection import detect, matches, union
from .evaluation import Pair, as_sources, read_result
from .statistics import Summary, bootstrap

TOGETHER = "both sources together"


@dataclass
class Findings:
    """Counts by method and pair: labelled objects, those missed, and finds that are no labelled object.

    sources: the methods that are a source alone. Both sources together: what the detector finds in either. never:
    labels of which nothing was found anywhere, such as those that the detector does not know; they count as missed.
    """

    detector: str
    pairs: list[str] = field(default_factory=list)
    labelled: list[int] = field(default_factory=list)
    missed: dict[str, list[int]] = field(default_factory=dict)
    false: dict[str, list[int]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def miss_rate(self, method: str) -> Summary:
        """Share of labelled objects that are missed, with its interval over resampled pairs."""
        return bootstrap(np.array(self.missed[method]), np.array(self.labelled))

    def false_finds(self, method: str) -> Summary:
        """False finds a picture, with its interval."""
        return bootstrap(np.array(self.false[method]))

    def behind(self) -> Iterator[str]:
        """A warning for each result that misses more than the better source alone, with the interval of the loss."""
        best = min(self.sources, key=lambda name: self.miss_rate(name).mean)
        for method in (name for name in self.missed if name not in (*self.sources, TOGETHER)):
            loss = bootstrap(np.array(self.missed[method]) - np.array(self.missed[best]), np.array(self.labelled))
            if loss.mean > 0:
                sure = "" if loss.low > 0 else ", which may be chance"
                range_ = f"95 %: {loss.low:+.1%} to {loss.high:+.1%}" if loss.defined > 1 else "one picture"
                yield f"{method} misses {loss.mean:.1%} more of the labelled objects than {best} alone ({range_}{sure})"

    def record(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return {
            "detector": self.detector,
            "pairs": self.pairs,
            "labelled": self.labelled,
            "never_found": self.never,
            "methods": {
                name: {
                    "missed": self.missed[name],
                    "false": self.false[name],
                    "miss_rate": vars(self.miss_rate(name)),
                    "false_finds": vars(self.false_finds(name)),
                }
                for name in self.missed
            },
            "warnings": list(self.behind()),
        }


def find_objects(
    pairs: Sequence[Pair],
    boxes: Mapping[str, Sequence[Box]],
    detector: Detector,
    *,
    resize: bool = False,
    report: Callable[[str, int, int], None] = lambda pair, done, total: None,
) -> Findings:
    """Let a detector search sources and results of the pairs that have labels; boxes lie in the last source's picture.

    pairs: as they were scored (`Evaluation.scored`). boxes: by the bare name of that picture, as `read_boxes` gives
    them. Objects match one to one, with equal labels and an intersection over union of at least a half. resize: sources
    are resized to the last one. Raises InputError where no pair has labels, or the detector knows none of them.
    """
    named = [(name, pair) for pair in pairs if (name := bare_name(pair.sources[-1])) in boxes]
    if not named:
        raise InputError(f"there are labels of none of these pictures, such as {pairs[0].sources[-1].name}")
    methods = tuple(named[0][1].results)
    folders = [path.parent.name for path in named[0][1].sources]
    alone = tuple(f"source {name}" if name in methods else name for name in folders)
    found = Findings(detector.definition, sources=alone)
    found.missed = {name: [] for name in (*alone, TOGETHER, *methods)}
    found.false, known = {name: [] for name in found.missed}, set[str]()
    for done, (name, pair) in enumerate(named, 1):
        pictures = pair.read()
        sources = as_sources(pictures, resize=resize)
        results = [to_tensor(read_result(path, pictures[-1]).pixels) for path in pair.results.values()]
        seen = [detect(detector, image)[0] for image in (*sources.images, *results)]
        finds = dict(zip((*alone, *methods), seen, strict=True)) | {TOGETHER: union(seen[: len(sources)])}
        wanted = [_labelled(box, pictures[-1].size) for box in boxes[name]]
        found.pairs.append(name)
        found.labelled.append(len(wanted))
        for method, own in finds.items():
            met = matches(own, wanted)
            found.missed[method].append(len(wanted) - met)
            found.false[method].append(len(own) - met)
        report(name, done, len(named))
        known |= {detection.label for own in finds.values() for detection in own}
    if not sum(found.labelled):
        raise InputError("none of these pictures has a labelled object")
    given = {label for name in found.pairs for label, _ in boxes[name]}
    if known and not known & given:
        named_so, finds_so = (", ".join(sorted(names)) for names in (given, known))
        raise InputError(f"the file of labels names {named_so}; the detector finds {finds_so}")
    found.never = tuple(sorted(given - known))
    return found


def _labelled(box: Box, size: tuple[int, int]) -> Detection:
    label, (left, top, right, bottom) = box
    width, height = size
    return Detection((left * width, top * height, right * width, bottom * height), 1.0, label)
