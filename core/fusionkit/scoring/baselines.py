"""Baselines of every table: the simplest priors alone."""

from functools import cache

from torch import Tensor

from ..contracts import Prior, Sources
from ..extras import DISTRIBUTION
from ..registry.loading import create, get_registry
from ..registry.records import PriorRecord, TableRow


def baseline_rows() -> dict[str, TableRow]:
    """Rows of the built-in priors in every table, by label, in order."""
    return {label: row for label, (row, _) in _baselines().items()}


def baseline_images(sources: Sources) -> dict[str, Tensor]:
    """Fuse the sources by each baseline: luma (B, 1, H, W) by label."""
    return {label: prior.correct(sources.luma[-1], sources, None, 0.0)[0] for label, (_, prior) in _baselines().items()}


@cache
def _baselines() -> dict[str, tuple[TableRow, Prior]]:
    plugins = [p for p in get_registry().of_kind("prior") if p.distribution == DISTRIBUTION]
    rows = [(row, p) for p in plugins if isinstance(p.record, PriorRecord) for row in p.record.rows]
    return {row.label: (row, create(p, row.options)) for row, p in sorted(rows, key=lambda pair: pair[0].place)}
