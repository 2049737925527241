"""Writes docs/cli.md, the reference of the command line, from the commands themselves.

python docs/build_cli.py > docs/cli.md
"""

import inspect
from collections.abc import Iterator
from textwrap import fill, indent
from typing import Any

from typer.main import get_command

from fusionkit.cli.app import app
from fusionkit.cli.lazy import CODE

HEAD = """# The command line

`fusionkit COMMAND --help` shows this text for each command. This page is generated: `python docs/build_cli.py >
docs/cli.md`.
"""


def page() -> str:
    """The page as Markdown."""
    return HEAD + "".join(_section(name, command) for name, command in commands())


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, groups resolved."""
    group: Any = get_command(app)
    for name in sorted(group.commands):
        command = group.load(name)
        if hasattr(command, "commands"):
            for inner, subcommand in sorted(command.commands.items()):
                yield f"{name} {inner}", subcommand
        else:
            yield name, command


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([name, *(p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments), "[OPTIONS]"])
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        label = parameter.name.upper() if parameter in arguments else ", ".join(parameter.opts)
        if parameter.param_type_name == "option" and parameter.secondary_opts:
            label += " / " + ", ".join(parameter.secondary_opts)
        shown = getattr(parameter, "show_default", None)
        default = shown if isinstance(shown, str) else _default(parameter)
        text = inspect.cleandoc(parameter.help or "").replace("|", "\\|")
        rows.append(f"| `{label}` | {text} | {default} |\n")
    table = "\n| argument, option | meaning | default |\n|---|---|---|\n" + "".join(rows) if rows else ""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    text = "\n\n".join(indent(part, "    ") if CODE.match(part) else fill(part, 118) for part in paragraphs)
    return f"\n## fusionkit {name}\n\n    fusionkit {usage}\n\n{text}\n{table}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None or parameter.default is False or parameter.default in ((), []):
        return ""
    return f"`{parameter.default}`"


if __name__ == "__main__":
    print(page(), end="")
