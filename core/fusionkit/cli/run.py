"""`fusionkit run`: fuse files or folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.options import FileOptions, Mode, ResultOptions
from ..engines.options import EngineOptions
from ..errors import NoEffect, OptionError
from ..method.config import SamplerOptions, configuration
from ..registry.kinds import KINDS
from ..registry.kinds import METHOD as PARTS
from ..video.options import VideoOptions, is_video
from .fields import model_options, part_options, with_options
from .given import Given, RunOptions
from .parameters import Device, Machine, Preset, Set, Task, plugins_completion
from .voice import Reporter

if TYPE_CHECKING:
    from ..batch.plan import Plan
    from ..method.pipeline import Pipeline

METHOD, FLOW, FILES, WORKERS, VIDEO = "Method", "Sampling", "Files", "Workers", "Video"
NEEDED = {
    "folders": "`pairs` needs `output`, the folder for results",
    "shards": "`shards` needs `output`, the folder or address for results",
    "video": "video needs `output`, such as fused.mp4",
}

Images = Annotated[
    list[Path],
    typer.Argument(
        help="Two or more registered images of one scene, one file that holds several (IMAGE#2: its second), or one "
        "folder of a focus stack or bracket; with --pairs, folders of images of several scenes."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="The result; with --pairs, the folder for results.",
        show_default="NAME-fused beside the reference NAME",
    ),
]
Pairs = Annotated[
    bool,
    typer.Option(
        "--pairs",
        help="SOURCES are folders (files of one name belong together), patterns in quotes ('shots/*_ir.tif' "
        "'shots/*_vis.jpg'), or a table of paths (.csv, .parquet).",
    ),
]
Shards = Annotated[
    bool,
    typer.Option(
        "--shards",
        help="SOURCES are tar files of pairs (KEY.ir.png beside KEY.vis.png), or patterns of them ('in/*.tar', "
        "s3://bucket/in-{0000..0099}.tar); results are tar files with a ledger each, in the folder or below the "
        "address that -o names.",
    ),
]
Group = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, help="SOURCES are one folder or pattern: brackets of N files in turn, by EXIF time or name."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also print seconds per stage and memory.")]
Stages = Annotated[
    list[str],
    typer.Option(
        metavar="NAME[:KEY=VALUE,...]",
        help=f"{KINDS['stage'].help[:1].upper()}{KINDS['stage'].help[1:]}; repeatable.",
        rich_help_panel=METHOD,
        autocompletion=plugins_completion("stage"),
    ),
]


@with_options(
    *part_options(METHOD),
    *model_options(SamplerOptions, FLOW),
    *model_options(configuration(), METHOD, skip=("sampler", "stages", *PARTS)),
    *model_options(FileOptions, FILES),
    *model_options(ResultOptions, FILES),
    *model_options(EngineOptions, WORKERS),
    *model_options(VideoOptions, VIDEO),
)
def run(
    sources: Images,
    output: Output = None,
    pairs: Pairs = False,
    shards: Shards = False,
    group: Group = 0,
    machine: Machine = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    task: Task = None,
    preset: Preset = None,
    stage: Stages = [],  # noqa: B006
    values: Set = [],  # noqa: B006
    device: Device = "auto",
    **given: Any,
) -> None:
    """Fuse images, or folders of them.

    fusionkit run ir.png vis.png -o fused.png
    fusionkit run --task mff near.png far.png -o fused.png
    fusionkit run stack_dir -o fused.jpg
    fusionkit run --prior laplacian --pairs ir_dir vis_dir -o out_dir
    fusionkit run --task mef --group 3 brackets -o out_dir
    fusionkit run ir.mp4 vis.mp4 -o fused.mp4

    A folder run resumes where it stopped, continues after a failed pair and exits with 1 if there was one.
    """
    if shards and (pairs or group):
        raise OptionError("`shards` and `pairs` or `group` exclude each other")
    if verbose and (quiet or machine):
        raise NoEffect(f"--verbose has no effect with {'--quiet' if quiet else '--json'}; leave one of them out")
    mode: Mode = (
        "shards" if shards else "folders" if pairs or group else "video" if _is_video(sources, output) else "single"
    )
    asked = Given(given)
    config = asked.method(task, preset, values, stage)
    options = asked.run_options(mode, output, config)
    reporter = Reporter(machine, quiet, verbose)

    plan = _plan(mode, sources, output, group, config.reference, options)

    from ..method.pipeline import Pipeline

    pipeline = Pipeline(config, device=device)
    if options.result.dry_run:
        _preview(pipeline, plan, output or Path(), options, reporter)
        return
    if not _follow(mode, pipeline, plan, sources, output or Path(), options, reporter):
        raise typer.Exit(1)


def _is_video(sources: list[Path], output: Path | None) -> bool:
    """Whether sources are videos; animations that readers know (GIF) are stacks of pictures where the result is one."""
    from ..reading import readable_extensions

    videos = [source for source in sources if is_video(source)]
    if output is None or is_video(output):
        return bool(videos)
    return any(source.suffix.lower() not in readable_extensions() for source in videos)


def _plan(
    mode: Mode, sources: list[Path], output: Path | None, group: int, reference: int, options: RunOptions
) -> "Plan":
    """Plan the jobs; a video's plan needs the pipeline, and is made later."""
    from ..batch.plan import Plan, plan_folders, plan_images, plan_shards

    if mode == "single":
        return plan_images(sources, output)
    if output is None:
        raise OptionError(NEEDED[mode])
    if mode == "folders":
        return plan_folders(sources, output, options.result.ext, group, reference, options.result.limit)
    return plan_shards([str(source) for source in sources], str(output)) if mode == "shards" else Plan()


def _preview(pipeline: "Pipeline", plan: "Plan", place: Path, options: RunOptions, reporter: Reporter) -> None:
    """Print what a run would do, and write nothing."""
    from ..batch.folders import preview, scene_of_first
    from ..scene import SCENE_KINDS

    reporter.plan(plan)
    limit = options.result.limit
    for row in preview(pipeline, plan, place, options.files, limit):
        reporter.planned(row)
    scene = scene_of_first(pipeline, plan, options.files)
    how = "stated" if pipeline.stated_scene else "as the first pair shows"
    kind = f"; {SCENE_KINDS[scene].title} ({how})" if scene else ""
    of_all = f" of {len(plan.jobs)}" if limit else ""
    left = f", {len(plan.unmatched)} files without a partner" if plan.unmatched else ""
    count = len(plan.jobs[: limit or None])
    reporter.line(f"{place}: {count}{of_all} would be fused{left}{kind}; nothing was written")


def _follow(
    mode: Mode,
    pipeline: "Pipeline",
    plan: "Plan",
    sources: list[Path],
    place: Path,
    options: RunOptions,
    reporter: Reporter,
) -> bool:
    """Fuse the planned jobs and report them; true if all succeeded."""
    files, make, manifest, video = options.files, options.engine.make, options.result.manifest, None
    where = str(place)
    if mode == "single":
        from ..batch.run import fuse_files

        reporter.plan(plan)
        with reporter.frames() as progress:
            outcome = fuse_files(pipeline, plan.jobs[0], files, manifest=manifest, progress=progress)
        reporter.outcome(outcome, named=False)
        reporter.line(f"{outcome.output} ({outcome.seconds:.1f} s)")
        return True
    if mode == "folders":
        from ..batch.folders import fuse_plan

        tasks = ""
        outcomes, count = fuse_plan(pipeline, plan, place, files, options.result, make())
    elif mode == "shards":
        from ..batch.shards import fuse_shards
        from ..storage.places import full_address

        count, tasks, where = len(plan.shards), "shards", full_address(str(place))
        outcomes = fuse_shards(pipeline, plan.shards, files, make(), options.result.ext)
    else:
        from ..video.plan import plan_video
        from ..video.run import fuse_video

        with reporter.looking("frames") as looking:
            video = plan_video(pipeline, sources, place, options.video, files.force, looking)
        count, tasks = len(video.segments), "segments"
        outcomes = fuse_video(pipeline, video, make(), force=files.force, manifest=manifest)
    reporter.plan(plan)
    return reporter.follow(outcomes, count, where, tasks, video) and not (plan.ambiguous or plan.lost)
