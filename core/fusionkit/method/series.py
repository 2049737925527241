"""Series: many frames of one scene are read one after another, in memory that does not grow with their number.

A prior that streams (`Prior.passes`) sees each frame alone, as the stages leave it beside the reference: a stage that
moves, resizes or restores a frame serves here as it does for two sources. What it blends takes luma and chroma alike.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Frames, Prior, Sources, Stage
from ..contracts.base import check_answer, unfit
from ..errors import Caution
from ..images.convert import to_array, to_tensor
from ..images.picture import Picture
from ..memory import release_pages
from ..reading.ranges import in_range
from ..scene import recognise, written
from ..timing import Stopwatch
from .checkpoint import Checkpoint, between_frames
from .checks import staged
from .filling import with_nan
from .frames import Run, Series, changes
from .result import Facts, FusedPicture, with_gaps
from .sampler import merged_in_strips

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .radiance import Radiance

AT_ONCE = 4  # sources that are fused in memory: a rig's, and the usual brackets of three
LOOKED_AT = 5  # frames, spread over a series, that tell its kind of scene, its range and whether it has colour
AHEAD = 2  # frames that are read while one is worked on; in the last pass, which does most beside, one
RETURNED = 10  # frames after which freed pages are returned: blocks of several sizes leave the heap in pieces
PIXELS = 1_000_000  # least pixels of the copies that the kind of scene is recognised on
Progress = Callable[[int, int], object]  # frames that were taken up, in all passes, and their number


def fuse_series(
    pipeline: "Pipeline",
    pictures: Sequence[Picture],
    *,
    reference: int | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> FusedPicture | None:
    """Fuse pictures frame by frame, by a prior that streams; None where this method needs all of them at once.

    reference: its index, where the caller has chosen it. progress: told after each frame of each pass. checkpoint:
    where the state is kept, and taken up again.
    """
    if not streams(pipeline):
        return None
    series, watch = Series.of(pictures), Stopwatch()
    with watch.stage("look"):
        run = looked_at(pipeline, series, reference, watch, pipeline.prior.passes)
    if run is None:
        return None
    with torch.no_grad():
        state = accumulated(run, pipeline.prior, progress, checkpoint)
        with watch.stage("conclude"):
            planes = pipeline.prior.conclude(run.frames, state)
        del state
        picture = _finished(run, planes)
    if checkpoint is not None:
        checkpoint.remove()
    return picture


def streams(pipeline: "Pipeline") -> bool:
    """Whether nothing but the prior may need all frames at once: no sampling, no stage, option or colour of one."""
    sampler = pipeline.sampler
    return (
        type(pipeline.prior).passes is not Prior.passes
        and not sampler.samples
        and sampler.options.inject in ("x0", "both")
        and sampler.options.finish == "prior"
        and all(stage.plugin.by_frame for stage in pipeline.stages if changes(stage))
        and pipeline.color.blends
        and all(link.source < 0 for link in pipeline.restorer.links)
    )


def looked_at(
    pipeline: "Pipeline",
    series: Series,
    reference: int | None,
    watch: Stopwatch,
    passes: Callable[[Frames], int],
) -> Run | None:
    """A run of these pictures, by what some of them show; None where `passes` is 0 for them."""
    settings, index = series.settings, pipeline.reference_in(series) if reference is None else reference
    main, looked = series[index], {round(i * (len(series) - 1) / (LOOKED_AT - 2)) for i in range(LOOKED_AT - 1)}
    scene = pipeline.stated_scene or (written(settings) if main.channels == 3 else None)
    known = scene is not None and main.depth == "8"
    small = {i: _small(main if i == index else series[i]) for i in ({index} if known else sorted({*looked, index}))}
    shared = dict(zip(small, pipeline.ranged([*small.values()]), strict=True))
    span = shared[index].span if any(shared[i].span != p.span for i, p in small.items()) else None
    main = main if span is None else in_range(main, span)
    images = [to_tensor(p.pixels) for p in shared.values()]
    lumas = [F.interpolate(pipeline.color.split(image)[0], images[0].shape[-2:], mode="area") for image in images]
    scene = scene or recognise(lumas, [p.has_color for p in shared.values()], settings)
    colored = any(pipeline.color.split(image[..., :1, :1])[1] is not None for image in images)
    frames = Frames(tuple(series.names), index, (0, 0), scene, settings, pipeline.device)
    facts = Facts(frames.report.notes, index, found=frames.report.records, planes=frames.report.planes)
    run = Run(pipeline, series, main, frames, looked, span, colored, watch, facts)
    count: object = passes(frames)
    if not isinstance(count, int) or count < 0:
        raise unfit(pipeline.prior, "passes", f"{count!r}, expected 0 or more")
    if not count:
        return None
    with torch.no_grad():
        run.survey()
        frame = run.frame(index, run.read(index))
    size = (frame.luma.shape[-2], frame.luma.shape[-1])
    run.frames, run.cut = replace(frames, size=size, planes=run.planes), frame.sources.cut
    return run


def _small(picture: Picture) -> Picture:
    """A copy of about a megapixel, by which kinds of scene and ranges are told."""
    step = max(1, math.isqrt(picture.size[0] * picture.size[1] // PIXELS))
    return replace(picture, values=picture.values[::step, ::step].copy(), alpha=None, valid=None)


def accumulated(run: Run, prior: "Prior | Radiance", progress: Progress | None, checkpoint: Checkpoint | None) -> Any:
    """The state after all passes; some are read ahead, beside the work on the one before."""
    passes, count = prior.passes(run.frames), len(run.frames)
    turn, first, state = (checkpoint and checkpoint.load()) or (0, 0, None)
    if (turn, first) != (0, 0):
        run.frames.report.note(f"continued at frame {first + 1} of pass {turn + 1} of {passes}")
    with ThreadPoolExecutor(AHEAD) as readers:
        while turn < passes:
            if first == 0:
                with run.watch.stage("prior"):
                    state = prior.begin(run.frames, state, turn)
                release_pages()  # of what it made of all frames' copies
            ahead = min(AHEAD, passes - turn)
            coming = deque(readers.submit(run.read, i) for i in range(first, min(first + ahead, count)))
            for index in range(first, count):
                sources = coming.popleft().result()
                if index + ahead < count:
                    coming.append(readers.submit(run.read, index + ahead))
                frame = run.frame(index, sources)
                run.check(frame)
                with between_frames() as stopped:
                    with run.watch.stage("prior"):
                        state = prior.accumulate(state, frame, turn)
                    if checkpoint is not None and index + 1 < count:
                        checkpoint.save(turn, index + 1, state, now=bool(stopped))
                if index % RETURNED == RETURNED - 1:
                    release_pages()
                if progress is not None:
                    progress(turn * count + index + 1, passes * count)
            turn, first = turn + 1, 0
    return state


def _finished(run: Run, planes: Tensor) -> FusedPicture:
    """The result of what the prior concluded: its colours, the stages' last word, the reference's metadata."""
    pipeline, watch = run.pipeline, run.watch
    check_answer(planes, (1, 3 if run.colored else 1, *run.frames.size), "conclude", pipeline.prior)
    given, sources = list[tuple[str, Stage, Sources]](), run.read(run.frames.reference)
    for stage, plugins in zip(pipeline.stages, run.stages, strict=True):
        plugin = plugins[run.frames.reference]
        given.append((stage.name, plugin, sources))
        sources = staged(stage.name, plugin, sources, watch)
    with watch.stage("color"):
        luma = planes[:, :1]

        def chroma(rows: slice) -> list[Tensor | None]:
            return [planes[:, 1:, rows] if run.colored else None]

        image = merged_in_strips(pipeline.color, luma, chroma, sources)
    return concluded(run, pipeline.after(image, given, watch), sources)


def concluded(run: Run, image: Tensor, sources: Sources) -> FusedPicture:
    """The image as a picture like the reference, with all notes and records. sources: the reference alone."""
    pipeline, facts = run.pipeline, run.facts
    image = with_nan(image, sources)
    main = run.main
    if run.cut is not None:
        main, image, facts.cut = main.part(*run.cut), image[(..., *run.cut)], run.cut
    for row in facts.restored:
        note = row.note().removeprefix(f"{row.source}: ")
        run.notes.setdefault(note if row.undone or not pipeline.has_flow else Caution(note), []).append(row.source)
    said = [type(note)(_named(note, names)) for note, names in run.notes.items()]
    notes = [*said, *run.main.notes, *run.frames.report.notes]
    picture = replace(with_gaps(main, to_array(image)), notes=tuple(notes))
    release_pages()
    facts.found["ranges"] = [run.spans.get(i) for i in range(len(run.frames))]
    facts.found["frames"] = {"count": len(run.frames), "scene": run.frames.scene}
    return FusedPicture.of(picture, replace(facts, notes=notes, seconds=run.watch.rounded()))


def _named(note: str, names: Sequence[str]) -> str:
    """A note on frames: the first one's name, and how many others it holds for."""
    return f"{names[0]}{f' and {len(names) - 1} other frames' if len(names) > 1 else ''}: {note}"
