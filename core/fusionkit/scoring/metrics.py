"""Which metrics to score with."""

from collections.abc import Sequence

from ..contracts import Metric
from ..errors import OptionError
from ..registry.kinds import DISTRIBUTION
from ..registry.loading import Registered, get_registry, short_name
from ..registry.records import MetricRecord

__all__ = ["load_metrics"]


def load_metrics(names: Sequence[str] | None, dialect: str | None) -> dict[str, Metric]:
    """The metrics to score with: those named, else all of a dialect, else the built-ins that have a rank.

    The one name "all" means every metric of the dialect or, without one, that belongs to no dialect, whose packages
    are installed. Without a dialect, the name of one among the names means all of its metrics, as in "audit".
    """
    registry = get_registry()
    every = registry.of_kind("metric")
    dialects = sorted({record.dialect for p in every if (record := _record(p)).dialect})
    if dialect is not None and dialect not in dialects:
        raise OptionError(f"no dialect {dialect!r}; dialects: {', '.join(dialects)}")
    built_in_last = sorted(every, key=lambda p: p.distribution == DISTRIBUTION)  # it wins

    def offered(dialect: str) -> dict[str, str]:
        return {
            p.record.name: f"{p.distribution}:{p.record.name}"
            for p in built_in_last
            if _record(p).dialect == dialect and p.installed
        }

    own = offered(dialect or "")
    if names is None and not dialect:
        usual = [p.record for p in every if p.distribution == DISTRIBUTION and p.record.rank and p.record.name in own]
        chosen = [own[record.name] for record in sorted(usual, key=lambda record: record.rank)]
    elif names is None or list(names) == ["all"]:
        chosen = [own[name] for name in sorted(own)]
    elif dialect:
        chosen = [f"{dialect}.{name}" for name in names]
    else:
        chosen = [one for name in names for one in (offered(name).values() if name in dialects else [name])]
    return {short_name(name): registry.create("metric", name) for name in chosen}


def _record(plugin: Registered) -> MetricRecord:
    assert isinstance(plugin.record, MetricRecord)
    return plugin.record
