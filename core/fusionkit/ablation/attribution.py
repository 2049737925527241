"""Effect of each part of a method: the method with it against the method without it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..reading import read_image
from ..scoring.statistics import Summary, bootstrap
from .study import CellState, Study


@dataclass(frozen=True)
class Removal:
    """Change of a method's results when a part is left out.

    levels: mean absolute difference of the results in grey levels, all channels, mean over pairs. largest: over all
    pixels and pairs. changed: share of stored values that differ. metrics: value without the part minus value with it,
    mean over the pairs where both are defined.
    """

    method: str
    part: str
    levels: Summary
    largest: int
    changed: float
    metrics: dict[str, Summary]


def removals(study: Study) -> Iterator[Removal]:
    """Compare every method that was taken apart with itself without each part, the largest effect first.

    Those without a network that is `idle` are left out.
    """
    finished = {state.cell.label: state for state in study.finished()}
    found, left_out = [], {state.cell.label for state in idle(study)}
    for state in finished.values():
        whole = finished.get(state.cell.parent)
        if whole and state.cell.removed and state.cell.label not in left_out:
            found.append(_compare(study, whole, state))
    order = [state.cell.label for state in study.cells]
    yield from sorted(found, key=lambda r: (order.index(r.method), -r.levels.mean))


def idle(study: Study) -> list[CellState]:
    """Cells without a network that, in the whole method, was evaluated in no pair, since no source had noise."""
    finished = {state.cell.label: state for state in study.finished()}
    without = [s for s in finished.values() if s.cell.removed.startswith("network") and s.cell.parent in finished]
    return [s for s in without if all(r.get("evaluations") == 0 for r in finished[s.cell.parent].rows().values())]


def _compare(study: Study, whole: CellState, without: CellState) -> Removal:
    means, changed, largest = [], [], 0
    for case in study.cases:
        a, b = (np.round(read_image(study.image(s, case)).pixels * 255).astype(int) for s in (whole, without))
        difference = np.abs(a - b)  # a grey result is compared with every channel of a colour one
        means.append(difference.mean())
        changed.append((difference > 0).mean())
        largest = max(largest, int(difference.max()))
    with_part, without_part = study.scores(whole), study.scores(without)
    deltas = {}
    for metric in study.metrics:
        delta = np.array(without_part[metric]) - np.array(with_part[metric])
        deltas[metric] = bootstrap(delta[np.isfinite(delta)])
    levels = bootstrap(np.array(means))
    return Removal(whole.cell.label, without.cell.removed, levels, largest, float(np.mean(changed)), deltas)
