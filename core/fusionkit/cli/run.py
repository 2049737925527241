"""`fusionkit run`: fuse files or folders."""

from pathlib import Path
from typing import Annotated, Any

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
from .voice import Reporter

__all__ = ["run"]

METHOD, FLOW, FILES, WORKERS, VIDEO = "Method", "Sampling", "Files", "Workers", "Video"
NEEDED = {
    "pairs": "`pairs` needs `output`, the folder for results",
    "shards": "`shards` needs `output`, the folder or address for results",
    "video": "video needs `output`, such as fused.mp4",
}


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

    from ..batch.plan import Plan, job_of, plan_folders, plan_shards
    from ..images.write import CONTAINERS
    from ..method.pipeline import Pipeline

    mode = "shards" if shards else "pairs" if pairs or group else "video" if any(map(is_video, sources)) else "images"
    suffix, reporter = f".{extension.lower().removeprefix('.')}", Reporter(machine, quiet, verbose)
    if mode in ("pairs", "shards") and suffix not in CONTAINERS:
        raise OptionError(f"--ext {suffix}: expected one of {', '.join(CONTAINERS)}")
    if output is None and mode != "images":
        raise OptionError(NEEDED[mode])
    place = output or Path()
    if mode == "images":
        plan = Plan([job_of(sources, output)])
    elif mode == "pairs":
        plan = plan_folders(sources, place, suffix, group)
    elif mode == "shards":
        plan = plan_shards([str(source) for source in sources], str(output))
    else:
        plan = Plan()  # of video: made with the pipeline
    if mode == "pairs" and not plan.jobs:
        reporter.plan(plan)
        raise OptionError(f"no file names in common between {', '.join(map(str, sources))}")
    pipeline = Pipeline(config, device=device)
    if mode == "images":
        from ..batch.run import fuse_files

        outcome = fuse_files(pipeline, plan.jobs[0], files, manifest=manifest)
        reporter.outcome(outcome, named=False)
        reporter.line(f"{outcome.output} ({outcome.seconds:.1f} s)")
        return
    if mode == "pairs":
        from ..batch.run import fuse_folders

        count, tasks = len(plan.jobs), ""
        outcomes = fuse_folders(pipeline, plan.jobs, place, files, [*map(str, plan.unmatched)], engine.make())
    elif mode == "shards":
        from ..batch.shards import fuse_shards

        count, tasks = len(plan.shards), "shards"
        outcomes = fuse_shards(pipeline, plan.shards, files, engine.make(), suffix)
    else:
        from ..video.plan import plan_video
        from ..video.run import fuse_video

        options = validate_options(VideoOptions, chosen(given, VideoOptions), "video")
        video = plan_video(pipeline, sources, place, options, files.force)
        count, tasks = len(video.segments), "segments"
        outcomes = fuse_video(pipeline, video, engine.make(), force=files.force, manifest=manifest)
    reporter.plan(plan)
    if not reporter.follow(outcomes, count, place, tasks) or plan.ambiguous:
        raise typer.Exit(1)
