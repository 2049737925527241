"""`fusionkit compare`: every suitable method on one sheet."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..batch.options import FileOptions
from ..errors import OptionError, OutputError
from ..options import validate_options
from .fields import chosen, model_options, with_options

__all__ = ["compare"]


@with_options(*model_options(FileOptions, "Sources", only=("range", "max_pixels")))
def compare(
    sources: Annotated[list[Path], typer.Argument(help="Two or more registered images of one scene.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet: .png, .jpg or .webp.")] = Path("sheet.png"),
    priors: Annotated[
        str, typer.Option(metavar="A,B", help="Only these priors.", show_default="all that suit the scene")
    ] = "",
    columns: Annotated[int, typer.Option(metavar="N", min=1, help="Pictures side by side.")] = 3,
    width: Annotated[int, typer.Option(metavar="N", min=64, help="Pixels of a picture on the sheet, at most.")] = 480,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the sheet.")] = False,
    **given: Any,
) -> None:
    """Fuse one set of images by every suitable prior and task, side by side on one sheet.

    fusionkit compare ir.png vis.png -o sheet.png
    fusionkit compare under.png over.png --priors em_tv,mertens

    Each result has its seconds and what the audit says of it: edges kept of either source, hot objects, halos
    (docs/evaluate.md). What kind of scene it is, is recognised. Priors of other packages take part.
    """
    from ..batch.plan import job_of
    from ..comparison import Entry, scene_of, sheet_of, suitable
    from ..comparison import compare as fuse_all
    from ..images import check_output, write_image
    from ..reading import read_image
    from .progress import progress

    if output.exists() and not force:
        raise OutputError(f"{output}: exists already; --force overwrites it")
    check_output(output, "8", 3)
    files = validate_options(FileOptions, chosen(given, FileOptions), "files")
    job = job_of(sources, output)
    pictures = [
        read_image(path, files.span(i), files.max_pixels, number) for i, (path, number) in enumerate(job.places)
    ]
    if len({p.name for p in pictures}) < len(pictures):  # ir/1.png and vis/1.png
        named = zip(pictures, job.sources, strict=True)
        pictures = [replace(p, name=f"{path.parent.name}/{p.name}") for p, path in named]
    scene = scene_of(pictures)
    methods = suitable(scene)
    if priors:
        methods = {name.strip(): {"prior": name.strip()} for name in priors.split(",")}

    from rich.console import Console

    entries: list[Entry] = []
    with progress(Console(stderr=True)) as say:
        for number, entry in enumerate(fuse_all(pictures, methods, scene, device=device), 1):
            entries.append(entry)
            say(f"{number} of {len(methods)}: {entry.name}")
    if not any(entry.image is not None for entry in entries):
        raise OptionError(f"no method could fuse these: {entries[0].name}: {entries[0].reason}")
    write_image(output, sheet_of(pictures, entries, width, columns), "8", png_level=6)
    for entry in entries:
        if entry.image is None:
            typer.echo(f"without {entry.name}: {entry.reason}", err=True)
        else:
            typer.echo(entry.label.replace("\n", "; "))
    typer.echo(f"{output}: taken for a scene of {scene}")
