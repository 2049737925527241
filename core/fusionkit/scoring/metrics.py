"""Which metrics to score with."""

from collections.abc import Sequence

from ..contracts import Metric
from ..errors import OptionError
from ..registry.kinds import DISTRIBUTION
from ..registry.loading import Registered, get_registry, short_name
from ..registry.records import MetricRecord

__all__ = ["load_metrics"]

DEFAULT = ("EN", "SD", "SF", "AG", "MI", "NMI", "CC", "SCD", "VIF", "Qabf", "SSIM", "PSNR", "MSE")


def load_metrics(names: Sequence[str] | None, dialect: str | None) -> dict[str, Metric]:
    """The metrics to score with: those named, else all of a dialect, else the usual ones.

    The one name "all" means every metric of the dialect or, without one, that belongs to no dialect, whose packages
    are installed.
    """
    registry = get_registry()
    every = registry.of_kind("metric")
    dialects = sorted({record.dialect for p in every if (record := _record(p)).dialect})
    if dialect is not None and dialect not in dialects:
        raise OptionError(f"no dialect {dialect!r}; dialects: {', '.join(dialects)}")
    offered = {
        p.record.name: f"{p.distribution}:{p.record.name}"
        for p in sorted(every, key=lambda p: p.distribution == DISTRIBUTION)  # the built-in one wins
        if _record(p).dialect == (dialect or "") and p.installed
    }
    if names is None and not dialect:
        chosen = [offered[name] for name in DEFAULT if name in offered]
    elif names is None or list(names) == ["all"]:
        chosen = [offered[name] for name in sorted(offered)]
    else:
        chosen = [f"{dialect}.{name}" if dialect else name for name in names]
    return {short_name(name): registry.create("metric", name) for name in chosen}


def _record(plugin: Registered) -> MetricRecord:
    assert isinstance(plugin.record, MetricRecord)
    return plugin.record
