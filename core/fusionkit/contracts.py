"""What each kind of plug-in answers.

Tensors are float32 (B, C, H, W); images are in [0, 1]; luma has C = 1. Time is stated once, in `fusionkit.flow.path`.
A plug-in's class is called with its options model and nothing else, so that `Class(Class.Options())` works.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Generator, Tensor

from .flow.restoring import Restoration, split
from .images.lazy import LazySequence
from .images.metadata import NO_METADATA, Metadata
from .images.picture import Array, Depth, Span
from .images.place import Place
from .options import Options, validate_options
from .sources import STILL, Frame, Frames, Memory, Report, ShotMemory, Sources

__all__ = [
    "Backbone",
    "ColorSpace",
    "Decoder",
    "Degradation",
    "Detection",
    "Detector",
    "Frame",
    "Frames",
    "Lazy",
    "Memory",
    "Metric",
    "Options",
    "Pictures",
    "Prior",
    "Reader",
    "Report",
    "ShotMemory",
    "Sources",
    "Splitting",
    "Stage",
    "Stored",
    "Streaming",
    "Writer",
    "pad_to_multiple",
    "stream",
]


class Lazy:
    """Loads something when it is first used, such as a network's weights."""

    def prepare(self) -> None:
        """Load it now: by default each lazy object among the attributes, and in the dicts among them."""
        for value in list(vars(self).values()):
            for part in value.values() if isinstance(value, dict) else (value,):
                if isinstance(part, Lazy):
                    part.prepare()


class Plugin(Lazy):
    """What all kinds share: an options model, and a constructor that keeps the validated options.

    provenance: what a manifest should record beside the options, such as the hash of loaded weights.
    """

    Options: ClassVar[type[BaseModel]] = Options
    provenance: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, options: BaseModel | None = None) -> None:
        """Keep the options; without any, the defaults. Base classes after this one (`nn.Module`) are begun, too."""
        super().__init__()
        self.options: Any = validate_options(self.Options, {}, type(self).__name__) if options is None else options


class Remembering(Plugin):
    """A plug-in that may keep values from frame to frame of a video's shot; of single images it keeps nothing."""

    memory: Memory = STILL

    def remembering(self, memory: Memory) -> Self:
        """A copy with a memory, for the frames of a shot."""
        one = copy(self)
        one.memory = memory
        return one


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
    which heat is seen. guiding: the options that `energy` reads; None where that is not stated.
    """

    reads_x0: bool = True
    max_sources: int | None = None
    has_energy: bool = False
    sampling: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    look: Literal["faithful", "vivid"] = "faithful"
    guiding: ClassVar[frozenset[str] | None] = None

    def unread(self, *, steps: int, inject: str) -> dict[str, str]:
        """Options that nothing reads in such a sampling, with what they need; the sampler refuses them if they are set.

        steps, inject: as in `fusionkit.SamplerOptions`.
        """
        options = getattr(self, "options", None)
        fields = type(options).model_fields if isinstance(options, BaseModel) else {}
        if inject == "none":
            return dict.fromkeys(fields, "`inject` x0, velocity or both")
        if inject == "velocity" and self.guiding is not None:
            return dict.fromkeys(fields.keys() - self.guiding, "`inject` x0 or both")
        return {}

    def start(self, sources: Sources) -> Any:
        """The state before the first step (any value; None when there is none)."""
        return None

    def follow(self, sources: Sources, state: Any) -> Any:
        """The state before the first step of a video's next frame; `state`: the last one of the frame before.

        By default each frame starts anew. A prior whose result would flicker keeps averages in its state.
        """
        return self.start(sources)

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

    def passes(self, frames: Frames) -> int:
        """How often a series is read, frame by frame, so that memory does not grow with their number.

        0: never, since all frames are needed at once. Otherwise many frames are fused by `begin` before each pass,
        `accumulate` for each frame, and `conclude`, without flow; few by `correct`, as ever.
        """
        return 0

    def begin(self, frames: Frames, state: Any, turn: int) -> Any:
        """The state before the first frame of pass `turn`, from 0; `state`: that of the pass before, None at first.

        States are dicts of tensors, numbers, texts, and of lists and dicts of these, so that they can be written to a
        file: a series that was stopped is continued at its next frame.
        """
        raise TypeError(f"{type(self).__name__} does not stream (passes is 0)")

    def accumulate(self, state: Any, frame: Frame, turn: int) -> Any:
        """The state with one more frame, whose tensors stay unchanged; the state's may be changed in place."""
        raise TypeError(f"{type(self).__name__} does not stream (passes is 0)")

    def conclude(self, frames: Frames, state: Any) -> Tensor:
        """What `Frame.planes` is of the result: (1, 1 or 3, H, W), luma in [0, 1], then chroma."""
        raise TypeError(f"{type(self).__name__} does not stream (passes is 0)")


class Streaming(Prior):
    """A prior that states `passes`, `begin`, `accumulate` and `conclude`, from which `correct` is derived."""

    reads_x0 = False

    @abstractmethod
    def passes(self, frames: Frames) -> int:
        """How often a series is read; at least once."""

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The luma of each image, its sources taken for a series."""
        return torch.cat([stream(self, sources.select([b]))[:, :1] for b in range(len(x0))]), None


def stream(prior: Prior, sources: Sources) -> Tensor:
    """What `Prior.conclude` gives of sources in memory, a single image of each, taken for a series of luma alone."""
    size = (sources.luma[0].shape[-2], sources.luma[0].shape[-1])
    frames = Frames(
        sources.names, sources.reference, size, sources.scenes[0], device=sources.luma[0].device, report=sources.report
    )
    every, state = [Frame(i, sources.only(i), lambda image: None) for i in range(len(sources))], None
    for turn in range(prior.passes(frames)):
        state = prior.begin(frames, state, turn)
        for frame in every:
            state = prior.accumulate(state, frame, turn)
    return prior.conclude(frames, state)


class Degradation(Remembering, ABC):
    """What a camera does to a clean picture x, y = forward(x) with noise, and how the flow finds x again.

    x and y are (1, 1, H, W) in [0, 1], the luma of one source of one image; y may be of another size than x. Records
    say where in a camera it happens (`fusionkit.DegradationRecord`): several are undone in the reverse order, each on
    what the one before left.

    color: x and y are the whole image, (1, 1 or 3, H, W). ends_clean: `undo` leaves no noise, since its last estimate
    is the flow's at the noise's own level; else the noise of y is that of the result. asks_flow: whether `undo` does.
    deviation: of the white noise that it stands for, in units of [0, 1]; noise is left to the one that is undone next,
    where that ends clean. decisive: options that say all where the user gives one: nothing is estimated beside it.
    resizes: x may be of another size than y; if none is asked for or told, sources of several sizes are refused unread.
    memory: of a video's shot, in which y is one frame of many; each source and plane has its own.
    """

    color: bool = False
    resizes: bool = False
    ends_clean: bool = False
    asks_flow: bool = True
    deviation: float = 0.0
    decisive: ClassVar[Set[str]] = frozenset()

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The options that describe y; None where this degradation is not found with confidence.

        y: the luma (1, 1, H, W) in [0, 1], also of a degradation that has `color`. told: options that the source's file
        or a stage states, under the degradation's name; empty where none does.
        """
        return None

    @classmethod
    def estimate_chroma(cls, y: Tensor) -> Mapping[str, Any] | None:
        """The options for a chroma plane, shifted to mid-grey, of a source whose luma has it; None: left as it is."""
        return None

    @abstractmethod
    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """What the camera makes of x, not clipped; random parts are drawn from the generator."""

    @abstractmethod
    def undo(self, y: Tensor, noise: float) -> Restoration:
        """Find x: a generator that asks the flow by `x0 = yield x, s`, and returns x as its value.

        x0 is the flow's clean estimate of x (1, 1, H, W) with white noise of deviation s, in units of [0, 1]. noise:
        the deviation of y's white noise. Nothing is changed in place.
        """

    def describe(self) -> str:
        """For the user's notes: what was found, as in "blur of 1.6 pixels"."""
        return type(self).__name__.lower()


class SplittingOptions(Options):
    """Options of a degradation that is undone by splitting."""

    steps: int = Field(5, ge=1, le=100, description="evaluations of the flow: fewer are faster, more are better")


class Splitting(Degradation):
    """A degradation with a proximal step, undone by half-quadratic splitting with the flow.

    highest: the deviation of the noise, in units of [0, 1], at which the flow is first asked. weight: of the estimate
    against the data, as in `fusionkit.flow.restoring`.
    """

    Options = SplittingOptions
    ends_clean = True
    highest: float = 49 / 255
    weight: float = 0.23

    def begin(self, y: Tensor) -> Tensor:
        """A first estimate of x, in the size of x: y itself."""
        return y

    @abstractmethod
    def prox(self, x0: Tensor, y: Tensor, strength: float) -> Tensor:
        """The picture near x0 that explains y: argmin over x of |forward(x) - y|² + strength |x - x0|²."""

    def finish(self, x0: Tensor, y: Tensor) -> Tensor:
        """The result from the flow's last estimate: the estimate itself."""
        return x0

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """`highest` falls to the noise's own level in `steps` evaluations, each after a proximal step."""
        x0 = yield from split(
            self.begin(y),
            lambda x0, strength: self.prox(x0, y, strength),
            noise=noise,
            highest=self.highest,
            steps=self.options.steps,
            weight=self.weight,
        )
        return self.finish(x0, y)


class ColorSpace(Plugin, ABC):
    """Separates what is fused (luma) from what is carried over (chroma).

    bt601: its luma is that of `fusionkit.numerics.luma`. reach: how many rows around a pixel `merge` looks at, once
    `Sources.colored` and `Sources.scenes` are known; None says that it needs the whole image. `split` goes pixel by
    pixel. blends: a chroma that was blended as its luma was, of many frames, may be merged as that of one source.
    """

    bt601: bool = False
    reach: int | None = None
    blends: bool = False

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


class Stage(Remembering, ABC):
    """Something done to the sources before the fusion, to the result after it, or both.

    A method has any number of stages: `before` is called in their order, `after` in the reverse one, so that the first
    stage sees the sources as they came and has the last word on the result. What either has to tell the user goes to
    `sources.report`. bt601: it needs a colour space of BT.601's luma. by_frame: `before` treats each source by itself,
    or by the reference, whatever their number, so that it serves frames of a series one by one. memory: keeps values
    from frame to frame of a video's shot; of single images it keeps nothing.
    """

    bt601: bool = False
    by_frame: bool = False

    def degradations(self, sources: Sources) -> Sequence[Mapping[str, Mapping[str, Any]]]:
        """For each source, degradations that `before` would only cover up, with their options.

        They are undone by the flow first, if the user lets it: {"low_resolution": {"height": 480, "width": 640}}.
        """
        return ()

    def of_series(self, sources: Sequence[Sources], frames: Frames) -> "Sequence[Stage]":
        """The stage for each frame of a series, after a look at all of them: by default the stage itself.

        sources: each frame alone, as the stages before this one leave it, made on every access. frames: what is known
        of the series, except its size. `before` of a frame's stage is given that frame, and the reference behind it.
        """
        return [self] * len(sources)

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
    three channels, instead of luma. shows: what `map` shows the place of; empty where there is none. ideal: the value
    of a perfect result where more is a fault, too, as 1 is of a share that is kept; None: the higher, or the lower, the
    better. scenes: kinds of scene that it is made for, as `fusionkit.scene.SCENE_KINDS` names them; empty: all. In an
    evaluation of others it is not ranked.
    """

    definition: str
    range: tuple[float, float] = (-math.inf, math.inf)
    higher_is_better: bool = True
    ideal: float | None = None
    scenes: tuple[str, ...] = ()
    version: str = "1"
    color: bool = False
    shows: Literal["", "lost", "invented"] = ""

    @abstractmethod
    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """fused (B, 1, H, W), luma in [0, 1], or (B, 3, H, W) where `color` is set -> (B,)."""

    def suits(self, scene: str) -> bool:
        """Whether it is made for this kind of scene; "" for one that is not known."""
        return not (self.scenes and scene) or scene in self.scenes

    @property
    def better(self) -> str:
        """Which values are better, for a heading: ↑, ↓, or the ideal as →1."""
        return ("↑" if self.higher_is_better else "↓") if self.ideal is None else f"→{self.ideal:g}"

    def merit(self, value: float) -> float:
        """Rank of a value among others of this metric: the larger, the better; nan stays nan."""
        if self.ideal is not None:
            return -abs(value - self.ideal)
        return value if self.higher_is_better else -value

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

    values: (H, W, 1 or 3), upright, integers or float; of a file with other bands all of them, from which users choose
    by `bands`. alpha: (H, W) of the same type, in its full range. white: the
    stored value that the file says is white, None for the type's largest (1 for float). inverted: values grow towards
    black. window: the values that the file says are to be shown as black and white. series: more values of the same
    kind (a volume's), from which a range is taken for all its pictures alike. icc: the colour profile. format: of the
    file. name: what tells the picture from others in the file ("slice 12"). notes: what the user is told. turned: an
    orientation that the file states was applied. metadata: EXIF and the like. degraded: degradations that the file
    tells of, with what it says, by their names. valid: (H, W) of bool, where the picture has data; NaN and infinite
    values are none anyway. nodata: the stored value that says so. place: where the pixels lie. readings: of a result
    alone, values that sources measured at its pixels, by the source's name: (H, W) float32, NaN where there are none.
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
    degraded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    valid: Array | None = None
    nodata: float | None = None
    place: Place | None = None
    readings: tuple[tuple[str, Array], ...] = ()


class Pictures(LazySequence[Stored]):
    """Pictures of a file that are decoded one by one, when they are asked for.

    count: how many. decode: the picture of an index, from 0. main: the first is what the file shows, the others go with
    it (a gain map, a second eye); it is read where no number is given. axes: along which pictures differ, where there
    are several, with their lengths ("2 channels", "5 slices").
    """

    def __init__(
        self, count: int, decode: Callable[[int], Stored], *, main: bool = False, axes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(count, decode)
        self.main, self.axes = main, axes


class Reader(Plugin, ABC):
    """Takes image files of some formats; its record says which (`fusionkit.ReaderRecord`).

    It has no options that users can give, since files choose their reader. What is wrong with a file is raised as
    `fusionkit.errors.ImageReadError` in one line; anything else that is raised becomes one, too.
    """

    @abstractmethod
    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """All pictures of a file, in their order; `Pictures` decodes them when they are asked for.

        An empty answer declines a file that, after a look inside, is not one of this reader's: the next one is asked.
        More than `max_pixels` in one are refused before they are decoded.
        """

    def slice_of(self, path: Path) -> tuple[str, Place, tuple[int, int]] | None:
        """For a file of one slice of a volume: its series, its place with the volume, (width, height).

        Called for all files of a folder, so that pixels are better not read. None for all other files.
        """
        return None


class Writer(Plugin, ABC):
    """Writes image files of some formats; its record says which, and what they hold (`fusionkit.WriterRecord`).

    A result chooses its writer by its extension. Of the options of results, `png_level` and `quality`, a writer gets
    those that its options model has a field for.
    """

    @abstractmethod
    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write a file, under this temporary name; returns notes on what was not kept, one line each.

        stored: what of the result the record says that such files hold, and nothing else. values: (H, W, 1 or 3) of
        uint8, uint16 or float32, one of the record's depths; alpha: (H, W) of the same type in its full range. window:
        the values of black and white. metadata.exif: the whole block of the result; empty where metadata are to be left
        out. valid: where the result has data; elsewhere values are `nodata`, which no other pixel has. place: where the
        pixels lie. What an encoder raises becomes one line for the user.
        """

    def write_volume(self, path: Path, slices: Sequence[Stored]) -> Sequence[str]:
        """Write the slices of a volume, in their order, as one file; for writers whose record says `volumes`.

        All have one size, depth and number of channels; their places say how they follow one another.
        """
        raise TypeError(f"{type(self).__name__} writes no volumes")

    @classmethod
    def refuses(cls, depth: Depth, channels: int, *, alpha: bool) -> str:
        """Why such an image cannot be written, beyond what the record says, and what to do; "" where it can.

        Called before anything is computed.
        """
        return ""


def pad_to_multiple(x: Tensor, multiple: int, mode: Literal["reflect", "replicate"] = "reflect") -> Tensor:
    """Pad x (B, C, H, W) right and below to a multiple; images too small to be reflected are replicated."""
    height, width = x.shape[-2:]
    pad_h, pad_w = -height % multiple, -width % multiple
    if not (pad_h or pad_w):
        return x
    return F.pad(x, (0, pad_w, 0, pad_h), mode=mode if pad_h < height and pad_w < width else "replicate")
