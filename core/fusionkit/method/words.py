"""Choices in words, as command lines and configurations have them: NAME:KEY=VALUE,KEY=VALUE."""

import json
import re
from collections.abc import Sequence
from typing import Any, get_origin

from ..errors import OptionError

PAIRS = r",(?=[A-Za-z_][\w.]*=)"  # between KEY=VALUE and KEY=VALUE


def named(text: str, flag: str) -> dict[str, Any]:
    """NAME or NAME:KEY=VALUE,KEY=VALUE -> {"name", "options"}; a distribution may stand before: package:NAME.

    flag: the option of the command line or the field, for messages.
    """
    head, equals, rest = text.partition("=")
    *name, key = head.split(":") if equals else [text, ""]
    options = f"{key}={rest}" if equals else ""
    pairs = re.split(PAIRS, options) if options else []
    return {"name": ":".join(name), "options": key_values(pairs, flag)}


def key_values(items: Sequence[str], flag: str, *, nest: bool = True, example: str = "key=value") -> dict[str, Any]:
    """["lit=0.5", "evidence=heat"] -> {"lit": "0.5", ...}; the options model of a plug-in reads the values.

    A value that starts with [ or { is read as JSON, for lists and nested options. nest: a dotted key makes a table.
    """
    result: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise OptionError(f"{flag} {item!r}: expected KEY=VALUE, as in {flag} {example}")
        *parents, last = key.strip().split(".") if nest else [key.strip()]
        table = result
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise OptionError(f"{flag} {key}: {parent} was given a value of its own")
        if last in table:
            raise OptionError(f"{flag} {key}: given twice")
        table[last] = from_text(text, None, f"{flag} {key}")
    return result


def from_text(value: Any, annotation: Any, name: str) -> Any:
    """Text as a model takes it: JSON where it begins as such, several values where the field holds several."""
    if not isinstance(value, str):
        return [from_text(item, None, name) for item in value] if isinstance(value, list) else value
    if value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"{name}: not valid JSON: {error}") from None
    if get_origin(annotation) is not tuple or "," not in value:
        return value
    return several(value)


def several(text: str) -> list[str]:
    """Split at commas; options of one plug-in stay with it: noise:level=8,correlation=0.5."""
    return re.split(r",(?![A-Za-z_][\w.]*=)", text)


def as_text(value: Any) -> str:
    """A value in words, which `from_text` and the options models take back as it was."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list | dict):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
