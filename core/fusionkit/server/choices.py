"""Checks of a visitor's choices: known, valid, and none that names a file of this machine."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from ..batch.options import FileOptions
from ..errors import OptionError
from ..images.picture import Range
from ..method.choice import Choice
from ..method.config import PipelineConfig, configuration
from ..method.flags import stage_flags
from ..method.presets import choose
from ..options import opens, validate_options
from ..registry.kinds import METHOD
from ..registry.loading import get_registry, load_class, options_of
from ..weights.store import Stored, list_weights

ASKED = ("task", "look", "align", "resize", "range", "restore")  # choices that the page asks for first
SAMPLING = ("strength", "steps", "precision")  # fields of the sampler that a page may choose


def fields() -> list[str]:
    """The fields of the method that a page may choose: those of the command line that need no file, and more."""
    flags = [flag for flag in stage_flags(get_registry()) if flag.command]
    files = {flag.name for flag in flags if opens(configuration().model_fields[flag.name]) == "file"}
    offered = [f.name for f in flags if f.name not in files and not (f.beside and set(f.beside) <= files)]
    return ["restore", *offered, "color", "reference", "seed"]


def spans_of(choices: Mapping[str, Any]) -> tuple[Range, ...]:
    """The black and white levels that choices have for the sources, one for all or one a source. Raises OptionError."""
    text = str(choices.get("range") or "auto")
    return validate_options(FileOptions, {"range": text.replace(", ", ",").split()}, "").range


def config_of(choices: Mapping[str, Any]) -> PipelineConfig:
    """Make the configuration of a page's choices. Raises OptionError."""
    others = {key: value for key, value in choices.items() if key not in ("task", "range")}
    return choose(choices.get("task"), None, others)


def checked(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Drop empty choices; raise OptionError where one is unknown, wrong, or names a file. Builds no plug-in.

    Conflicts between plug-ins, such as a solver that needs an energy, are found by the fusion.
    """
    _refuse(set(choices) - {"task", "range", "prior", "prior_options", "sampler", *fields()})
    chosen = {key: value for key, value in choices.items() if value not in (None, "", {})}
    for key in ("prior_options", "sampler"):
        if not isinstance(chosen.get(key, {}), dict):
            raise OptionError(f"{key}: expected a table")
    _refuse(set(chosen.get("sampler", {})) - set(SAMPLING))
    spans_of(chosen)
    config = config_of(chosen)
    for key, kind in METHOD.items():
        if (choice := getattr(config, key)) is not None and choice.name:
            _check_choice(choice, key, kind.name)
    for one in config.restore:
        if one.degradation.name not in ("auto", "none"):
            _check_choice(one.degradation, "restore", "degradation")
    return chosen


def _check_choice(choice: Choice, key: str, kind: str) -> None:
    """Refuse an object, an unknown plug-in, wrong options, and those that name a file."""
    if choice.instance is not None:
        raise OptionError(f"{key}: expected the name of a plug-in")
    plugin = get_registry().find(kind, choice.name)
    if not plugin.missing:  # a missing module is reported below
        fields = load_class(plugin).Options.model_fields.items()
        files = {key for name, info in fields if opens(info) == "file" for key in (name, info.alias)}
        _refuse(files & set(choice.options))
    _check_weights(options_of(plugin, choice.options), kind)


def weights_names(kind: str) -> list[str]:
    """List the names of weights for plug-ins of one kind."""
    return [w.name for w in list_weights() if isinstance(w, Stored) and w.plugin[0] == kind]


def _refuse(keys: set[str]) -> None:
    if keys:
        raise OptionError(f"cannot be chosen here: {', '.join(sorted(keys))}")


def _check_weights(options: BaseModel, kind: str) -> None:
    """Refuse weights that are not listed, in one line that discloses nothing of the disk."""
    for name in options.model_fields_set:
        info = type(options).model_fields.get(name)
        opened = "file" if info is None else opens(info)
        if opened == "file":
            _refuse({name})
        elif opened == "weights":
            for value in _leaves(getattr(options, name)):
                if isinstance(value, BaseModel):
                    _check_weights(value, kind)
                elif isinstance(value, str) and value not in weights_names(kind):
                    raise OptionError(f"{name}: give a name of listed weights, as `fusionkit weights list` has them")


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values inside tables and lists."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value
