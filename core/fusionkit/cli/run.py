"""`fusionkit run`: fuse files or folders."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions
from ..errors import OptionError
from ..method.config import PipelineConfig, SamplerOptions
from ..registry.kinds import KINDS
from ..registry.kinds import METHOD as PARTS
from .choices import key_values, printable
from .fields import chosen, in_flags, model_options, part_options, parts_chosen, stage_choice, with_options

if TYPE_CHECKING:
    from ..batch.plan import Plan
    from ..batch.run import Outcome
    from ..method.pipeline import Pipeline

__all__ = ["run"]

SAID, KINDS_OF_NOTES = 3, 1000  # times that one note is printed; as many different ones are counted
METHOD, FLOW, FILES = "Method", "Sampling", "Files"


@with_options(
    *part_options(METHOD),
    *model_options(SamplerOptions, FLOW),
    *model_options(PipelineConfig, METHOD, skip=("sampler", "stages", *PARTS)),
    *model_options(FileOptions, FILES),
)
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
    preset: Annotated[
        str | None,
        typer.Option(
            help="Choices from a TOML file or a shipped preset (rffusion-released); options given here override them.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    stage: Annotated[
        list[str],
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help=f"{KINDS['stage'].help[:1].upper()}{KINDS['stage'].help[1:]}; repeatable.",
            rich_help_panel=METHOD,
        ),
    ] = [],  # noqa: B006
    sampler_opt: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", rich_help_panel=FLOW, help="Option of the sampler, by its key.")
    ] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=FLOW)] = "auto",
    extension: Annotated[
        str, typer.Option("--ext", help="Extension of results with --pairs.", rich_help_panel=FILES)
    ] = ".png",
    manifest: Annotated[
        bool, typer.Option(help="Record options, versions, hashes and times beside the result.", rich_help_panel=FILES)
    ] = True,
    **given: Any,
) -> None:
    """Fuse images, or folders of them.

    fusionkit run --prior em_tv --backbone rf ir.png vis.png -o fused.png
    fusionkit run --task mff near.png far.png -o fused.png
    fusionkit run --prior laplacian --pairs ir_dir vis_dir -o out_dir

    A folder run resumes where it stopped, goes on after a failed pair and exits with 1 if there was one.
    """
    choices = {**parts_chosen(given), **chosen(given, PipelineConfig)}
    sampler = {**key_values(sampler_opt, "--sampler-opt"), **chosen(given, SamplerOptions)}
    choices |= {"sampler": sampler} if sampler else {}
    choices |= {"stages": [stage_choice(text) for text in stage]} if stage else {}

    from ..method.config import choose
    from ..options import validate_options

    config = choose(task, preset, choices)
    files = validate_options(FileOptions, chosen(given, FileOptions), "files")

    from ..method.pipeline import Pipeline

    if pairs:
        suffix = f".{extension.lower().removeprefix('.')}"
        _run_folders(config, device, sources, output, suffix, files)
    else:
        _run_one(Pipeline(config, device=device), sources, output, files, manifest)


def _run_one(pipeline: "Pipeline", sources: list[Path], output: Path, files: FileOptions, manifest: bool) -> None:
    from ..batch.plan import Job, by_picture
    from ..batch.run import fuse_files
    from ..storage.manifest import Manifest

    if not output.name:
        raise OptionError(f"`output={str(output)!r}`: is a folder; name a file, such as fused.png")
    job = Job(output.stem, tuple(sources), output)
    if len(sources) == 1:
        job = next(by_picture(job))
    if len(job.sources) < 2:
        raise OptionError("one source is nothing to fuse; give two or more images, or `pairs` and folders")
    record = Manifest(output.with_name(f"{output.stem}.manifest.jsonl")) if manifest else None
    outcome = fuse_files(pipeline, job, files, record, description=pipeline.describe())
    for note in outcome.notes:
        typer.echo(f"note: {printable(in_flags(note))}", err=True)
    typer.echo(f"{output} ({outcome.seconds:.1f} s)")


def _run_folders(
    config: PipelineConfig, device: str, folders: list[Path], output: Path, suffix: str, files: FileOptions
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..batch.plan import plan_folders
    from ..batch.run import fuse_folders
    from ..images.write import CONTAINERS
    from ..method.pipeline import Pipeline

    if suffix not in CONTAINERS:
        raise OptionError(f"--ext {suffix}: expected one of {', '.join(CONTAINERS)}")
    if len(folders) < 2:
        raise OptionError("`pairs` needs two or more folders")
    plan = plan_folders(folders, output, suffix)
    console = Console(stderr=True)
    _report_unmatched(plan, console)
    if not plan.jobs:
        raise OptionError(f"no file names in common between {', '.join(map(str, folders))}")
    pipeline = Pipeline(config, device=device)
    counts = {"fused": 0, "skipped": 0, "failed": 0}
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(plan.jobs), rate="")
        spent, said = 0.0, Counter[str]()
        unmatched = [str(path) for path in plan.unmatched]
        for outcome in fuse_folders(pipeline, plan.jobs, output, files, unmatched):
            counts[outcome.status] += 1
            spent += outcome.seconds
            rate = f"{counts['fused'] / spent:.2f}/s" if spent else ""
            progress.update(task, advance=1, description=outcome.job.key, rate=rate)
            _report(outcome, console, said)
        for note, times in said.items():
            if times > SAID:
                console.print(f"note: the same for {times - SAID} more: {note}", markup=False, soft_wrap=True)
    typer.echo(f"{output}: {counts['fused']} fused, {counts['skipped']} finished before, {counts['failed']} failed")
    if counts["failed"] or plan.ambiguous:
        raise typer.Exit(1)


def _report(outcome: "Outcome", console: Any, said: Counter[str]) -> None:
    """What went wrong, and what is to be known; a note that many pairs share is only counted after the first few."""
    if outcome.status == "failed":
        text = f"failed: {outcome.job.key}: {in_flags(outcome.reason)}"
        console.print(text, style="red", markup=False, soft_wrap=True)
    for note in map(in_flags, outcome.notes):
        if note in said or len(said) < KINDS_OF_NOTES:
            said[note] += 1
        if said[note] <= SAID:
            console.print(f"note: {outcome.job.key}: {note}", markup=False, highlight=False, soft_wrap=True)


def _report_unmatched(plan: "Plan", console: Any, limit: int = 10) -> None:
    for first, second in plan.ambiguous:
        console.print(
            f"failed: {first} and {second} have one name; rename or remove one",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    if plan.unmatched:
        names = ", ".join(str(p) for p in plan.unmatched[:limit])
        more = f" and {len(plan.unmatched) - limit} more" if len(plan.unmatched) > limit else ""
        console.print(f"without a partner: {names}{more}", style="yellow", markup=False, soft_wrap=True)
