"""The sources of one scene as every plug-in sees them, the report of a fusion, and the memory of a video's shot."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from .errors import Caution
from .images.convert import StoredImages, image_rows
from .images.metadata import UNSTATED, CameraSettings
from .numerics.luma import colorful
from .numerics.luma import luma as bt601
from .numerics.strips import strips
from .scene import Scene, recognise

FOLLOWS = 0.2  # weight of the current frame in running averages
# fields of `Sources` that have a value a source, beside the images
EACH = ("luma", "names", "noise", "had", "veiled", "valid", "degraded", "views", "spans", "settings")


@dataclass
class Report:
    """What a fusion tells its caller: notes for people, records for the manifest, planes beside the result.

    planes: (1, 1, H, W) in [0, 1] by name, such as depth.
    """

    notes: list[str] = field(default_factory=list)
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    planes: dict[str, Tensor] = field(default_factory=dict)

    def note(self, text: str, *, warning: bool = False) -> None:
        """Add a note, unless it was made already.

        warning: of a guess, or of a fault that is still in the result: in Python it becomes a `FusionWarning`.
        """
        if text not in self.notes:
            self.notes.append(Caution(text) if warning else text)

    def record(self, name: str, **values: Any) -> None:
        """Add a row to the manifest's list `name`."""
        self.records.setdefault(name, []).append(values)


class Memory:
    """Memory of a single image: nothing is kept."""

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """The value of `find`; in a shot, its value at the first frame."""
        return find()

    def steady(self, name: str, value: Tensor) -> Tensor:
        """The value; in a shot, its running average over the frames, so that nothing flickers."""
        return value

    def last(self, name: str) -> Any:
        """None; in a shot, the value that `keep` was given at the frame before, if any."""
        return None

    def keep(self, name: str, value: Any) -> None:
        """Keep a value for the shot's next frame."""

    def part(self, name: str) -> "Memory":
        """The memory of one part of the owner."""
        return self


STILL = Memory()


class FrameMemory(Memory):
    """Memory of one series: what is found at its first frame holds for all, since one camera took them."""

    def __init__(self) -> None:
        self._fixed: dict[str, Any] = {}

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """The value of `find` at the first frame."""
        if name not in self._fixed:
            self._fixed[name] = find()
        return self._fixed[name]


class ShotMemory(FrameMemory):
    """Memory of one owner over the frames of a video's shot: values of the first frame, running averages."""

    def __init__(self) -> None:
        super().__init__()
        self._averages: dict[str, Tensor] = {}
        self._last: dict[str, Any] = {}
        self._parts: defaultdict[str, ShotMemory] = defaultdict(ShotMemory)

    def steady(self, name: str, value: Tensor) -> Tensor:
        """The running average of the value."""
        self._averages[name] = running_average(self._averages.get(name), value)
        return self._averages[name]

    def last(self, name: str) -> Any:
        """The value of the frame before, None at the first frame."""
        return self._last.get(name)

    def keep(self, name: str, value: Any) -> None:
        """Keep a value for the next frame."""
        self._last[name] = value

    def part(self, name: str) -> "ShotMemory":
        """The memory of one part, which is settled with this one."""
        return self._parts[name]

    def settle(self) -> None:
        """Forget averages and the frame before, keep what the first frame fixed."""
        self._averages.clear()
        self._last.clear()
        for part in self._parts.values():
            part.settle()


def running_average(before: Tensor | None, value: Tensor) -> Tensor:
    """The average of a value over frames, of the last frames above all; before: the average until then, if any."""
    return value if before is None else torch.lerp(before, value, FOLLOWS)


@dataclass(frozen=True)
class Sources:
    """The registered images of one scene.

    images: each (B, 3, H, W) or (B, 1, H, W) in [0, 1], all of one size once the stages are through; large pictures are
    decoded lazily, on each access. luma: their (B, 1, H, W). reference: index, from 0, of the source whose look the
    result takes where sources disagree (the visible image of an infrared pair). names: what messages call each source.
    noise: deviation of the noise that each source's luma still has, (B, 1, 1, 1) in units of [0, 1]; zeros where none
    is known. had: of the noise that each had before it was restored. veiled: whether each showed weather, which was
    undone as far as it can be, (B, 1, 1, 1) of bool. valid: where each source has data, (B, 1, H, W) of
    bool, None for everywhere; other pixels are mirrored from there until the stages are through, afterwards they show
    other sources (`fusionkit.method.filling`). to_luma: makes luma of an image. report: takes notes and records for the
    user. degraded: for each source, what its file says of degradations, by their names. views: for each, the tangent of
    half its field of view along the longer side, where its file states it. spans: the stored values of each one's black
    and white, (0, 1) where none are known. settings: what the camera of each wrote. known_scenes: the kind of scene of
    each image, where it is decided already. cut: rows and columns that the result is cut down to. whole: the sources
    that a strip was cut from.
    """

    images: Sequence[Tensor]
    luma: tuple[Tensor, ...]
    _: KW_ONLY
    reference: int = -1
    names: tuple[str, ...] = ()
    noise: tuple[Tensor, ...] = ()
    had: tuple[Tensor, ...] = ()
    veiled: tuple[Tensor, ...] = ()
    valid: tuple[Tensor | None, ...] = ()
    to_luma: Callable[[Tensor], Tensor] = bt601
    report: Report = field(default_factory=Report, compare=False)
    degraded: tuple[Mapping[str, Mapping[str, Any]], ...] = ()
    views: tuple[float | None, ...] = ()
    spans: tuple[tuple[float, float], ...] = ()
    settings: tuple[CameraSettings, ...] = ()
    known_scenes: tuple[Scene, ...] = ()
    cut: tuple[slice, slice] | None = None
    whole: "Sources | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in what was not given."""
        count = len(self.luma)
        noise = self.noise or tuple(y.new_zeros(len(y), 1, 1, 1) for y in self.luma)
        filled = {
            "reference": self.reference % count if count else 0,
            "names": self.names or tuple(f"source {i + 1}" for i in range(count)),
            "degraded": self.degraded or ({},) * count,
            "views": self.views or (None,) * count,
            "spans": self.spans or ((0.0, 1.0),) * count,
            "settings": self.settings or (UNSTATED,) * count,
            "valid": self.valid or (None,) * count,
            "noise": noise,
            "had": self.had or noise,
            "veiled": self.veiled or tuple(y.new_zeros(len(y), 1, 1, 1, dtype=torch.bool) for y in self.luma),
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(
        cls,
        images: Sequence[Tensor],
        to_luma: Callable[[Tensor], Tensor] = bt601,
        *,
        reference: int = -1,
        names: tuple[str, ...] = (),
    ) -> Self:
        """Sources of these images; their luma is made by `to_luma`, pixel by pixel."""
        stored = isinstance(images, StoredImages)
        luma = tuple(_luma_of(images, i, to_luma) for i in range(len(images)))
        given = images if stored else tuple(images)
        return cls(given, luma, reference=reference, names=names, to_luma=to_luma)

    def with_images(self, images: Sequence[Tensor]) -> Self:
        """The same sources with other images and the luma of these."""
        return replace(self, images=tuple(images), luma=tuple(self.to_luma(image) for image in images))

    def select(self, indices: Sequence[int]) -> Self:
        """Some images of the batch; the sources themselves where that is all."""
        if list(indices) == list(range(len(self.luma[0]))):
            return self
        batches = {n: getattr(self, n) for n in ("images", "luma", "noise", "had", "veiled", "valid")}
        own: dict[str, Any] = {n: tuple(x if x is None else x[list(indices)] for x in s) for n, s in batches.items()}
        return replace(self, **own, known_scenes=tuple(self.known_scenes[b] for b in indices if self.known_scenes))

    def only(self, index: int) -> Self:
        """One source alone, its own reference; of the same kind of scene."""
        images = self.images.only(index) if isinstance(self.images, StoredImages) else (self.images[index],)
        own: dict[str, Any] = {name: (getattr(self, name)[index],) for name in EACH}
        return replace(self, images=images, reference=0, known_scenes=self.scenes, **own)

    def rows(self, rows: slice) -> Self:
        """A strip of all images, with a reference to the full sources."""
        cut = tuple(image_rows(self.images, i, rows) for i in range(len(self)))
        valid = tuple(None if v is None else v[..., rows, :] for v in self.valid)
        luma = tuple(y[..., rows, :] for y in self.luma)
        return replace(self, images=cut, luma=luma, valid=valid, whole=self.whole or self)

    @property
    def colored(self) -> tuple[Tensor, ...]:
        """Whether each source has colour, (B,) of bool each; of a strip, whether the full sources have."""
        return (self.whole or self)._colored

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The kind of scene of each image of the batch (`fusionkit.scene`); of a strip, of the full sources."""
        return self.known_scenes or (self.whole or self)._scenes

    @cached_property
    def _colored(self) -> tuple[Tensor, ...]:
        if isinstance(self.images, StoredImages):
            return tuple(torch.tensor([p.has_color], device=self.images.device) for p in self.images.pictures)
        return tuple(colorful(image) for image in self.images)

    @cached_property
    def _scenes(self) -> tuple[Scene, ...]:
        def one(b: int) -> Scene:
            valid = [None if v is None else v[b : b + 1] for v in self.valid]
            return recognise(
                [y[b : b + 1] for y in self.luma], [bool(c[b]) for c in self.colored], self.settings, valid
            )

        return tuple(one(b) for b in range(len(self.luma[0])))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def noisy(self) -> bool:
        """Whether any source is known to have noise."""
        return any(bool((level > 0).any()) for level in self.noise)

    @property
    def reference_luma(self) -> Tensor:
        """Luma of the reference source."""
        return self.luma[self.reference]

    @property
    def other_luma(self) -> tuple[Tensor, ...]:
        """Luma of all sources but the reference, in order; a single source is its own other."""
        return tuple(y for i, y in enumerate(self.luma) if i != self.reference) or (self.reference_luma,)


@dataclass(frozen=True)
class Frames:
    """What is known of a series (a focus stack, a bracket) before its frames are read one after another.

    names: what messages call each frame, in the order in which they are read. reference: index of the frame whose size
    and look the result takes. size: (height, width) of every frame. scene: the kind of scene. settings: what each
    frame's camera wrote; all None where it wrote nothing. device: of the frames. report: takes notes and records for
    the user. planes: makes what `Frame.planes` is of an image in the colours of the frames, (1, 3 or 1, H, W).
    """

    names: tuple[str, ...]
    reference: int
    size: tuple[int, int]
    scene: Scene
    settings: tuple[CameraSettings, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    report: Report = field(default_factory=Report, compare=False)
    planes: Callable[[Tensor], Tensor] = field(default=lambda image: image, compare=False)

    def __post_init__(self) -> None:
        """Fill in what was not given."""
        object.__setattr__(self, "settings", self.settings or (UNSTATED,) * len(self.names))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.names)


@dataclass(frozen=True)
class Frame:
    """One frame of a series.

    index: its number, from 0. sources: the frame alone, as stages left it. chroma: the planes beside luma that its
    result is to have, of an image (1, 3 or 1, H, W): (1, 2, H, W), or None for none.
    """

    index: int
    sources: Sources
    chroma: Callable[[Tensor], Tensor | None]

    @property
    def luma(self) -> Tensor:
        """(1, 1, H, W) in [0, 1]."""
        return self.sources.luma[0]

    @property
    def image(self) -> Tensor:
        """(1, 3 or 1, H, W) in [0, 1]; of a file it is converted on every access: a strip's costs little."""
        return self.sources.images[0]

    @property
    def planes(self) -> Tensor:
        """Luma, and chroma where the series has colour, zero for neutral: (1, 1 or 3, H, W). What is blended."""
        chroma = self.chroma(self.image)
        return self.luma if chroma is None else torch.cat([self.luma, chroma], 1)

    @property
    def valid(self) -> Tensor | None:
        """Where the frame has data, (1, 1, H, W) of bool; None: everywhere."""
        return self.sources.valid[0]

    def rows(self, rows: slice) -> Self:
        """A strip of the frame; only these rows are converted."""
        return replace(self, sources=self.sources.rows(rows))


def _luma_of(images: Sequence[Tensor], index: int, to_luma: Callable[[Tensor], Tensor]) -> Tensor:
    """Luma of one image; of a stored picture strip by strip."""
    if not isinstance(images, StoredImages):
        return to_luma(images[index])
    width, height = images.pictures[index].size
    luma = torch.empty(1, 1, height, width, device=images.device)
    for part in strips(height, width, 0):
        luma[..., part.place, :] = to_luma(images.rows(index, part.rows))
    return luma
