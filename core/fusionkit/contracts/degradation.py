"""What a degradation answers: what a camera does to a picture, and how the flow undoes it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from typing import Any, ClassVar

from pydantic import Field
from torch import Generator, Tensor

from ..flow.restoring import Restoration, split
from ..options import Options
from .base import Remembering


class Degradation(Remembering, ABC):
    """What a camera does to a clean picture x, y = forward(x) with noise, and how the flow finds x again.

    x and y are (1, 1, H, W) in [0, 1], the luma of one source of one image; y may be of another size than x. Records
    say where in a camera it happens (`fusionkit.DegradationRecord`): several are undone in the reverse order, each on
    what the one before left.

    color: x and y are the whole image, (1, 1 or 3, H, W). ends_clean: `undo` leaves no noise, since its last estimate
    is the flow's at the noise's own level; else the noise of y is that of the result. asks_flow: whether `undo` does.
    deviation: of the noise that it stands for, in units of [0, 1]; white noise is left to the one that is undone next,
    where that ends clean. coarse: it is broader than pixels; contrast below it is lost, so it counts as what is left.
    decisive: options that say all where the user gives one: nothing is estimated beside it. manner: options that say
    how it is undone, not what it is; given without others they undo only what is found. resizes: x may be of another
    size than y; if none is asked for or told, sources of several sizes are refused unread.
    veils: it hides what another source may still show, also once it is undone.
    memory: of a video's shot, in which y is one frame of many; each source and plane has its own.
    """

    color: bool = False
    resizes: bool = False
    veils: bool = False
    ends_clean: bool = False
    asks_flow: bool = True
    deviation: float = 0.0
    coarse: bool = False
    decisive: ClassVar[Set[str]] = frozenset()
    manner: ClassVar[Set[str]] = frozenset({"steps"})

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
