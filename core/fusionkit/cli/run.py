"""`fusionkit run`: fuse files or folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OptionError
from .choices import key_values, size, spans

if TYPE_CHECKING:
    from ..jobs import FileOptions, Matching, Outcome
    from ..pipeline import Pipeline

__all__ = ["run"]

METHOD, FLOW, FILES = "Method", "Sampling", "Files"


def run(
    sources: Annotated[
        list[Path], typer.Argument(help="Two or more registered images of one scene; with --pairs, folders of them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The result; with --pairs, the folder for results.")],
    pairs: Annotated[
        bool, typer.Option("--pairs", help="SOURCES are folders; files are matched by name without extension.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="ivif, mef, mff or medical: the prior and options measured best for it; options given here override.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    prior: Annotated[
        str | None, typer.Option(help="Fusion prior.", rich_help_panel=METHOD, show_default="em_tv")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Flow model.", rich_help_panel=METHOD, show_default="rf")] = None,
    decoder: Annotated[
        str | None, typer.Option(help="Autoencoder.", rich_help_panel=METHOD, show_default="the backbone's")
    ] = None,
    color: Annotated[
        str | None, typer.Option(help="Colour space.", rich_help_panel=METHOD, show_default="ycbcr")
    ] = None,
    prior_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", rich_help_panel=METHOD, help="Option of the prior; repeatable.")
    ] = [],  # noqa: B006
    backbone_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", rich_help_panel=METHOD, help="Option of the backbone.")
    ] = [],  # noqa: B006
    decoder_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", rich_help_panel=METHOD, help="Option of the decoder.")
    ] = [],  # noqa: B006
    color_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", rich_help_panel=METHOD, help="Option of the colour space.")
    ] = [],  # noqa: B006
    preset: Annotated[
        str | None,
        typer.Option(
            help="Choices from a TOML file or a shipped preset (rffusion-released); options given here override them.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    reference: Annotated[
        int | None,
        typer.Option(
            help="Number of the reference source, from 1.",
            rich_help_panel=METHOD,
            show_default="the only one with colour, else the last",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", rich_help_panel=FLOW, show_default="1")] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Share of noise the start image is taken to, (0, 1].", rich_help_panel=FLOW, show_default="0.1"
        ),
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="euler, heun, rk45 or additive.", rich_help_panel=FLOW, show_default="euler")
    ] = None,
    inject: Annotated[
        str | None,
        typer.Option(help="Where the prior acts: x0, velocity, both or none.", rich_help_panel=FLOW, show_default="x0"),
    ] = None,
    sampler_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", rich_help_panel=FLOW, help="Any other option of the sampler.")
    ] = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(help="Seed of the noise.", rich_help_panel=FLOW, show_default="0")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=FLOW)] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of the networks' tiles in pixels; less needs less memory.",
            rich_help_panel=FLOW,
            show_default="512 above 1.5 megapixels",
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="reference",
            help="Resize the other sources to the reference.",
            rich_help_panel=FILES,
            show_default="sizes must agree",
        ),
    ] = None,
    working_size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Fuse at this size; the result has the reference's.",
            rich_help_panel=FILES,
            show_default="the reference's",
        ),
    ] = None,
    depth: Annotated[
        str | None, typer.Option(help="8, 16 or float.", rich_help_panel=FILES, show_default="the reference's")
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option(
            help="none or minmax: stretch the result to the full range.", rich_help_panel=FILES, show_default="none"
        ),
    ] = None,
    value_range: Annotated[
        list[str],
        typer.Option(
            "--range",
            metavar="BLACK,WHITE",
            rich_help_panel=FILES,
            help="Stored values that mean black and white in 16-bit and float sources; once, or per source.",
        ),
    ] = [],  # noqa: B006
    extension: Annotated[
        str, typer.Option("--ext", help="Extension of results with --pairs.", rich_help_panel=FILES)
    ] = ".png",
    png_level: Annotated[int, typer.Option(min=0, max=9, help="PNG compression.", rich_help_panel=FILES)] = 1,
    max_pixels: Annotated[
        int | None, typer.Option(help="Refuse larger images.", rich_help_panel=FILES, show_default="150 million")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite; redo finished pairs.", rich_help_panel=FILES)
    ] = False,
    manifest: Annotated[
        bool, typer.Option(help="Record options, versions, hashes and times beside the result.", rich_help_panel=FILES)
    ] = True,
) -> None:
    """Fuse images, or folders of them.

    fusionkit run --prior em_tv --backbone rf ir.png vis.png -o fused.png
    fusionkit run --task mff near.png far.png -o fused.png
    fusionkit run --prior laplacian --pairs ir_dir vis_dir -o out_dir

    A folder run resumes where it stopped, goes on after a failed pair and exits with 1 if there was one.
    """
    if depth not in (None, "8", "16", "float"):
        raise OptionError(f"--depth {depth!r}: expected 8, 16 or float")
    sampler = {"steps": steps, "strength": strength, "solver": solver, "inject": inject}
    choices: dict[str, Any] = {
        "prior": prior, "backbone": backbone, "decoder": decoder, "color": color, "reference": reference,
        "seed": seed, "tile": tile, "resize": resize, "stretch": stretch,
        "working_size": size(working_size, "--working-size"),
    }  # fmt: skip
    tables = {
        "prior_options": key_values(prior_opt, "--prior-opt"),
        "backbone_options": key_values(backbone_opt, "--backbone-opt"),
        "decoder_options": key_values(decoder_opt, "--decoder-opt"),
        "color_options": key_values(color_opt, "--color-opt"),
        "sampler": {**key_values(sampler_opt, "--sampler-opt"), **{k: v for k, v in sampler.items() if v is not None}},
    }
    value_spans = spans(value_range)
    suffix = f".{extension.lower().removeprefix('.')}"

    from ..config import choose
    from ..images import MAX_PIXELS
    from ..jobs import FileOptions
    from ..pipeline import Pipeline

    given = {k: v for k, v in choices.items() if v is not None} | {k: v for k, v in tables.items() if v}
    config = choose(task, preset, given)
    files = FileOptions(
        depth=depth, spans=value_spans, png_level=png_level, force=force,  # type: ignore[arg-type]
        max_pixels=max_pixels or MAX_PIXELS,
    )  # fmt: skip
    if pairs:
        _run_folders(config, device, sources, output, suffix, files)
    else:
        _run_one(Pipeline(config, device=device), sources, output, files, manifest)


def _run_one(pipeline: "Pipeline", sources: list[Path], output: Path, files: "FileOptions", manifest: bool) -> None:
    from ..jobs import Job, fuse_files
    from ..manifest import Manifest

    if len(sources) < 2:
        raise OptionError("one source is nothing to fuse; give two or more images, or --pairs and folders")
    if not output.name:
        raise OptionError(f"--output {str(output)!r}: is a folder; name a file, such as fused.png")
    record = Manifest(output.with_name(f"{output.stem}.manifest.jsonl")) if manifest else None
    outcome = fuse_files(pipeline, Job(output.stem, tuple(sources), output), files, record,
                         description=pipeline.describe())  # fmt: skip
    for note in outcome.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{output} ({outcome.seconds:.1f} s)")


def _run_folders(
    config: Any, device: str, folders: list[Path], output: Path, suffix: str, files: "FileOptions"
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..images.write import CONTAINERS
    from ..jobs import fuse_folders, match_folders
    from ..pipeline import Pipeline

    if suffix not in CONTAINERS:
        raise OptionError(f"--ext {suffix}: expected one of {', '.join(CONTAINERS)}")
    if len(folders) < 2:
        raise OptionError("--pairs needs two or more folders")
    matching = match_folders(folders, output, suffix)
    console = Console(stderr=True)
    _report_unmatched(matching, console)
    if not matching.jobs:
        raise OptionError(f"no file names in common between {', '.join(map(str, folders))}")
    pipeline = Pipeline(config, device=device)
    counts = {"fused": 0, "skipped": 0, "failed": 0}
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
               TextColumn("{task.description}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(matching.jobs), rate="")
        spent = 0.0
        unmatched = [str(path) for path in matching.unmatched]
        for outcome in fuse_folders(pipeline, matching.jobs, output, files, unmatched):
            counts[outcome.status] += 1
            spent += outcome.seconds
            rate = f"{counts['fused'] / spent:.2f}/s" if spent else ""
            progress.update(task, advance=1, description=outcome.job.key, rate=rate)
            _report(outcome, console)
    typer.echo(f"{output}: {counts['fused']} fused, {counts['skipped']} finished before, {counts['failed']} failed")
    if counts["failed"] or matching.ambiguous:
        raise typer.Exit(1)


def _report(outcome: "Outcome", console: Any) -> None:
    if outcome.status == "failed":
        console.print(f"failed: {outcome.job.key}: {outcome.reason}", style="red", markup=False, soft_wrap=True)
    for note in outcome.notes:
        console.print(f"note: {outcome.job.key}: {note}", markup=False, highlight=False, soft_wrap=True)


def _report_unmatched(matching: "Matching", console: Any, limit: int = 10) -> None:
    for first, second in matching.ambiguous:
        console.print(f"failed: {first} and {second} have one name; rename or remove one", style="red", markup=False,
                      soft_wrap=True)  # fmt: skip
    if matching.unmatched:
        names = ", ".join(str(p) for p in matching.unmatched[:limit])
        more = f" and {len(matching.unmatched) - limit} more" if len(matching.unmatched) > limit else ""
        console.print(f"without a partner: {names}{more}", style="yellow", markup=False, soft_wrap=True)
