"""Rows of every table beside the methods: the simplest priors, by themselves."""

from functools import cache

from torch import Tensor

from ..contracts import Prior, Sources
from ..registry.kinds import DISTRIBUTION
from ..registry.loading import create, get_registry
from ..registry.records import PriorRecord, TableRow

__all__ = ["baseline_images", "baseline_rows"]


def baseline_rows() -> dict[str, TableRow]:
    """Rows that the built-in priors have in every table, by label, in their places."""
    return {label: row for label, (row, _) in _baselines().items()}


def baseline_images(sources: Sources) -> dict[str, Tensor]:
    """The luma (B, 1, H, W) that each baseline makes of the sources."""
    return {label: prior.correct(sources.luma[-1], sources, None, 0.0)[0] for label, (_, prior) in _baselines().items()}


@cache
def _baselines() -> dict[str, tuple[TableRow, Prior]]:
    plugins = [p for p in get_registry().of_kind("prior") if p.distribution == DISTRIBUTION]
    rows = [(row, p) for p in plugins if isinstance(p.record, PriorRecord) for row in p.record.rows]
    return {row.label: (row, create(p, row.options)) for row, p in sorted(rows, key=lambda pair: pair[0].place)}
