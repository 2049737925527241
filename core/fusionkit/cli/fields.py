"""Fields of options models -> options of the command line.

A field becomes `--field`, with its description, type, range and default; its text is validated by the model, so that
Python, TOML and the command line know the same values.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel

from ..method.config import SamplerOptions, configuration
from ..method.flags import foreign_flags
from ..options import ByKey, conditions, describe_limits, describe_type
from ..registry.kinds import METHOD, SEVERAL
from ..registry.loading import get_registry
from .messages import flag_of, in_flags
from .parameters import plugins_completion

LARGE = 1e9  # bounds from here on only keep numbers storable


def part_options(
    panel: str, *, only: tuple[str, ...] = tuple(METHOD), options: bool = True
) -> Iterator[inspect.Parameter]:
    """--prior, --prior-opt and so on, for each kind of which a method has exactly one, or for some."""
    for key in only:
        kind = METHOD[key]
        option = typer.Option(
            kind.flag,
            help=_sentence(kind.help),
            metavar="NAME",
            show_default=kind.default or False,
            rich_help_panel=panel,
            autocompletion=plugins_completion(kind.name),
        )
        yield _parameter(key, str | None, None, option)
        if options:
            named = kind.help.partition(";")[0].partition(" whose ")[0]
            option = typer.Option(
                f"{kind.flag}-opt",
                help=f"Option of {named}; repeatable.",
                metavar="KEY=VALUE",
                show_default=False,
                rich_help_panel=panel,
            )
            yield _parameter(f"{key}_opt", list[str], [], option)


def compared_options(skip: tuple[str, ...] = ()) -> Iterator[inspect.Parameter]:
    """The options of a method that `run` takes and lists, but for the prior, which is what is compared, and stages."""
    parts = part_options("Method", only=tuple(key for key in METHOD if key != "prior"))
    fields = model_options(configuration(), "Method", skip=("sampler", "stages", *METHOD, *skip))
    for parameter in (*parts, *model_options(SamplerOptions, "Sampling"), *fields):
        parameter.annotation.__metadata__[0].hidden = True
        yield parameter


def model_options(
    model: type[BaseModel], panel: str, skip: tuple[str, ...] = (), only: tuple[str, ...] = ()
) -> Iterator[inspect.Parameter]:
    """An option for each field of a model, or for some; fields marked `ByKey` have none."""
    for name, info in model.model_fields.items():
        if name in skip or (only and name not in only) or ByKey() in info.metadata:
            continue
        default = info.get_default(call_default_factory=True)
        limits = [_limits(info), *(f"with {in_flags(when.quoted())}" for when in conditions(info))]
        noted = ", ".join(filter(None, limits))
        text = in_flags(_sentence(info.description or "")) + (f" ({noted})" if noted else "")
        how: dict[str, Any] = {"help": text, "rich_help_panel": panel}
        if info.annotation is bool:
            flags = f"{flag_of(name)}/{flag_of(f'no_{name}')}" if default else flag_of(name)
            yield _parameter(name, bool | None, None, typer.Option(flags, show_default=False, **how))
        elif get_origin(info.annotation) is tuple and Ellipsis in get_args(info.annotation):  # any number of values
            kind = SEVERAL.get(name)
            option = typer.Option(
                flag_of(name),
                metavar=describe_type(get_args(info.annotation)[0]) if kind else "VALUE",
                show_default=" ".join(map(str, default)) or False,
                autocompletion=plugins_completion(kind.name, ("auto", "none")) if kind else None,
                **how,
            )
            yield _parameter(name, list[str], [], option)
        else:
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            how["show_default"] = default not in (None, "") and shown
            kinds = describe_type(info)  # in capitals; choices as they are typed
            metavar = kinds.replace(" | ", "|") if " | " in kinds else kinds.upper()
            yield _parameter(name, str | None, None, typer.Option(flag_of(name), metavar=metavar, **how))


def _parameter(name: str, annotation: Any, default: Any, option: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[annotation, option])


def _limits(info: Any) -> str:
    """The bounds of a number in words, without those that nobody reaches."""
    bounds = [bound for bound in describe_limits(info) if float(bound.split()[1]) < LARGE]
    low, high = (next((b[3:] for b in bounds if b.startswith(sign)), "") for sign in (">= ", "<= "))
    return f"{low} to {high}" if low and high else f"from {low}" if bounds == [f">= {low}"] else " ".join(bounds)


def _sentence(text: str) -> str:
    """A description as help text; a value or a symbol at its beginning stays as it is written."""
    first = text.partition(" ")[0]
    return (text if not first.rstrip(",").isalpha() else text[:1].upper() + text[1:]).rstrip(".") + "."


def with_options(*parameters: inspect.Parameter) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command's `**given` these parameters; a third party's of a name that is taken is left to --set."""
    names, foreign = [p.name for p in parameters], foreign_flags(get_registry())

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        every = [*(p.name for p in own), *names]
        more = [p for p in parameters if p.name not in foreign or every.count(p.name) == 1]
        command.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        return command

    return decorate
