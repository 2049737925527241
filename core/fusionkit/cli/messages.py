"""Messages of the core as the command line prints them: on one line, with options in the place of fields.

The core names fields in backquotes, `resize=reference`; here that is --resize reference.
"""

import re
from collections.abc import Sequence

import typer

from ..batch.options import FileOptions, ResultOptions
from ..engines.options import EngineOptions
from ..method.config import SamplerOptions, configuration
from ..method.words import from_text
from ..options import ByKey
from ..video.options import VideoOptions

# options that messages of the core name, beside the fields of these models
NAMED = frozenset(
    (
        "against",
        "allow_remote",
        "config",
        "group",
        "inverse",
        "out",
        "output",
        "pairs",
        "port",
        "priors",
        "shards",
        "source",
        "task",
        "token",
    )
)
SHOWN = 10  # failures on the terminal
MODELS = (SamplerOptions, FileOptions, ResultOptions, EngineOptions, VideoOptions)


def flag_of(field: str) -> str:
    """The option of the command line for a field."""
    return f"--{field.replace('_', '-')}"


def in_flags(message: str) -> str:
    """Replace each `field` or `field=value` of a message by its option, a list by as many options as it has values."""
    fields = {name: info for model in (configuration(), *MODELS) for name, info in model.model_fields.items()}

    def flag(match: re.Match[str]) -> str:
        field, value = match[1], match[2]
        if field in fields and ByKey() in fields[field].metadata:
            return f"--set {field}" + (f"={value}" if value else "")
        if field not in fields and field not in NAMED:
            return match[0]
        if value in ("true", "false"):
            return flag_of(field if value == "true" else f"no_{field}")
        values = [value] if value else []
        if value and value.startswith("["):
            values = from_text(value, None, field)
        return " ".join(f"{flag_of(field)} {value}" for value in values) or flag_of(field)

    return re.sub(r"`(?:sampler\.)?([a-z][a-z_]*)(?:=([^`]*))?`", flag, message)


def tell_failures(lines: Sequence[str], before: str, more: str = "") -> None:
    """Print the first lines about what went wrong, each behind `before`, and the number of the others."""
    for line in lines[:SHOWN]:
        typer.secho(f"{before}: {printable(line)}", fg="yellow", err=True)
    if len(lines) > SHOWN:
        typer.secho(f"and {len(lines) - SHOWN} more{more}", fg="yellow", err=True)


def printable(message: object) -> str:
    """A message in the command line's words, on one line, with control characters escaped: file names may hold some."""
    line = " ".join(in_flags(str(message)).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
