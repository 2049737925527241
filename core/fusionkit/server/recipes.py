"""A page's choices written as a command, a TOML preset and Python code, which make the same picture anywhere."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..registry.kinds import METHOD, SEVERAL

__all__ = ["as_command", "as_python", "as_toml"]


def as_command(choices: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write the command `fusionkit run ...` for files of these names."""
    words = ["fusionkit", "run", *names]
    flat = {key: value for key, value in choices.items() if key != "sampler" and not key.endswith("_options")}
    for field, value in {**flat, **choices.get("sampler", {})}.items():
        for one in value if field in SEVERAL and isinstance(value, list) else [value]:
            words += [f"--{field.replace('_', '-')}", _text(one)]
    for key, kind in METHOD.items():
        for option, value in choices.get(f"{key}_options", {}).items():
            words += [f"{kind.flag}-opt", f"{option}={_text(value)}"]
    return shlex.join([*words, "-o", "fused.png"])


def as_toml(choices: Mapping[str, Any]) -> str:
    """Write a preset in TOML."""
    tables = {key: value for key, value in choices.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {_toml(value)}" for key, value in choices.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines).strip() + "\n"


def as_python(choices: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write a call of `fusionkit.fuse`."""
    arguments = [*map(repr, names), *(f"{key}={value!r}" for key, value in choices.items())]
    return f"import fusionkit\n\nfusionkit.fuse({', '.join(arguments)}).save('fused.png')\n"


def _text(value: Any) -> str:
    """Write a value as the command line takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _toml(value: Any) -> str:
    """Write a value in TOML, whose strings, numbers and lists are those of JSON."""
    return json.dumps(value, ensure_ascii=False)
