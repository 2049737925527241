"""Options of the command line -> the configuration of a method."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..method.choice import merge_choices
from ..method.config import PipelineConfig, SamplerOptions, configuration, placed
from ..method.presets import choose
from ..registry.kinds import METHOD
from .choices import key_values
from .fields import chosen, value_of

__all__ = ["method_of"]


def method_of(
    task: str | None, preset: str | None, given: Mapping[str, Any], values: Sequence[str], stages: Sequence[str] = ()
) -> PipelineConfig:
    """The configuration that a command's options make, over task and preset."""
    by_key = placed({key: _read(key, value) for key, value in key_values(list(values), "--set", nest=False).items()})
    choices: dict[str, Any] = chosen(given, configuration())
    for key, kind in METHOD.items():
        if options := key_values(given.get(f"{key}_opt") or [], f"{kind.flag}-opt"):
            choices[f"{key}_options"] = options
    if sampler := chosen(given, SamplerOptions):
        choices["sampler"] = sampler
    if stages:
        choices["stages"] = [_stage(text) for text in stages]
    return choose(task, preset, merge_choices(by_key, choices))


def _read(key: str, value: Any) -> Any:
    """The value of a key as its model takes it."""
    name = key.removeprefix("sampler.")
    known = {**configuration().model_fields, **SamplerOptions.model_fields}
    return value_of(value, known[name].annotation if name in known else None, name)


def _stage(text: str) -> dict[str, Any]:
    """NAME or NAME:KEY=VALUE,KEY=VALUE; a name may have its distribution before it, as in package:NAME."""
    head, equals, rest = text.partition("=")
    *name, key = head.split(":") if equals else [text, ""]
    options = f"{key}={rest}" if equals else ""
    pairs = re.split(r",(?=[\w.]+=)", options) if options else []
    return {"name": ":".join(name), "options": key_values(pairs, "--stage")}
