"""Restoration by the flow: its clean estimate at falling times, corrected by the degraded picture's own data.

    x_t, t = start of the degradation
    for t, t' in the degradation's times:
        x̂₀ = x_t - t v(x_t, t);   x̂₀ = correct(x̂₀, y, t);   x_t' = (1 - t') x̂₀

This is the injection at x̂₀ of the sampler with the data in the prior's place (half-quadratic splitting, Geman & Yang,
IEEE Trans. Image Processing 1995, with a flow as denoiser). Noise is the simplest degradation: one time, no correction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .path import x0_from_velocity

__all__ = ["AdditiveNoise", "Degradation", "restore"]

Velocity = Callable[[Tensor, Tensor], Tensor]
"""v at x_t (B, C, H, W) and t (B,), in the shape of x_t."""


class Degradation(Protocol):
    """What a camera did to a clean picture, y = A x₀ + noise, as the flow undoes it. y is (B, C, H, W)."""

    def start(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The point of the flow's path that restoration starts from: x_t in the shape of x₀, t (B,) in (0, 1)."""

    def times(self, t: Tensor) -> Sequence[Tensor]:
        """The times after t, (B,) each and falling; the last one is that of the picture's own noise."""

    def correct(self, x0: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """The picture near the estimate x̂₀ of time t that explains y: a proximal step of the data."""


@dataclass(frozen=True)
class AdditiveNoise:
    """y = x₀ + s ε, which is x_t / (1 - t) with t = s / (1 + s): a point of the path itself.

    deviation: s, (B,), in units of x. most: the largest t that the flow knows.
    """

    deviation: Tensor
    most: float = 1.0

    @property
    def time(self) -> Tensor:
        """t, (B,)."""
        return (self.deviation / (1 + self.deviation)).clamp_max(self.most)

    def start(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(1 - t) y and t."""
        t = self.time
        return y.mul(1 - t.view(-1, 1, 1, 1)), t

    def times(self, t: Tensor) -> Sequence[Tensor]:
        """None: one evaluation."""
        return ()

    def correct(self, x0: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """The estimate, which explains y already."""
        return x0


def restore(y: Tensor, degradation: Degradation, velocity: Velocity) -> Tensor:
    """The clean picture (B, C, H, W) behind y: one evaluation of the velocity for each of the degradation's times."""
    x, t = degradation.start(y)
    later = iter(degradation.times(t))
    while True:
        x0 = x0_from_velocity(x, velocity(x, t), t.view(-1, 1, 1, 1))
        x0 = degradation.correct(x0, y, t)
        following = next(later, None)
        if following is None:
            return x0
        t = following
        x = x0.mul(1 - t.view(-1, 1, 1, 1))
