"""`fusionkit compare`: every suitable method on one sheet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions
from ..errors import OptionError
from .fields import compared_options, model_options, with_options
from .given import Given
from .messages import in_flags, printable
from .parameters import Device, Priors, Set, Task

if TYPE_CHECKING:
    from ..comparison import Entry


@with_options(
    *compared_options(),
    *model_options(FileOptions, "Sources", only=("range", "bands", "max_pixels")),
)
def compare(
    sources: Annotated[list[Path], typer.Argument(help="Two or more registered images of one scene.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet: .png, .jpg or .webp.")] = Path("sheet.png"),
    priors: Priors = "",
    columns: Annotated[int, typer.Option(metavar="N", min=1, help="Pictures side by side.")] = 3,
    width: Annotated[int, typer.Option(metavar="N", min=64, help="Pixels of a picture on the sheet, at most.")] = 480,
    task: Task = None,
    values: Set = [],  # noqa: B006
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the sheet.")] = False,
    **given: Any,
) -> None:
    """Fuse one set of images by every suitable prior and task, side by side on one sheet.

    fusionkit compare ir.png vis.png -o sheet.png
    fusionkit compare under.png over.png --priors em_tv,mertens
    fusionkit compare ir.tif vis.jpg --resize reference --align affine

    Each result has its seconds and the audit's figures: edges kept of either source, hot objects, halos
    (docs/evaluate.md). The kind of scene is recognised, or that of --task. The options of a method that `fusionkit run`
    lists are taken here, too, such as --align; they hold for all of them. Priors of other packages take part.
    """
    from ..batch.plan import job_of
    from ..batch.run import read_sources
    from ..comparison import compare as fuse_all
    from ..comparison import scene_of, sheet_of, suitable
    from ..method.presets import task_scene
    from ..scene import SCENE_KINDS
    from ..storage.atomic import check_place
    from ..writing import check_output, write_image
    from .progress import progress

    if folders := [source for source in sources if source.is_dir()]:
        raise OptionError(f"{folders[0]}: is a folder; compare takes the images of one scene, `fusionkit run` folders")
    job = job_of(sources, output)
    check_place(output, job.sources, replaceable=force)
    check_output(output, "8", 3)
    asked = Given(given)
    files, base = asked.options(FileOptions), asked.common(values)
    pictures = read_sources(job, files)
    scene = task_scene(task).name if task else scene_of(pictures)
    methods = suitable(scene, priors)
    if task:
        methods = {name: {"task": task, **choices} for name, choices in methods.items()}
    entries = []
    with progress() as say:
        for entry in fuse_all(pictures, methods, scene, device=device, base=base):
            entries.append(entry)
            say(entry.name)
    if not any(entry.image is not None for entry in entries):
        raise OptionError(f"no method could fuse these: {entries[0].name}: {entries[0].reason}")
    write_image(output, sheet_of(pictures, entries, width, columns), "8", png_level=6)
    _tell(entries)
    typer.echo(f"{output}: treated as {SCENE_KINDS[scene].title}")


def _tell(entries: "list[Entry]") -> None:
    """Print notes, skipped methods and figures."""
    for note in dict.fromkeys(note for entry in entries for note in entry.notes):
        typer.echo(f"note: {printable(note)}", err=True)
    for entry in entries:
        if entry.image is None:
            typer.echo(f"skipped {entry.name}: {in_flags(entry.reason)}", err=True)
        else:
            typer.echo(entry.label.replace("\n", "; "))
