"""Frames of a series: each is read when its turn comes, and passes the restorer and the stages beside the reference."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..contracts import Frame, Frames, Memory, Report, Sources, Stage
from ..contracts.base import unfit
from ..errors import SizeMismatch
from ..images.colour import in_profile
from ..images.convert import ChangedImages, StoredImages
from ..images.lazy import LazySequence
from ..images.metadata import CameraSettings, settings_in
from ..images.onto import onto
from ..images.picture import Picture, Span
from ..reading import read_image
from ..reading.ranges import in_range
from ..sources import EACH, FrameMemory
from ..timing import Stopwatch
from .checks import check_sizes, note_places, staged
from .filling import filled
from .images import sources_of
from .result import Facts

if TYPE_CHECKING:
    from .parts import Part
    from .pipeline import Pipeline


class Series(LazySequence[Picture]):
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
        super().__init__(len(names), read)
        self.names, self._settings, self._check = names, settings, check

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

    def whole(self) -> list[Picture]:
        """All pictures at once, in memory."""
        self._check()
        return [*self]

    @cached_property
    def settings(self) -> tuple[CameraSettings, ...]:
        """What the camera wrote of each."""
        return tuple(self._settings(i) for i in range(len(self)))


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
            frames = LazySequence(len(self.frames), lambda i: self.staged(i, self.read(i)).only(0))
            with self.watch.stage(f"stage {part.name}"):
                stages = part.plugin.of_series(frames, self.frames)
            if len(stages) != len(self.frames):
                raise unfit(part.plugin, "of_series", f"{len(stages)} stages, expected one for each frame")
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
            images, color = StoredImages([picture], self.pipeline.device), self.pipeline.color
            sources = sources_of(images, self.frames.names[index : index + 1], [valid], color, images.device)
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
        checked = first and index in self.looked and self.pipeline.config.align == "check"
        staged = self.staged(index, sources, first=first, paired=checked)
        check_sizes(staged)
        if checked:
            note_places(staged)
        self.begun.add(index)
        whole = filled(replace(staged, report=Report()))
        own, *reference = whole.valid
        shown = own is not None and any(bool((~own if v is None else ~own & v).any()) for v in reference)
        if first and shown and self.cut is None:
            note = f"no data in a part of the picture, where {self.main.name} is shown"
            self.notes.setdefault(note, []).append(self.frames.names[index])
        return Frame(index, replace(whole, report=staged.report).only(0), self.chroma)

    def staged(self, index: int, sources: Sources, *, first: bool = False, paired: bool = False) -> Sources:
        """The frame as it was restored, as the stages that have looked at all frames leave it beside the reference.

        first: record what was restored. paired: beside the reference, also where no stage looks at both.
        """
        restored, rows = self.pipeline.restorer_of(sources)(sources, self.watch, self.memory)
        if first:
            self.facts.restored += [replace(row, plane=(index, 0)) for row in rows]
        self.facts.evaluations += sum(row.evaluations for row in rows)
        stages = [(p.name, s[index]) for p, s in zip(self.pipeline.stages, self.stages, strict=False) if changes(p)]
        if index != self.frames.reference and (stages or paired or restored.valid[0] is not None):
            restored = beside(restored, self.reference)
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


def beside(frame: Sources, main: Sources) -> Sources:
    """A frame and the reference, each alone, as two sources."""
    stored = [one.images for one in (frame, main) if isinstance(one.images, StoredImages)]
    both = StoredImages([images.pictures[0] for images in stored], frame.luma[0].device)
    heights = {i: images.height(0) for i, images in enumerate(stored)}
    images = ChangedImages(both, {0, 1}, lambda i, rows: stored[i].rows(0, rows), heights)
    pairs: dict[str, Any] = {name: getattr(frame, name) + getattr(main, name) for name in EACH}
    return replace(frame, images=images, reference=1, **pairs)


def changes(stage: "Part") -> bool:
    """Whether a stage changes sources."""
    return type(stage.plugin).before is not Stage.before
