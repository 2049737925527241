"""What each kind of plug-in answers.

Tensors are float32 (B, C, H, W); images are in [0, 1]; luma has C = 1. Time is stated once, in `fusionkit.flow.path`.
A plug-in's class is called with its options model and nothing else, so that `Class(Class.Options())` works.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor

from .images.convert import StoredImages
from .images.metadata import NO_METADATA, Metadata
from .images.picture import Array, Span
from .numerics.luma import colorful
from .numerics.luma import luma as bt601
from .numerics.recognise import Scene, recognise
from .numerics.strips import strips
from .options import Options

__all__ = [
    "Backbone",
    "ColorSpace",
    "Decoder",
    "Detection",
    "Detector",
    "Metric",
    "Options",
    "Prior",
    "Reader",
    "Shot",
    "Sources",
    "Stage",
    "Stored",
    "pad_to_multiple",
]


FOLLOWS = 0.2  # of a frame's own value in running averages


class Plugin:
    """What all kinds share: an options model, and a constructor that keeps the validated options.

    provenance: what a manifest should record beside the options, such as the hash of loaded weights.
    """

    Options: ClassVar[type[BaseModel]] = Options
    provenance: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, options: Any) -> None:
        self.options = options

    def prepare(self) -> None:
        """Load now what would be loaded when it is first needed, such as a network's weights."""


@dataclass
class Shot:
    """What is remembered from frame to frame of a video's shot: what was found once, and what is averaged."""

    found: dict[str, Any] = field(default_factory=dict)
    averaged: dict[str, Tensor] = field(default_factory=dict)

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """What was found at the shot's first frame."""
        if name not in self.found:
            self.found[name] = find()
        return self.found[name]


@dataclass(frozen=True)
class Sources:
    """The registered images of one scene, as every plug-in sees them.

    images: each (B, 3, H, W) or (B, 1, H, W) in [0, 1], all of one size (stages may be given several sizes and must
    leave one); of large pictures each is made whenever it is asked for. luma: their (B, 1, H, W). roles: what each
    shows ("ir", "visible" ...; free text). reference: index of the source whose look the result takes where sources
    disagree (the visible image of an infrared pair). names: what messages call each source. noise: the deviation of
    the noise that each source's luma still has, (B,) in units of [0, 1]; empty where nothing is known. to_luma: how
    luma is made of an image. notes: what the user is told afterwards; stages append to it. found: what stages
    measured, for the manifest; they add to it. whole: of rows, the sources that they were cut from. shot: of frames of
    a video, what is remembered of those before.
    """

    images: Sequence[Tensor]
    luma: tuple[Tensor, ...]
    roles: tuple[str, ...] = ()
    reference: int = -1
    names: tuple[str, ...] = ()
    noise: tuple[Tensor, ...] = ()
    to_luma: Callable[[Tensor], Tensor] = bt601
    notes: list[str] = field(default_factory=list, compare=False)
    found: dict[str, Any] = field(default_factory=dict, compare=False)
    whole: "Sources | None" = field(default=None, compare=False, repr=False)
    shot: Shot | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, images: Sequence[Tensor], to_luma: Callable[[Tensor], Tensor] = bt601, **fields: Any) -> Self:
        """Sources of these images; their luma is made by `to_luma`, pixel by pixel."""
        stored = isinstance(images, StoredImages)
        luma = tuple(_luma_of(images, i, to_luma) for i in range(len(images)))
        return cls(images if stored else tuple(images), luma, to_luma=to_luma, **fields)

    def with_images(self, images: Sequence[Tensor]) -> Self:
        """The same sources showing other images; luma is made anew."""
        return replace(self, images=tuple(images), luma=tuple(self.to_luma(image) for image in images))

    def select(self, indices: Sequence[int]) -> Self:
        """These images of the batch; the sources themselves where that is all."""
        if list(indices) == list(range(len(self.luma[0]))):
            return self
        return replace(
            self,
            images=tuple(image[list(indices)] for image in self.images),
            luma=tuple(y[list(indices)] for y in self.luma),
            noise=tuple(level[list(indices)] for level in self.noise),
        )

    def rows(self, rows: slice) -> Self:
        """These rows of all images, which know the whole that they are of."""
        cut = tuple(self.image_rows(i, rows) for i in range(len(self)))
        return replace(self, images=cut, luma=tuple(y[..., rows, :] for y in self.luma), whole=self.whole or self)

    def image_rows(self, index: int, rows: slice) -> Tensor:
        """These rows of one image."""
        images = self.images
        return images.rows(index, rows) if isinstance(images, StoredImages) else images[index][..., rows, :]

    @property
    def colored(self) -> tuple[Tensor, ...]:
        """Whether each source has colour, (B,) of bool each; of rows, whether the whole has."""
        return (self.whole or self)._colored

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """What kind of scene each image of the batch shows (`fusionkit.numerics.recognise`); of rows, the whole's."""
        return (self.whole or self)._scenes

    @cached_property
    def _colored(self) -> tuple[Tensor, ...]:
        if isinstance(self.images, StoredImages):
            return tuple(torch.tensor([p.has_color], device=self.images.device) for p in self.images.pictures)
        return tuple(colorful(image) for image in self.images)

    @cached_property
    def _scenes(self) -> tuple[Scene, ...]:
        return self.once("scenes", self._recognised)

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` gives; in a video, what it gave at the shot's first frame."""
        return find() if self.shot is None else self.shot.once(name, find)

    def steady(self, name: str, value: Tensor) -> Tensor:
        """The value itself; in a video, its running average over the shot's frames, so that nothing flickers."""
        if self.shot is None:
            return value
        before = self.shot.averaged.get(name)
        self.shot.averaged[name] = value if before is None else torch.lerp(before, value, FOLLOWS)
        return self.shot.averaged[name]

    def _recognised(self) -> tuple[Scene, ...]:
        every = range(len(self.luma[0]))
        return tuple(recognise([y[b : b + 1] for y in self.luma], [bool(c[b]) for c in self.colored]) for b in every)

    def name(self, index: int) -> str:
        """What messages call source `index`."""
        return self.names[index] if self.names else f"source {index + 1}"

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each source."""
        return tuple((y.shape[-2], y.shape[-1]) for y in self.luma)

    def __len__(self) -> int:
        return len(self.images)

    def noise_of(self, index: int) -> Tensor:
        """Noise of source `index` as it multiplies against its images: (B, 1, 1, 1), zeros where nothing is known."""
        luma = self.luma[index]
        return self.noise[index].view(-1, 1, 1, 1) if self.noise else luma.new_zeros(len(luma), 1, 1, 1)

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
        """Luma of all sources but the reference, in order."""
        reference = self.reference % len(self)
        return tuple(y for i, y in enumerate(self.luma) if i != reference)

    @property
    def first_other_luma(self) -> Tensor:
        """Luma of the first source beside the reference; a single source is its own."""
        return self.other_luma[0] if len(self) > 1 else self.reference_luma


def _luma_of(images: Sequence[Tensor], index: int, to_luma: Callable[[Tensor], Tensor]) -> Tensor:
    """Luma of one image; of a stored picture strip by strip."""
    if not isinstance(images, StoredImages):
        return to_luma(images[index])
    width, height = images.pictures[index].size
    found = torch.empty(1, 1, height, width, device=images.device)
    for part in strips(height, width, 0):
        found[..., part.place, :] = to_luma(images.rows(index, part.rows))
    return found


class Backbone(Plugin, ABC):
    """The flow model: a velocity field over images or latents.

    domain: "latent" (works on what a decoder's `encode` gives), "pixel", or "any". channels: of x_t, None for any.
    multiple: x_t's height and width are padded to a multiple of it by the backbone itself. decoder, decoder_options:
    the decoder this backbone was trained with, used when the user names none. restores: the largest t at which one
    evaluation cleans an image of its own noise, 0 for a field that was not made for it; it then takes images of one
    channel, in the range of a decoder of factor 1. overlap: how many samples of
    x_t around a tile influence it; tiles share at least as many.
    """

    domain: Literal["latent", "pixel", "any"]
    channels: int | None
    multiple: int = 1
    decoder: str = "identity"
    decoder_options: Mapping[str, Any] = MappingProxyType({})
    restores: float = 0.0
    overlap: int = 0

    @abstractmethod
    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """v = dx/dt at x_t (B, C, H, W) and t (B,) in [0, 1]; same shape as x_t."""


class Prior(Plugin, ABC):
    """The fusion prior: corrects a clean-image estimate so that it explains the sources.

    reads_x0: False says that `correct` does not look at its `x0` argument, so that no network has to run.
    max_sources: how many sources `correct` takes at once (None: any number); more are folded in one after another.
    has_energy: `energy` is there, differentiable in x0, so that the prior can guide the velocity. sampling: options of
    the sampler that this prior wants where the user chose none. look: likewise; vivid raises the contrast of pairs in
    which heat is seen.
    """

    reads_x0: bool = True
    max_sources: int | None = None
    has_energy: bool = False
    sampling: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    look: Literal["faithful", "vivid"] = "faithful"

    def start(self, sources: Sources) -> Any:
        """The state before the first step (any value; None when there is none)."""
        return None

    @abstractmethod
    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, Any]:
        """x0, the luma estimate (B, 1, H, W) -> (the corrected luma, the state for the next step).

        Called without gradients; a prior that differentiates does so under `torch.enable_grad()`.

        sigma in [0, 1] is the share of noise in the x_t that x0 was estimated from: 0 means that x0 is certain.
        Inputs are not changed in place; image b of the result depends on image b of the inputs alone.
        """

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """E(x0) = -log p(sources | x0) up to a constant, summed over pixels: (B, 1, H, W) -> (B,)."""
        raise TypeError(f"{type(self).__name__} states no energy (has_energy is False)")


class ColorSpace(Plugin, ABC):
    """Separates what is fused (luma) from what is carried over (chroma).

    bt601: its luma is that of `fusionkit.numerics.luma`. reach: how many rows around a pixel `merge` looks at, once
    `Sources.colored` and `Sources.scenes` are known; None says that it needs the whole image. `split` goes pixel by
    pixel.
    """

    bt601: bool = False
    reach: int | None = None

    @abstractmethod
    def split(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) or (B, 1, H, W) in [0, 1] -> luma (B, 1, H, W), chroma (B, 2, H, W) or None for grey."""

    @abstractmethod
    def merge(self, luma: Tensor, chromas: Sequence[Tensor | None], sources: Sources) -> Tensor:
        """Luma and the chroma of each source -> (B, 3, H, W), or (B, 1, H, W) when no source has chroma."""


class Decoder(Plugin, ABC):
    """The autoencoder between images and the backbone's domain.

    lossless: decode(encode(image)) is the image. factor: image size over latent size. overlap: how many image pixels
    around a tile influence it; tiles share as many. channels: of the latent, None when it has the image's.
    """

    lossless: bool = False
    factor: int = 1
    overlap: int = 0
    channels: int | None = None

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Image (B, 3, H, W) in [0, 1] -> latent of zero mean and unit variance over natural images."""

    @abstractmethod
    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Latent -> image (B, 3, *size), about [0, 1], not clamped."""


class Stage(Plugin, ABC):
    """Something done to the sources before the fusion, to the result after it, or both.

    A method has any number of stages: `before` is called in their order, `after` in the reverse one, so that the first
    stage sees the sources as they came and has the last word on the result. What either has to tell the user is
    appended to `sources.notes`. bt601: it needs a colour space of BT.601's luma.
    """

    bt601: bool = False

    def before(self, sources: Sources) -> Sources:
        """The sources that the next stage, and in the end the fusion, sees; nothing is changed in place."""
        return sources

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """The result (B, 3 or 1, H, W), about [0, 1] -> the result; `sources` are those that `before` was given.

        `image` is this stage's to keep: it may be changed in place.
        """
        return image


class Metric(Plugin, ABC):
    """One number a pair: how well `fused` keeps what the sources show.

    definition, range and version say exactly which number this is: two metrics of one name and different
    definitions are the field's oldest complaint. color: True asks for the images as their files have them, one or
    three channels, instead of luma. shows: what `map` shows the place of; empty where there is none.
    """

    definition: str
    range: tuple[float, float] = (-math.inf, math.inf)
    higher_is_better: bool = True
    version: str = "1"
    color: bool = False
    shows: Literal["", "lost", "invented"] = ""

    @abstractmethod
    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """fused (B, 1, H, W), luma in [0, 1], or (B, 3, H, W) where `color` is set -> (B,)."""

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Where something was lost or invented, of the same inputs: (B, 1, H, W) in grey levels, 0 where nothing."""
        raise TypeError(f"{type(self).__name__} has no map (shows is empty)")


@dataclass(frozen=True)
class Detection:
    """One object: box (left, top, right, bottom) in pixels from the upper left corner; score grows with certainty."""

    box: tuple[float, float, float, float]
    score: float
    label: str


class Detector(Plugin, ABC):
    """Finds objects in an image; the evaluator compares what it finds in a result and in its sources.

    definition, version: which detector this is, so that its numbers can be made again.
    """

    definition: str
    version: str = "1"

    @abstractmethod
    def __call__(self, image: Tensor) -> Sequence[Detection]:
        """image (1, 3, H, W) in [0, 1], grey as three equal channels -> its objects, in any order."""


@dataclass(frozen=True, eq=False)
class Stored:
    """One picture as its file stores it, before anything is scaled.

    values: (H, W, 1 or 3), upright, integers or float. alpha: (H, W) of the same type, in its full range. white: the
    stored value that the file says is white, None for the type's largest (1 for float). inverted: values grow towards
    black. window: the values that the file says are to be shown as black and white. series: more values of the same
    kind (a volume's), from which a range is taken for all its pictures alike. icc: the colour profile. format: of the
    file. name: what tells the picture from others in the file ("slice 12"). notes: what the user is told. turned: an
    orientation that the file states was applied. metadata: EXIF and the like.
    """

    values: Array
    alpha: Array | None = None
    white: float | None = None
    inverted: bool = False
    window: Span | None = None
    series: Array | None = None
    icc: bytes | None = None
    format: str = ""
    name: str = ""
    notes: tuple[str, ...] = ()
    turned: bool = False
    metadata: Metadata = NO_METADATA


class Reader(Plugin, ABC):
    """Takes image files of some formats; its record says which (`fusionkit.ReaderRecord`).

    It has no options that users can give, since files choose their reader. What is wrong with a file is raised as
    `fusionkit.errors.ImageReadError` in one line; anything else that is raised becomes one, too.
    """

    @abstractmethod
    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """All pictures of a file, in their order. More than `max_pixels` in one are refused before they are decoded."""


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """x (B, C, H, W) padded right and below to a multiple, by reflection where the size allows it."""
    height, width = x.shape[-2:]
    pad_h, pad_w = -height % multiple, -width % multiple
    if not (pad_h or pad_w):
        return x
    mode = "reflect" if pad_h < height and pad_w < width else "replicate"
    return F.pad(x, (0, pad_w, 0, pad_h), mode=mode)
