"""Stages as fields of a configuration: the flags in their records, and the stages that values of them add."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field

from ..errors import NoEffect
from ..extras import DISTRIBUTION
from ..options import ByKey, word
from ..registry.loading import Registered, Registry, get_registry
from ..registry.records import StageFlag, StageRecord
from .choice import Choice

if TYPE_CHECKING:
    from ..contracts import Prior
    from .config import PipelineConfig


def stage_flags(registry: Registry) -> list[StageFlag]:
    """The flags of all stages, in the order of the stages."""
    return [flag for _, flags in _flagged(registry) for flag in flags]


def foreign_flags(registry: Registry) -> set[str]:
    """Names of flags of third parties, which may be those of other options of a command."""
    stages = (p for p in registry.of_kind("stage") if p.distribution != DISTRIBUTION)
    return {flag.name for p in stages for flag in cast(StageRecord, p.record).flags}


def _flagged(registry: Registry) -> list[tuple[Registered, list[StageFlag]]]:
    """Stages with their flags, the outermost first; of two flags of one name the built-in one counts, or the first."""
    stages = [(plugin, cast(StageRecord, plugin.record)) for plugin in registry.of_kind("stage")]
    owners: dict[str, StageRecord] = {}
    for _, record in sorted(stages, key=lambda stage: stage[0].distribution != DISTRIBUTION):
        for flag in record.flags:
            owners.setdefault(flag.name, record)
    return [
        (plugin, [f for f in record.flags if owners[f.name] is record and not _taken(f.name)])
        for plugin, record in sorted(stages, key=lambda stage: stage[1].place)
    ]


def _taken(name: str) -> bool:
    """Whether a configuration has this name already."""
    from .config import PipelineConfig

    return name in PipelineConfig.model_fields or hasattr(PipelineConfig, name)


def flag_field(flag: StageFlag) -> tuple[Any, Any]:
    """Annotation and field of a flag, for a pydantic model."""
    annotation: Any = Literal[tuple(flag.values)] if flag.values else flag.type
    field = Field(flag.default, description=flag.help)
    return (annotation if flag.command else Annotated[annotation, ByKey()]), field


def stages_of(config: "PipelineConfig", prior: "Prior | None") -> tuple[Choice, ...]:
    """Every stage of a configuration, the first one outermost: those that fields add, then `stages`.

    prior: decides where a field's default leaves it to the prior; None: the stage is added.
    """
    chosen: list[Choice] = []
    for plugin, flags in _flagged(get_registry()):
        values = {flag.name: getattr(config, flag.name) for flag in flags}
        added = {
            flag.name: options for flag in flags if (options := _options(flag, values[flag.name], prior)) is not None
        }
        beside = {flag.name: added.pop(flag.name) for flag in flags if flag.beside and flag.name in added}
        for flag in flags:
            if flag.name in beside and not added.keys() & set(flag.beside):
                value = "true" if values[flag.name] is True else word(values[flag.name])
                needed = " or ".join(f"`{name}`" for name in flag.beside)
                raise NoEffect(f"`{flag.name}={value}` has no effect without {needed}")
        if len(added) > 1:
            first, *_, last = added
            raise NoEffect(f"`{first}={values[first]}` has no effect beside `{last}`; leave one of them out")
        name = f"{plugin.distribution}:{plugin.record.name}"
        more = {key: value for options in beside.values() for key, value in options.items()}
        chosen += [Choice(name=name, options={**options, **more}) for options in added.values()]
    return (*chosen, *config.stages)


def _options(flag: StageFlag, value: Any, prior: "Prior | None") -> dict[str, Any] | None:
    """The stage's options for a flag's value; None: the stage is left out."""
    if not flag.values:
        return None if value == flag.default else {flag.option: value}
    options = flag.values[value]
    if flag.asks and value == flag.default and prior is not None and flag.values[getattr(prior, flag.asks)] is None:
        return None
    return None if options is None else dict(options)
