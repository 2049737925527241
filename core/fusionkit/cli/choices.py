"""Command-line text -> choices of `PipelineConfig`."""

from typing import Any

from ..errors import OptionError

__all__ = ["key_values", "printable"]


def key_values(items: list[str], flag: str) -> dict[str, Any]:
    """["lit=0.5", "evidence=heat"] -> {"lit": "0.5", ...}; values are parsed by the plug-in's options model.

    A value that starts with [ or { is read as JSON, for lists and nested options; a dotted key nests.
    """
    import json

    result: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise OptionError(f"{flag} {item!r}: expected KEY=VALUE, as in {flag} lit=0.5")
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


def printable(message: object) -> str:
    """A message on one line; what a file's names could tell a terminal is shown, not obeyed."""
    line = " ".join(str(message).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
