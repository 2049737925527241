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
from typing import TypeAlias, TypeVar

import numpy as np
from torch import Tensor

LEAST = 0.6 / 255  # deviation below which noise counts as that of rounding
LEFT = 2.5 / 255  # deviation of white noise that the error of a cleaned picture counts as, for what is undone next

Ask: TypeAlias = tuple[Tensor, float | Tensor]
"""A picture (1, 1, H, W) in [0, 1] and the deviation s of its white noise in the same units, or some parts of a picture
of one size (N, 1, H, W), and s of each, (N,)."""
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
