"""Options that several commands share, with their completion in a shell. Imports nothing heavy."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from ..method.presets import task_names
from ..scene import SCENE_KINDS

TASKS = ", ".join(f"{kind.task} ({kind.title})" for kind in SCENE_KINDS.values())


def plugins_completion(kind: str, words: Sequence[str] = ()) -> Callable[[str], list[str]]:
    """A function that completes the name of a plug-in, after `NUMBER=` too. words: what may stand in its place."""

    def complete(incomplete: str) -> list[str]:
        from ..registry.loading import get_registry

        number, equals, begun = incomplete.rpartition("=")
        names = [name for name in (*words, *get_registry().names(kind)) if name.startswith(begun)]
        return [f"{number}{equals}{name}" for name in names]

    return complete


def named_folders(items: Sequence[str], option: str) -> dict[str, Path]:
    """Folders by name, from [NAME=]FOLDER; a folder without a name has its own. Raises OptionError."""
    folders: dict[str, Path] = {}
    for item in items:
        name, separator, folder = item.partition("=")
        path = Path(folder if separator else name)
        name = name if separator else path.name or str(path)
        if not name or (separator and not folder):
            raise OptionError(f"{option} {item!r}: expected NAME=FOLDER, or FOLDER")
        if name in folders:
            raise OptionError(f"{option} names {name!r} twice; give NAME=FOLDER")
        folders[name] = path
    return folders


def _tasks(incomplete: str) -> list[str]:
    return [name for name in task_names() if name.startswith(incomplete)]


def _presets(incomplete: str) -> list[str]:
    from ..method.presets import preset_names

    files = Path(incomplete).parent.glob(f"{Path(incomplete).name}*.toml") if incomplete else Path().glob("*.toml")
    return [name for name in (*preset_names(), *map(str, files)) if name.startswith(incomplete)]


Task = Annotated[
    str | None,
    typer.Option(
        help=f"Prior and options measured best for a kind of scene: {TASKS}; options given here override them.",
        rich_help_panel="Method",
        metavar="|".join(task_names()),
        autocompletion=_tasks,
    ),
]
Priors = Annotated[
    str,
    typer.Option(
        metavar="A,B",
        help="Only these priors; options behind a colon, as in em_tv,network:file=theirs.onnx.",
        show_default="all that suit the scene",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Choices from a TOML file or a shipped preset (rffusion-released); options given here override them.",
        rich_help_panel="Method",
        autocompletion=_presets,
    ),
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any field of a preset, as in decoder.weights=vq-small, spacing=quadratic or stretch=minmax; repeatable.",
        rich_help_panel="Method",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Machine = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
