"""Commands that are imported when they are called, so that listing them imports neither pydantic nor their modules."""

import difflib
import inspect
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ..errors import OptionError

EMPTY = re.compile(r"(--[\w-]+=)?")  # a word of a command without a value
CODE = re.compile(r'fusionkit |[\w."]+ = ')  # lines of a docstring that are commands or TOML

# command, which is its module: the first paragraph of its help
COMMANDS = {
    "run": "Fuse images, or folders of them.",
    "compare": "Fuse one set of images by every suitable prior and task, side by side on one sheet.",
    "align": "Find the transform of a rig of cameras over many pairs, and move labels by one.",
    "demo": "Make pairs of images by code, fuse them, and write one comparison picture per pair.",
    "serve": "Open a page in the browser on which images are fused, compared and inspected.",
    "evaluate": "Score fused images with metrics whose definitions are stated.",
    "ablate": "Run a grid of methods over the same pairs, score and compare them, and take them apart.",
    "survival": "Put small targets into one source and count those that an ideal observer still finds in the fusion.",
    "judge": "Compare methods by the eyes of people who do not know which is which.",
    "train": "Train a plug-in's weights on folders of images. Started again with the same options, it continues.",
    "new": "Write a complete package for a plug-in: entry point, options, implementation, tests, README, CI.",
    "bench": "Measure a method on this machine: images per second, seconds per stage, memory, share of the peak.",
    "doctor": "Print versions, extras, devices, threads, plug-ins and weights; exit 1 if something is broken.",
    "tasks": "List and show the tasks: what --task chooses.",
    "plugins": "List, describe and check plug-ins.",
    "weights": (
        "Import published checkpoints; list, show, verify and remove weights. They are kept in "
        "$FUSIONKIT_HOME/weights, or in the platform's folder for caches."
    ),
}


class Commands(TyperGroup):
    """The root group."""

    def __init__(self, **settings: Any) -> None:
        settings["commands"] = {name: TyperCommand(name, help=text) for name, text in COMMANDS.items()}
        super().__init__(**settings)

    def load(self, name: str) -> Any:
        """The command itself, from its module: its function of the same name, or its group."""
        module = import_module(f".{name}", __package__)
        group = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(add_completion=False, context_settings=dict(self.context_settings))
            group.command(name)(getattr(module, name))
        self.commands[name] = command = get_command(group)
        command.name, command.help = name, command.help or COMMANDS[name]
        for told in (command, *getattr(command, "commands", {}).values()):
            _tell(told)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, loaded now. An empty word, as of an unset variable of the shell, is refused."""
        for before, word in pairwise(["", *args]):
            if EMPTY.fullmatch(word):
                empty = word or f"{before} ''"
                raise OptionError(f"{empty}: is empty; give a value, or leave the option out")
        if args and args[0] in COMMANDS:
            self.load(args[0])
        elif args and not args[0].startswith("-"):
            hint = "`fusionkit run A B` fuses images; `fusionkit -h` lists all commands"
            if Path(args[0]).suffix or Path(args[0]).exists():
                hint = f"`fusionkit run {' '.join(args)}` fuses images"
            elif near := difflib.get_close_matches(args[0], COMMANDS, n=1):
                hint = f"did you mean {near[0]!r}?"
            raise OptionError(f"{args[0]} is no command; {hint}")
        return cast(Any, super()).resolve_command(ctx, args)


def _tell(command: Any) -> None:
    """Help as terminals show it: paragraphs in any width, arguments in capitals, flags without a type."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(part if CODE.match(part) else " ".join(part.split()) for part in paragraphs)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.metavar = parameter.metavar or parameter.name.upper()
        elif parameter.is_flag:
            parameter.metavar = ""
