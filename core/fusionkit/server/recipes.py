"""A page's choices written as a command, a TOML preset and Python code, which make the same picture anywhere."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..method.words import as_text
from ..registry.kinds import METHOD
from .choices import spans_of


def as_command(choices: Mapping[str, Any], names: Sequence[str], many: Sequence[str] = ()) -> str:
    """Write the command `fusionkit run ...` for files of these names. many: what names all scenes instead."""
    words = ["fusionkit", "run", *(many or names)]
    flat = {key: value for key, value in choices.items() if key != "sampler" and not key.endswith("_options")}
    for field, value in {**flat, **choices.get("sampler", {})}.items():
        flag = f"--{field.replace('_', '-')}"
        for one in (
            value.replace(", ", ",").split() if field == "range" else value if isinstance(value, list) else [value]
        ):
            words += [flag] if one is True else [flag, as_text(one)]
    for key, kind in METHOD.items():
        for option, value in choices.get(f"{key}_options", {}).items():
            words += [f"{kind.flag}-opt", f"{option}={as_text(value)}"]
    return shlex.join([*words, "-o", "fused" if many else "fused.png"])


def as_toml(choices: Mapping[str, Any]) -> str:
    """Write a preset in TOML; a range is a matter of files, which a comment says."""
    lines = [f"# sources were read with the range {choices['range']}"] if "range" in choices else []
    choices = {key: value for key, value in choices.items() if key != "range"}
    tables = {key: value for key, value in choices.items() if isinstance(value, Mapping)}
    lines += [f"{key} = {_toml(value)}" for key, value in choices.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines).strip() + "\n"


def as_python(choices: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write a call of `fusionkit.fuse`."""
    spans = spans_of(choices)
    sources = [repr(name) for name in names]
    if set(spans) != {"auto"}:
        each = [spans[min(i, len(spans) - 1)] for i in range(len(names))]
        sources = [f"fusionkit.read_image({name}, {span!r})" for name, span in zip(sources, each, strict=True)]
    arguments = [*sources, *(f"{key}={value!r}" for key, value in choices.items() if key != "range")]
    return f"import fusionkit\n\nfusionkit.fuse({', '.join(arguments)}).save('fused.png')\n"


def _toml(value: Any) -> str:
    """Write a value in TOML, whose strings, numbers and lists are those of JSON."""
    return json.dumps(value, ensure_ascii=False)
