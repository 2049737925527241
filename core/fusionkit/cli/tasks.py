"""`fusionkit tasks`: what --task chooses."""

from typing import Annotated

import typer

from ..method.presets import task_names, task_scene, task_text
from ..registry.kinds import METHOD

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command("list")
def list_tasks() -> None:
    """List the tasks, a line each."""
    for name in task_names():
        scene = task_scene(name)
        typer.echo(f"{name:8} {scene.title}: prior {METHOD['prior'].default}, evidence={scene.name}")


@app.command()
def show(name: Annotated[str, typer.Argument(help=f"{', '.join(task_names())}.")]) -> None:
    """Show what a task chooses, as TOML that --preset takes."""
    typer.echo(task_text(name).rstrip())
