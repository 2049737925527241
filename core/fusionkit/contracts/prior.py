"""What a fusion prior answers: a scene at once, or frame by frame."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from ..sources import Frame, Frames, Sources
from .base import Plugin


class Prior(Plugin, ABC):
    """The fusion prior: corrects a clean-image estimate so that it explains the sources.

    reads_x0: False says that `correct` does not look at its `x0` argument, so that no network has to run.
    max_sources: how many sources `correct` takes at once (None: any number); more are folded in one after another.
    has_energy: `energy` is there, differentiable in x0, so that the prior can guide the velocity. sampling: options of
    the sampler that this prior wants where the user chose none. look: likewise; vivid raises the contrast of pairs in
    which heat is seen. guiding: the options that `energy` reads; None where that is not stated.
    """

    reads_x0: bool = True
    max_sources: Annotated[int | None, Field(ge=2)] = None
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
