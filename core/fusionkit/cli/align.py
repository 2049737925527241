"""`fusionkit align`: the transform of a rig of cameras, and labels moved by one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..batch.options import FileOptions
from ..engines.options import EngineOptions
from ..errors import OptionError
from .fields import model_options, with_options
from .given import Given
from .messages import tell_failures
from .parameters import Force
from .voice import Reporter

MODELS = ("translation", "rigid", "affine")

app = typer.Typer(add_completion=False, no_args_is_help=True)

Pairs = Annotated[
    list[Path], typer.Argument(help="Folders, patterns in quotes or a table of pairs, as in `run --pairs`.")
]
Group = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="PAIRS are one folder or pattern: N files in turn, by EXIF time or name."),
]
Rig = Annotated[
    Path, typer.Option("--output", "-o", help="The file of transforms, .json; for one source .csv, .txt or .npy.")
]
Model = Annotated[
    str, typer.Option(metavar="|".join(MODELS), help="How the cameras lie: shifted, turned, scaled and sheared.")
]
Fov = Annotated[
    list[float],
    typer.Option(
        metavar="VALUE",
        min=0.05,
        max=20,
        help="Field of view of the sources in units of the reference's, as in 0.7; once, or once per source. By "
        "default what the files state; without that, 0.4 to 2.5 are searched.",
    ),
]


@app.command()
@with_options(
    *model_options(FileOptions, "Sources", only=("range", "bands", "max_pixels")),
    *model_options(EngineOptions, "Workers"),
)
def fit(
    pairs: Pairs,
    output: Rig,
    group: Group = 0,
    model: Model = "affine",
    fov: Fov = [],  # noqa: B006
    reference: Annotated[int, typer.Option(metavar="N", min=0, help="Number of the reference; 0: by colour.")] = 0,
    force: Force = False,
    **given: Any,
) -> None:
    """Estimate one transform over many pairs of a rig, for `run --transform`.

    fusionkit align fit thermal visible -o rig.json
    fusionkit run --pairs thermal visible --transform rig.json -o fused

    Each pair is registered by itself. What most of those with a sure match agree on is written; pairs that disagree,
    and a drift over the order of the pairs, are told and are in the file.
    """
    from ..batch.plan import plan_folders
    from ..batch.rig import RigOptions, fit_rig
    from ..images.transforms import save_transforms
    from ..storage.atomic import check_place
    from .progress import progress

    if model not in MODELS:
        raise OptionError(f"--model {model}: expected one of {', '.join(MODELS)}")
    check_place(output, pairs, replaceable=force)
    asked, reporter = Given(given), Reporter()
    files, engine = asked.options(FileOptions), asked.options(EngineOptions)
    plan = plan_folders(pairs, output, group=group, reference=reference)
    reporter.plan(plan)
    count = max(len(job.sources) for job in plan.jobs)
    if len(fov) not in (0, 1, count):
        raise OptionError(f"--fov: {len(fov)} fields of view for {count} sources; give one, or one per source")
    with progress("pairs") as say:
        rig = fit_rig(
            plan.jobs,
            RigOptions(model, tuple(fov), reference),  # type: ignore[arg-type]
            files,
            engine.make(),
            report=say,
        )
    save_transforms(output, rig.rows)
    tell_failures(rig.failures, "not read", " could not be read")
    for line in rig.lines:
        typer.echo(line)
    typer.echo(str(output))


@app.command()
def labels(
    source: Annotated[Path, typer.Argument(help="Labels of the moved source: a file, or a folder of them.")],
    output: Annotated[Path, typer.Argument(help="The file or folder for the moved labels.")],
    transform: Annotated[Path, typer.Option(help="File of transforms: of `align fit`, or --save-transform.")],
    number: Annotated[
        int, typer.Option("--source", metavar="N", min=0, help="Number of the labelled source; 0: the only one moved.")
    ] = 0,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Move from the reference's pixels to the source's.")
    ] = False,
    visible: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=1, help="Drop boxes of which less than this share lies in the frame."),
    ] = 0.3,
    force: Force = False,
) -> None:
    """Move boxes of YOLO (.txt), COCO (.json) and VOC (.xml) from a source's pixels to the reference's.

    fusionkit align labels --transform rig.json thermal/labels visible/labels

    Fused images have the reference's pixels. Boxes are cut at the frame; turned ones enclose what lies between their
    moved corners and the ellipse inside.
    """
    from ..batch.labels import move_labels, mover
    from ..images.transforms import read_transforms

    moved = move_labels(
        source, output, mover(read_transforms(transform), number, visible, inverse=inverse), force=force
    )
    if moved.others:
        typer.echo(f"{len(moved.others)} files are no labels and were left out: {moved.others[0].name} ...", err=True)
    typer.echo(
        f"{output}: {moved.kept} boxes in {moved.files} files, {moved.cut} of them cut at the frame; {moved.dropped} "
        f"dropped, of which less than {visible:.0%} is seen"
    )
