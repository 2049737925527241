"""The choice of metrics by name and dialect."""

from collections.abc import Iterator, Sequence

from ..contracts import Metric
from ..errors import OptionError
from ..extras import DISTRIBUTION
from ..registry.loading import Registered, get_registry, short_name
from ..registry.records import MetricRecord


def load_metrics(names: Sequence[str] | None, dialect: str | None) -> dict[str, Metric]:
    """Build the named metrics, else all of a dialect, else the built-ins that have a rank.

    The one name "all" means every metric of the dialect or, without one, of no dialect, if its packages are installed.
    Without a dialect, a dialect's name among the names means all of its metrics, as in "audit".
    """
    registry = get_registry()
    if dialect is not None and dialect not in dialects():
        raise OptionError(f"no dialect {dialect!r}; dialects: {', '.join(dialects())}")

    def offered(dialect: str) -> dict[str, str]:
        plugins = [(p, record) for p, record in _metrics() if record.dialect == dialect and p.installed]
        return {record.name: f"{p.distribution}:{record.name}" for p, record in plugins}

    own = offered(dialect or "")
    if names is None and not dialect:
        built_in = [record for p, record in _metrics() if p.distribution == DISTRIBUTION]
        ranked = sorted((record.rank, record.name) for record in built_in if record.rank and record.name in own)
        chosen = [own[name] for _, name in ranked]
    elif names is None or list(names) == ["all"]:
        chosen = [own[name] for name in sorted(own)]
    elif dialect:
        chosen = [f"{dialect}.{name}" for name in names]
    else:
        chosen = [one for name in names for one in (offered(name).values() if name in dialects() else [name])]
    return {short_name(name): registry.create("metric", name) for name in chosen}


def dialects() -> list[str]:
    """Dialects of the installed metrics; their metrics' names begin with them."""
    return sorted({record.dialect for _, record in _metrics() if record.dialect})


def _metrics() -> Iterator[tuple[Registered, MetricRecord]]:
    """Registered metrics; built-in ones last, since the last of a name wins."""
    for plugin in sorted(get_registry().of_kind("metric"), key=lambda p: p.distribution == DISTRIBUTION):
        if isinstance(plugin.record, MetricRecord):
            yield plugin, plugin.record
