"""Options that several commands have, and what a shell completes them with. Imports nothing heavy."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Device", "Force", "Machine", "Preset", "Set", "Task", "plugins_completion"]


def plugins_completion(kind: str) -> Callable[[str], list[str]]:
    """Completes the name of a plug-in."""

    def complete(incomplete: str) -> list[str]:
        from ..registry.loading import get_registry

        return [name for name in get_registry().names(kind) if name.startswith(incomplete)]

    return complete


def _tasks(incomplete: str) -> list[str]:
    from ..method.presets import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def _presets(incomplete: str) -> list[str]:
    from ..method.presets import preset_names

    files = Path(incomplete).parent.glob(f"{Path(incomplete).name}*.toml") if incomplete else Path().glob("*.toml")
    return [name for name in (*preset_names(), *map(str, files)) if name.startswith(incomplete)]


Task = Annotated[
    str | None,
    typer.Option(
        help="ivif, mef, mff or medical: prior and options measured best for it; options given here override them.",
        rich_help_panel="Method",
        autocompletion=_tasks,
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
