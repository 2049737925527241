"""`fusionkit run`: fuse files or folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions
from ..engines.options import EngineOptions
from ..errors import OptionError
from ..method.config import PipelineConfig, SamplerOptions
from ..registry.kinds import KINDS
from ..registry.kinds import METHOD as PARTS
from ..video.options import VideoOptions, is_video
from .choices import key_values
from .fields import chosen, model_options, part_options, parts_chosen, stage_choice, with_options
from .voice import Voice

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..method.pipeline import Pipeline

__all__ = ["run"]

METHOD, FLOW, FILES, WORKERS, VIDEO = "Method", "Sampling", "Files", "Workers", "Video"


@with_options(
    *part_options(METHOD),
    *model_options(SamplerOptions, FLOW),
    *model_options(PipelineConfig, METHOD, skip=("sampler", "stages", *PARTS)),
    *model_options(FileOptions, FILES),
    *model_options(EngineOptions, WORKERS),
    *model_options(VideoOptions, VIDEO),
)
def run(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more registered images of one scene, or one file that holds several (IMAGE#2: its second); "
            "with --pairs, folders of them."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The result; with --pairs, the folder for results.",
            show_default="NAME-fused beside the reference NAME",
        ),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="SOURCES are folders (files of one name belong together), patterns in quotes ('shots/*_ir.tif' "
            "'shots/*_vis.jpg'), or a table of paths (.csv, .parquet).",
        ),
    ] = False,
    shards: Annotated[
        bool,
        typer.Option(
            "--shards",
            help="SOURCES are tar files of pairs (KEY.ir.png beside KEY.vis.png), or patterns of them ('in/*.tar', "
            "s3://bucket/in-{0000..0099}.tar); results are tar files with a ledger each, in the folder or below the "
            "address that -o names.",
        ),
    ] = False,
    group: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="SOURCES are one folder or pattern: brackets of N files in turn, by EXIF time or name.",
        ),
    ] = 0,
    machine: Annotated[
        bool, typer.Option("--json", help="One JSON object a result on stdout, for programs.", rich_help_panel=FILES)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=FILES)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also say seconds a stage and memory.", rich_help_panel=FILES)
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
    fusionkit run --task mef --group 3 brackets -o out_dir
    fusionkit run ir.mp4 vis.mp4 -o fused.mp4

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
    engine = validate_options(EngineOptions, chosen(given, EngineOptions), "engine")

    from ..method.pipeline import Pipeline

    voice = Voice(machine, quiet, verbose)
    suffix = f".{extension.lower().removeprefix('.')}"
    if shards:
        _run_shards(Pipeline(config, device=device), sources, output, suffix, engine, files, voice)
    elif pairs or group:
        _run_folders(config, device, sources, output, suffix, group, engine, files, voice)
    elif any(is_video(source) for source in sources):
        options = validate_options(VideoOptions, chosen(given, VideoOptions), "video")
        _run_video(Pipeline(config, device=device), sources, output, options, engine, files, manifest, voice)
    else:
        _run_one(Pipeline(config, device=device), sources, output, files, manifest, voice)


def _run_one(
    pipeline: "Pipeline", sources: list[Path], output: Path | None, files: FileOptions, manifest: bool, voice: Voice
) -> None:
    from ..batch.plan import job_of
    from ..batch.run import beside_reference, fuse_files
    from ..storage.manifest import Manifest

    if output is not None and not output.name:
        raise OptionError(f"`output={str(output)!r}`: is a folder; name a file, such as fused.png")
    job = job_of(sources, output or Path("fused.png"))
    if output is None:
        job = beside_reference(pipeline, job, files)
    record = Manifest(job.output.with_name(f"{job.output.stem}.manifest.jsonl")) if manifest else None
    outcome = fuse_files(pipeline, job, files, record, description=pipeline.describe())
    voice.outcome(outcome, alone=True)
    voice.line(f"{job.output} ({outcome.seconds:.1f} s)")


def _run_video(
    pipeline: "Pipeline",
    sources: list[Path],
    output: Path | None,
    options: VideoOptions,
    engine: EngineOptions,
    files: FileOptions,
    manifest: bool,
    voice: Voice,
) -> None:
    import time

    from ..storage.manifest import Manifest
    from ..video.plan import plan_video
    from ..video.run import fuse_video, lost_segment

    if output is None:
        raise OptionError("video needs `output`, such as fused.mp4")
    video = plan_video(pipeline, sources, output, options, files.force)
    began, frames, alone, bad = time.monotonic(), 0, 0, 0
    with _bar(voice) as progress:
        task = progress.add_task("", total=len(video.segments), rate="")
        for outcome in fuse_video(pipeline, video, engine.make(lost_segment), force=files.force):
            frames, alone = frames + outcome.frames, alone + outcome.alone
            bad += outcome.status == "failed"
            rate = frames / max(1e-9, time.monotonic() - began)
            progress.update(
                task, advance=1, description=f"to {outcome.segment.stop:.0f} s", rate=f"{rate:.1f} frames/s"
            )
            voice.segment(outcome)
    voice.counted()
    seconds = time.monotonic() - began
    if alone:
        voice.warning(f"{alone} frames of the reference had no partner within {video.within:.3f} s and were left out")
    if bad:
        voice.line(f"{output}: not finished; what is done is kept, the same command goes on")
        raise typer.Exit(1)
    if manifest:
        described = {"sources": [str(s) for s in sources], "frames": frames, "seconds": round(seconds, 3)}
        Manifest(output.with_name(f"{output.stem}.manifest.jsonl")).append("video", **described, **pipeline.describe())
    voice.line(f"{output}: {frames} frames fused, {frames / max(seconds, 1e-9):.1f} a second")


def _run_shards(
    pipeline: "Pipeline",
    sources: list[Path],
    output: Path | None,
    suffix: str,
    engine: EngineOptions,
    files: FileOptions,
    voice: Voice,
) -> None:
    from ..batch.shards import fuse_shards, lost_shard, plan_shards

    _check_suffix(suffix)
    if output is None:
        raise OptionError("`shards` needs `output`, the folder or address for results")
    plan = plan_shards([str(source) for source in sources], str(output))
    counts = {"fused": 0, "skipped": 0, "failed": 0}
    pairs, bad, spent = 0, 0, 0.0
    with _bar(voice) as progress:
        task = progress.add_task("", total=len(plan), rate="")
        for outcome in fuse_shards(pipeline, plan, files, engine.make(lost_shard), suffix):
            counts[outcome.status] += 1
            pairs, bad, spent = pairs + outcome.fused, bad + outcome.failed, spent + outcome.seconds
            rate = f"{pairs / spent:.2f} pairs/s a worker" if spent else ""
            progress.update(task, advance=1, description=outcome.shard.source.rpartition("/")[2], rate=rate)
            voice.shard(outcome)
    voice.line(
        f"{output}: {counts['fused']} shards of {pairs} pairs fused, {counts['skipped']} finished before, "
        f"{counts['failed']} failed; {bad} pairs failed"
    )
    if counts["failed"] or bad:
        raise typer.Exit(1)


def _check_suffix(suffix: str) -> None:
    from ..images.write import CONTAINERS

    if suffix not in CONTAINERS:
        raise OptionError(f"--ext {suffix}: expected one of {', '.join(CONTAINERS)}")


def _bar(voice: Voice) -> "Progress":
    """A bar with what a second brings and the time that is left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    shown = not (voice.machine or voice.quiet)
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, disable=not shown)


def _run_folders(
    config: PipelineConfig,
    device: str,
    sources: list[Path],
    output: Path | None,
    suffix: str,
    group: int,
    engine: EngineOptions,
    files: FileOptions,
    voice: Voice,
) -> None:
    from ..batch.plan import plan_folders
    from ..batch.run import fuse_folders, lost
    from ..method.pipeline import Pipeline

    _check_suffix(suffix)
    if output is None:
        raise OptionError("`pairs` needs `output`, the folder for results")
    plan = plan_folders(sources, output, suffix, group)
    voice.plan(plan)
    if not plan.jobs:
        raise OptionError(f"no file names in common between {', '.join(map(str, sources))}")
    pipeline = Pipeline(config, device=device)
    counts = {"fused": 0, "skipped": 0, "failed": 0}
    with _bar(voice) as progress:
        task = progress.add_task("", total=len(plan.jobs), rate="")
        spent = 0.0
        unmatched = [str(path) for path in plan.unmatched]
        for outcome in fuse_folders(pipeline, plan.jobs, output, files, unmatched, engine.make(lost)):
            counts[outcome.status] += 1
            spent += outcome.seconds
            rate = f"{counts['fused'] / spent:.2f}/s" if spent else ""
            progress.update(task, advance=1, description=outcome.job.key, rate=rate)
            voice.outcome(outcome)
        voice.counted()
    voice.line(f"{output}: {counts['fused']} fused, {counts['skipped']} finished before, {counts['failed']} failed")
    if counts["failed"] or plan.ambiguous:
        raise typer.Exit(1)
