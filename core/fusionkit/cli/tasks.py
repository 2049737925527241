"""`fusionkit tasks`: what --task chooses."""

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="List and show the tasks: what --task chooses.", no_args_is_help=True)


@app.command("list")
def list_tasks() -> None:
    """List the tasks, a line each."""
    from ..method.presets import load_task, task_names, task_text

    for name in task_names():
        about = task_text(name).partition("\n")[0].removeprefix("# ").partition(". ")[0]
        typer.echo(f"{name:8} {about.rstrip('.')}: prior {load_task(name)['prior'].rpartition(':')[2]}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="ivif, mef, mff or medical.")]) -> None:
    """Show what a task chooses, as TOML that --preset takes."""
    from ..method.presets import task_text

    typer.echo(task_text(name).rstrip())
