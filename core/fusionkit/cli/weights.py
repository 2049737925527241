"""`fusionkit weights`: take in published checkpoints, list, show, verify and remove weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import WeightsError
from .messages import printable
from .reports import print_table

if TYPE_CHECKING:
    from ..weights.store import Stored

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command("import")
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, .pt, .ckpt, .safetensors or .onnx file.")],
    name: Annotated[
        str, typer.Option("--as", help="Name to store it under, for the plug-in's option weights=NAME or file=NAME.")
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration published with it (.yaml, .json or .toml).", show_default="published architecture"
        ),
    ] = None,
    plugin: Annotated[
        str | None, typer.Option("--for", metavar="KIND:NAME", help="Plug-in it is for, if the file does not tell.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace weights of that name.")] = False,
) -> None:
    """Convert a published checkpoint without running code from it.

    fusionkit weights import checkpoint_12.pth --as rf-celebahq
    fusionkit weights import autoencoder.ckpt --as rffusion-vq

    Averaged weights (EMA) are taken where there are any; every missing or unexpected tensor is an error.
    """
    from ..weights.importing import import_weights, option_of
    from ..weights.store import get_weights

    path, imported = import_weights(checkpoint, name, config=config, plugin=plugin, force=force)
    for note in imported.notes:
        typer.echo(f"note: {note}", err=True)
    count = sum(t.numel() for t in imported.tensors.values())
    option = option_of(get_weights(name))
    typer.echo(f"{path} ({len(imported.tensors)} tensors, {count:,} values); use it with {option}={name}")


@app.command("list")
def list_all() -> None:
    """List weights that can be chosen by name: name, plug-in, size, origin."""
    from rich.text import Text

    from ..weights.store import list_weights, user_folder

    rows = []
    for stored in list_weights():
        if isinstance(stored, WeightsError):
            typer.echo(f"broken: {stored}", err=True)
            continue
        size = stored.file.path.stat().st_size / 1e6
        texts = (stored.name, " ".join(stored.plugin), f"{size:.1f}", _origin(stored))
        rows.append([Text(text) for text in texts])
    print_table(("name", "for", "MB", "origin"), rows)
    typer.echo(f"imported weights are kept in {user_folder()}", err=True)


def _origin(stored: "Stored") -> str:
    if stored.shipped:
        return "shipped"
    source = stored.file.info.get("source")
    return f"imported from {source['file']}" if isinstance(source, dict) and "file" in source else "the user's own"


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name, as in `weights list`.")]) -> None:
    """Show what is recorded about weights: file, architecture, source, hashes."""
    import json

    from ..weights.store import get_weights

    stored = get_weights(name)
    typer.echo(f"file: {stored.file.path}")
    for key, value in stored.file.info.items():
        typer.echo(f"{key}: {printable(value) if isinstance(value, str) else json.dumps(value)}")


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names, as in `weights list`.", show_default="all")] = None,
) -> None:
    """Compare hashes and load weights strictly into their plug-ins; exit 2 when something is wrong."""
    from ..errors import FusionkitError
    from ..weights.importing import verify_weights
    from ..weights.store import get_weights, list_weights

    wrong = 0
    for stored in [get_weights(name) for name in names] if names else list_weights():
        try:
            if isinstance(stored, WeightsError):
                raise stored
            count = verify_weights(stored)
        except FusionkitError as error:
            typer.echo(f"wrong: {printable(error)}", err=True)
            wrong += 1
        else:
            typer.echo(f"ok: {stored.name} ({' '.join(stored.plugin)}, {count:,} values)")
    if wrong:
        raise typer.Exit(2)


@app.command()
def remove(names: Annotated[list[str], typer.Argument(help="Names of imported weights.")]) -> None:
    """Delete imported weights."""
    from ..weights.store import remove_weights

    for name in names:
        typer.echo(f"removed {remove_weights(name)}")
