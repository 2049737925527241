"""Command-line text -> choices of `PipelineConfig`."""

import math
from typing import Any

from ..errors import OptionError

__all__ = ["key_values", "printable", "size", "spans"]


def key_values(items: list[str], flag: str) -> dict[str, Any]:
    """["lam=0.5", "recompose=v_plus_x"] -> {"lam": "0.5", ...}; values are parsed by the plug-in's options model.

    A value that starts with [ or { is read as JSON, for lists and nested options; a dotted key nests.
    """
    import json

    result: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise OptionError(f"{flag} {item!r}: expected KEY=VALUE, as in {flag} lam=0.5")
        value: Any = text
        if text[:1] in ("[", "{"):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise OptionError(f"{flag} {key}: not valid JSON: {error}") from None
        *parents, last = key.strip().split(".")
        table = result
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise OptionError(f"{flag} {key}: {parent} was given a value of its own")
        table[last] = value
    return result


def spans(items: list[str]) -> tuple[tuple[float, float], ...]:
    """["0,4095"] -> ((0.0, 4095.0),)."""
    result = []
    for item in items:
        try:
            low, high = (float(part) for part in item.split(","))
        except ValueError:
            raise OptionError(f"--range {item!r}: expected BLACK,WHITE, as in --range 0,4095") from None
        if not (high > low and math.isfinite(high - low)):
            raise OptionError(f"--range {item!r}: white must be above black, and both finite")
        result.append((low, high))
    return tuple(result)


def printable(message: object) -> str:
    """A message on one line; what a file's names could tell a terminal is shown, not obeyed."""
    line = " ".join(str(message).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def size(text: str | None, flag: str) -> tuple[int, int] | None:
    """Text such as 768x1024 -> (768, 1024)."""
    if text is None:
        return None
    height, separator, width = text.partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise OptionError(f"{flag} {text!r}: expected HEIGHTxWIDTH, as in {flag} 768x1024")
    return int(height), int(width)
