"""Text of the command line -> keys and values; messages on one line."""

from typing import Any

from ..errors import OptionError

__all__ = ["key_values", "printable"]

EXAMPLES = {"--prior-opt": "lit=0.5", "--set": "prior.lit=0.5"}


def key_values(items: list[str], flag: str, *, nest: bool = True) -> dict[str, Any]:
    """["lit=0.5", "evidence=heat"] -> {"lit": "0.5", ...}; the options model of a plug-in reads the values.

    A value that starts with [ or { is read as JSON, for lists and nested options. nest: a dotted key makes a table.
    """
    import json

    result: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise OptionError(f"{flag} {item!r}: expected KEY=VALUE, as in {flag} {EXAMPLES.get(flag, 'key=value')}")
        value: Any = text
        if text[:1] in ("[", "{"):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise OptionError(f"{flag} {key}: not valid JSON: {error}") from None
        *parents, last = key.strip().split(".") if nest else [key.strip()]
        table = result
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise OptionError(f"{flag} {key}: {parent} was given a value of its own")
        table[last] = value
    return result


def printable(message: object) -> str:
    """A message on one line, with control characters escaped: file names may hold some."""
    line = " ".join(str(message).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
