"""How much each part of a method does: the method with it against the method without it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..reading import read_image
from ..scoring.statistics import Summary, bootstrap
from .study import CellState, Study

__all__ = ["Removal", "removals"]


@dataclass(frozen=True)
class Removal:
    """What becomes of a method without a part.

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
    """For every method that was taken apart and every part, the largest effect first.

    A network that was never evaluated, since no source had noise, is no part of what was done.
    """
    finished = {state.cell.label: state for state in study.finished()}
    found = [
        _compare(study, finished[state.cell.parent], state)
        for state in finished.values()
        if state.cell.removed
        and state.cell.parent in finished
        and not (state.cell.removed.startswith("network") and _idle(finished[state.cell.parent]))
    ]
    order = [state.cell.label for state in study.cells]
    yield from sorted(found, key=lambda r: (order.index(r.method), -r.levels.mean))


def _idle(state: CellState) -> bool:
    """Whether no network ran in any pair."""
    return all(row.get("evaluations") == 0 for row in state.rows().values())


def _compare(study: Study, whole: CellState, without: CellState) -> Removal:
    means: list[float] = []
    changed: list[float] = []
    largest = 0
    for case in study.cases:
        a, b = (np.round(read_image(study.image(s, case)).pixels * 255).astype(int) for s in (whole, without))
        difference = np.abs(a - b)  # a grey result is compared with every channel of a colour one
        means.append(float(difference.mean()))
        changed.append(float((difference > 0).mean()))
        largest = max(largest, int(difference.max()))
    rows = [s.rows() for s in (whole, without)]
    deltas = {}
    for metric in study.metrics:
        a, b = (
            np.array([np.nan if (v := r[c.key]["values"][metric]) is None else v for c in study.cases]) for r in rows
        )
        deltas[metric] = bootstrap((b - a)[np.isfinite(b - a)])
    return Removal(
        whole.cell.label, without.cell.removed, bootstrap(np.array(means)), largest, float(np.mean(changed)), deltas
    )
