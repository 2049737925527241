"""Series: many frames of one scene are read one after another, in memory that does not grow with their number.

A prior that streams (`Prior.passes`) sees each frame alone, as the stages leave it beside the reference: a stage that
moves, resizes or restores a frame serves here as it does for two sources. What it blends takes luma and chroma alike.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Frame, Frames, Memory, Prior, Report, Sources, Stage
from ..errors import Caution, PluginError, SizeMismatch
from ..images.colour import in_profile
from ..images.convert import ChangedImages, StoredImages, to_array, to_tensor
from ..images.metadata import CameraSettings, settings_in
from ..images.onto import onto
from ..images.picture import Picture, Span
from ..memory import release_pages
from ..numerics.choice import all_finite
from ..reading import read_image
from ..reading.ranges import in_range
from ..scene import recognise, written
from ..timing import Stopwatch
from .checkpoint import Checkpoint, between_frames
from .checks import check_sizes, note_places, staged
from .filling import data_anywhere, filled
from .result import Facts, FusedPicture, with_gaps
from .sampler import merged_in_strips

if TYPE_CHECKING:
    from .parts import Part
    from .pipeline import Pipeline

__all__ = ["AT_ONCE", "Progress", "Series", "accumulated", "concluded", "fuse_series", "looked_at"]

AT_ONCE = 4  # sources that are fused in memory: a rig's, and the usual brackets of three
LOOKED_AT = 5  # frames, spread over a series, that tell its kind of scene, its range and whether it has colour
AHEAD = 2  # frames that are read while one is worked on; in the last pass, which does most beside, one
PIXELS = 1_000_000  # least pixels of the copies that the kind of scene is recognised on
Progress = Callable[[int, int], object]  # frames that were taken up, in all passes, and their number


class Series(Sequence[Picture]):
    """The pictures of a series, each read on every access.

    names: of the pictures. read: the picture of an index. settings: what the camera wrote of it, which is read without
    the pixels. check: raises where all pictures do not fit into memory, which some methods need.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Picture],
        settings: Callable[[int], CameraSettings],
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.names, self._read, self._settings, self._check = names, read, settings, check

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> "Series":
        """Pictures in memory as a series."""
        if isinstance(pictures, Series):
            return pictures
        return cls([p.name for p in pictures], pictures.__getitem__, lambda i: pictures[i].settings)

    @classmethod
    def of_files(cls, files: Sequence[Path]) -> "Series":
        """Files as a series."""
        return cls([path.name for path in files], lambda i: read_image(files[i]), lambda i: settings_in(files[i]))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Picture: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Picture]: ...

    def __getitem__(self, index: int | slice) -> Picture | Sequence[Picture]:
        """One picture, or several as a list."""
        numbers = range(len(self))[index]
        return self._read(numbers) if isinstance(numbers, int) else [self._read(i) for i in numbers]

    def whole(self) -> list[Picture]:
        """All pictures at once, in memory."""
        self._check()
        return [*self]

    @cached_property
    def settings(self) -> tuple[CameraSettings, ...]:
        """What the camera wrote of each."""
        return tuple(self._settings(i) for i in range(len(self)))


class FrameMemory(Memory):
    """Memory of one series: what is found at its first frame holds for all, since one camera took them."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """The value of `find` at the first frame."""
        if name not in self._found:
            self._found[name] = find()
        return self._found[name]


@dataclass
class Run:
    """One series on its way: the reference, and what was found in the frames that were looked at."""

    pipeline: "Pipeline"
    pictures: Series
    main: Picture
    frames: Frames
    looked: Set[int]
    span: Span | None
    colored: bool
    watch: Stopwatch
    facts: Facts
    memory: Memory = field(default_factory=FrameMemory)
    notes: dict[str, list[str]] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    spans: dict[int, list[float] | None] = field(default_factory=dict)
    stages: list[Sequence[Stage]] = field(default_factory=list)
    cut: tuple[slice, slice] | None = None

    def survey(self) -> None:
        """Let each stage look at all frames, as the stages before it leave them."""
        for part in self.pipeline.stages:
            frames = _Every(len(self.frames), lambda i: self.staged(i, self.read(i)).only(0))
            with self.watch.stage(f"stage {part.name}"):
                stages = part.plugin.of_series(frames, self.frames)
            self.stages.append(stages)

    def read(self, index: int) -> Sources:
        """Frame `index` alone, in the range, colours and grid of the reference."""
        reference = index == self.frames.reference
        with self.watch.stage("read"):
            picture = self.main if reference else self.pictures[index]
        name, view, notes = picture.name, picture.view, [*picture.notes] if not reference else []
        if self.span is not None and picture.measured and not reference:
            picture = in_range(picture, self.span)
        self.spans[index] = None if picture.depth == "8" else [*picture.span]
        if not reference:
            pair, converted = in_profile([picture, self.main], 1)
            [moved, _], placed = onto(pair, 1)
            notes += [note.removeprefix(f"{name}: ") for note in (*converted, *(p.note for p in placed))]
            view, picture = view if moved is pair[0] else None, moved
        for note in notes if index not in self.begun else ():
            self.notes.setdefault(note, []).append(name)
        valid = None if picture.valid is None else torch.from_numpy(picture.valid)[None, None]
        with self.watch.stage("convert"):
            sources = self.pipeline.sources_of(
                StoredImages([picture], self.pipeline.device), self.frames.names[index : index + 1], [valid]
            )
        return replace(
            sources,
            degraded=(picture.degraded,),
            views=(view,),
            settings=self.frames.settings[index : index + 1],
            known_scenes=(self.frames.scene,),
            report=self.frames.report,
        )

    def frame(self, index: int, sources: Sources) -> Frame:
        """The frame as it was restored, as stages leave it beside the reference, and filled from there."""
        first = index not in self.begun
        staged = self.staged(index, sources, first=first, check=first and index in self.looked)
        check_sizes(staged)
        self.begun.add(index)
        aside = Report()
        whole = filled(replace(staged, report=aside))
        if first and aside.notes and self.cut is None:
            note = f"no data in a part of the picture, where {self.main.name} is shown"
            self.notes.setdefault(note, []).append(self.frames.names[index])
        return Frame(index, replace(whole, report=staged.report).only(0), self.chroma)

    def staged(self, index: int, sources: Sources, *, first: bool = False, check: bool = False) -> Sources:
        """The frame as it was restored, as the stages that have looked at all frames leave it beside the reference.

        first: record what was restored. check: note where it lies.
        """
        restored, rows = self.pipeline.restorer_of(sources)(sources, self.watch, self.memory)
        if first:
            self.facts.restored += [replace(row, plane=(index, 0)) for row in rows]
        self.facts.evaluations += sum(row.evaluations for row in rows)
        stages = [(p.name, s[index]) for p, s in zip(self.pipeline.stages, self.stages, strict=False) if changes(p)]
        checked = check and self.pipeline.config.align == "check"
        if index != self.frames.reference and (stages or checked or restored.valid[0] is not None):
            restored = beside(restored, self.reference)
            if checked:
                note_places(restored)
        for name, stage in stages:
            restored = staged(name, stage, restored, self.watch)
        return restored

    def check(self, frame: Frame) -> None:
        """Refuse a frame of another size than the reference's, as the stages left it."""
        (height, width), (rows, columns) = frame.luma.shape[-2:], self.frames.size
        if (height, width) != (rows, columns):
            name = self.frames.names[frame.index]
            raise SizeMismatch(
                f"{name} is {width}x{height} but {self.main.name} is {columns}x{rows}: a series has one size; "
                "`resize=reference` resizes the others to the reference"
            )

    @cached_property
    def reference(self) -> Sources:
        """The reference alone, for what looks at it beside each frame."""
        return self.read(self.frames.reference)

    def planes(self, image: Tensor) -> Tensor:
        """Luma and chroma of an image that is in colour where the series is."""
        luma, chroma = self.pipeline.color.split(image)
        return luma if chroma is None else torch.cat([luma, chroma], 1)

    def chroma(self, image: Tensor) -> Tensor | None:
        """Chroma of an image, none where the series has no colour; zero of a grey frame."""
        chroma = self.pipeline.color.split(image)[1] if self.colored else None
        if chroma is None and self.colored:
            return image.new_zeros(len(image), 2, *image.shape[-2:])
        return chroma


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


def changes(stage: "Part") -> bool:
    """Whether a stage changes sources."""
    return type(stage.plugin).before is not Stage.before


@dataclass(frozen=True)
class _Every(Sequence[Sources]):
    """The frames of a series, each made on every access."""

    number: int
    make: Callable[[int], Sources]

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> Sources: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sources]: ...

    def __getitem__(self, index: int | slice) -> Sources | Sequence[Sources]:
        numbers = range(self.number)[index]
        return self.make(numbers) if isinstance(numbers, int) else [self.make(i) for i in numbers]


def beside(frame: Sources, main: Sources) -> Sources:
    """A frame and the reference, each alone, as two sources."""
    stored = [one.images for one in (frame, main) if isinstance(one.images, StoredImages)]
    both = StoredImages([images.pictures[0] for images in stored], frame.luma[0].device)
    heights = {i: images.height(0) for i, images in enumerate(stored)}
    images = ChangedImages(both, {0, 1}, lambda i, rows: stored[i].rows(0, rows), heights)
    names = ("luma", "names", "noise", "valid", "degraded", "views", "settings")
    pairs: dict[str, Any] = {name: (getattr(frame, name)[0], getattr(main, name)[0]) for name in names}
    return replace(frame, images=images, reference=1, **pairs)


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
    if not passes(frames):
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


class Streams(Protocol):
    """What takes frames one by one; see `Prior`."""

    def passes(self, frames: Frames) -> int:
        """Number of passes."""

    def begin(self, frames: Frames, state: Any, turn: int) -> Any:
        """State before a pass."""

    def accumulate(self, state: Any, frame: Frame, turn: int) -> Any:
        """State with one more frame."""


def accumulated(run: Run, prior: Streams, progress: Progress | None, checkpoint: Checkpoint | None) -> Any:
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
                if progress is not None:
                    progress(turn * count + index + 1, passes * count)
            turn, first = turn + 1, 0
    return state


def _finished(run: Run, planes: Tensor) -> FusedPicture:
    """The result of what the prior concluded: its colours, the stages' last word, the reference's metadata."""
    pipeline, watch = run.pipeline, run.watch
    channels, prior = 3 if run.colored else 1, type(pipeline.prior)
    if planes.shape != (1, channels, *run.frames.size) or not all_finite(planes):
        raise PluginError(
            f"{prior.__module__}.{prior.__name__}.conclude returned shape {tuple(planes.shape)}, expected "
            f"{(1, channels, *run.frames.size)}, or values that are not finite"
        )
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
    anywhere = data_anywhere(sources, image.shape[-2:])
    image = image if anywhere is None else image.masked_fill(~anywhere, torch.nan)
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
