"""Fields of options models <-> options of the command line.

A field becomes `--field`, with its description, type, range and default; its text is validated by the model, so that
Python, TOML and the command line know the same values. Messages of the core name fields in backquotes,
`resize=reference`; `in_flags` says them as the command line does.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..batch.options import FileOptions, ResultOptions
from ..engines.options import EngineOptions
from ..errors import OptionError
from ..method.config import SamplerOptions, configuration
from ..options import ByKey, conditions, describe_limits, describe_type
from ..registry.kinds import METHOD
from ..video.options import VideoOptions
from .parameters import plugins_completion

__all__ = ["chosen", "flag_of", "in_flags", "model_options", "part_options", "value_of", "with_options"]

# what messages of the core may name beside the fields of the models below
NAMED = frozenset({"allow_remote", "config", "group", "out", "output", "pairs", "port", "shards", "token"})
MODELS = (SamplerOptions, FileOptions, ResultOptions, EngineOptions, VideoOptions)


def flag_of(field: str) -> str:
    """The option of the command line for a field."""
    return f"--{field.replace('_', '-')}"


def in_flags(message: str) -> str:
    """A message of the core with its fields, `name` or `name=value`, as options."""
    fields = {name: info for model in (configuration(), *MODELS) for name, info in model.model_fields.items()}

    def flag(match: re.Match[str]) -> str:
        field, value = match[1], match[2]
        if field in fields and _by_key(fields[field]):
            return f"--set {field}" + (f"={value}" if value else "")
        known = field in fields or field in NAMED
        if known and value in ("true", "false"):
            return flag_of(field if value == "true" else f"no_{field}")
        return match[0] if not known else flag_of(field) + (f" {value}" if value else "")

    return re.sub(r"`([a-z][a-z_]*)(?:=([^`]*))?`", flag, message)


def _by_key(info: FieldInfo) -> bool:
    return any(isinstance(mark, ByKey) for mark in info.metadata)


def part_options(panel: str, *, options: bool = True) -> Iterator[inspect.Parameter]:
    """--prior, --prior-opt and so on, for each kind of which a method has exactly one."""
    for key, kind in METHOD.items():
        default = kind.default if kind.default else False
        yield _parameter(
            key,
            str | None,
            None,
            typer.Option(
                kind.flag,
                help=_sentence(kind.help),
                rich_help_panel=panel,
                metavar="NAME",
                show_default=default,
                autocompletion=plugins_completion(kind.name),
            ),
        )
        if not options:
            continue
        yield _parameter(
            f"{key}_opt",
            list[str],
            [],
            typer.Option(
                f"{kind.flag}-opt",
                help=f"Option of {_the(kind.help)}; repeatable.",
                rich_help_panel=panel,
                metavar="KEY=VALUE",
                show_default=False,
            ),
        )


def model_options(
    model: type[BaseModel], panel: str, skip: tuple[str, ...] = (), only: tuple[str, ...] = ()
) -> Iterator[inspect.Parameter]:
    """An option for each field of a model, or for some; fields marked `ByKey` have none."""
    for name, info in model.model_fields.items():
        if name in skip or (only and name not in only) or _by_key(info):
            continue
        default = info.get_default(call_default_factory=True)
        limits = [" ".join(describe_limits(info)), *(f"with {in_flags(when.quoted())}" for when in conditions(info))]
        noted = ", ".join(filter(None, limits))
        text = in_flags(_sentence(info.description or "")) + (f" [{noted}]" if noted else "")
        how: dict[str, Any] = {"help": text, "rich_help_panel": panel}
        if info.annotation is bool:
            flags = f"{flag_of(name)}/{flag_of(f'no_{name}')}" if default else flag_of(name)
            yield _parameter(name, bool | None, None, typer.Option(flags, show_default=False, **how))
        elif _repeats(info.annotation):
            how |= {"metavar": "VALUE", "show_default": False}
            yield _parameter(name, list[str], [], typer.Option(flag_of(name), **how))
        else:
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            how |= {
                "metavar": describe_type(info).upper(),
                "show_default": bool(shown) and default is not None and shown,
            }
            yield _parameter(name, str | None, None, typer.Option(flag_of(name), **how))


def _parameter(name: str, annotation: Any, default: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )


def _repeats(annotation: Any) -> bool:
    """Whether a field holds any number of values: tuple[X, ...]."""
    return get_origin(annotation) is tuple and Ellipsis in get_args(annotation)


def _sentence(text: str) -> str:
    """A description as help text; a value or a symbol at its beginning stays as it is written."""
    first = text.partition(" ")[0]
    return (text if not first.rstrip(",").isalpha() else text[:1].upper() + text[1:]).rstrip(".") + "."


def _the(text: str) -> str:
    return text.partition(";")[0].partition(" whose ")[0]


def with_options(*parameters: inspect.Parameter) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command's `**given` these parameters."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        command.__signature__ = signature.replace(parameters=[*own, *parameters])  # type: ignore[attr-defined]
        return command

    return decorate


def chosen(given: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model that the command line set, for its validation."""
    return {
        name: value_of(given[name], model.model_fields[name].annotation, name)
        for name in model.model_fields
        if given.get(name) not in (None, [])
    }


def value_of(value: Any, annotation: Any, name: str) -> Any:
    """Text as the model takes it: JSON for what starts like it, several values where the field holds several."""
    if isinstance(value, list):
        return [value_of(item, None, name) for item in value]
    if not isinstance(value, str):
        return value
    if value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise OptionError(f"`{name}`: not valid JSON: {error}") from None
    return value.split(",") if get_origin(annotation) is tuple and "," in value else value
