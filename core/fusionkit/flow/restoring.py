"""Restoration by the flow: its clean estimate at falling times, corrected by what is known of the degraded picture.

    for s in falling deviations of noise:
        x = argmin |A x - y|² + a |x - x̂₀|²        the degradation's proximal step, a = weight · noise² / s²
        x̂₀ = x_t - t v(x_t, t),  x_t = (1 - t) x,  t = s / (1 + s)

This is the injection at x̂₀ of the sampler with a source's own data in the prior's place: half-quadratic splitting
(Geman & Yang, IEEE Trans. Image Processing 1995) with a denoiser as regulariser (Zhang et al., "Plug-and-play image
restoration with deep denoiser prior", IEEE TPAMI 2022, eq. 6), which here is the flow. Noise alone, y = x + s ε, is the
simplest case: y / (1 + s) is a point of the flow's path, and one evaluation there is the answer.

A restoration is a generator: it yields what it wants cleaned and is sent the flow's estimate, so that those of several
sources and images run side by side, and pictures of one size are cleaned together.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from torch import Tensor

from .path import x0_from_velocity

__all__ = ["LEAST", "Ask", "Restoration", "falling", "side_by_side", "split"]

LEAST = 0.6 / 255  # deviation below which noise counts as that of rounding

Ask: TypeAlias = tuple[Tensor, float]
"""A picture (1, 1, H, W) in [0, 1], and the deviation s of its white noise in the same units."""
Restoration: TypeAlias = Generator[Ask, Tensor, Tensor]
"""Yields pictures to be cleaned, is sent the clean ones, returns the restored picture."""
Result = TypeVar("Result")


def falling(highest: float, lowest: float, steps: int) -> list[float]:
    """Deviations from the highest to the lowest, in geometric steps; one step is the lowest alone."""
    return [lowest] if steps == 1 else [float(s) for s in np.geomspace(max(highest, lowest), lowest, steps)]


def split(
    x: Tensor,
    prox: Callable[[Tensor, float], Tensor],
    *,
    noise: float,
    highest: float,
    steps: int,
    weight: float,
) -> Restoration:
    """Half-quadratic splitting from a first estimate x. prox: of an estimate and a strength, as at the module's head.

    noise: deviation of the data's noise. highest: deviation at which the flow is first asked.
    """
    least = max(noise, LEAST)
    for s in falling(highest, least, steps):
        x = yield prox(x, weight * least**2 / s**2), s
    return x


def side_by_side(
    restorations: Sequence[Generator[Ask, Tensor, Result]], clean: Callable[[Sequence[Ask]], Sequence[Tensor]]
) -> list[Result]:
    """Run restorations in step: what they ask at one time is cleaned together. clean: the flow's estimates."""
    results: dict[int, Result] = {}
    answers: dict[int, Tensor | None] = dict.fromkeys(range(len(restorations)))
    while answers:
        asked: dict[int, Ask] = {}
        for i, answer in answers.items():
            try:
                asked[i] = restorations[i].send(answer)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as end:
                results[i] = end.value
        answers = dict(zip(asked, clean(list(asked.values())), strict=True)) if asked else {}
    return [results[i] for i in range(len(restorations))]


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
