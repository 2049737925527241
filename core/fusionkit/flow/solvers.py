"""Solvers: functions of a field and a schedule that take x from t₁ to the fused image.

A field answers, for x at t, with an estimate of the clean image that the prior has corrected. With its x̂₀ the flow
follows v = (x_t - x̂₀) / t; a field that corrects nothing gives back the plain flow.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from torch import Tensor

from ..errors import OptionError
from .path import posterior_update, velocity_from_x0

RK45_END = 1e-3  # where the published solver stops; one estimate from there gives the image


class Estimate(Protocol):
    """The clean image at one (x, t)."""

    @property
    def luma(self) -> Tensor:
        """Its luma (B, 1, H, W), corrected by the prior."""

    @property
    def x0(self) -> Tensor:
        """The corrected image where the flow lives; computed when it is asked for."""


class Field(Protocol):
    """What solvers ask."""

    def __call__(self, x: Tensor, t: float, *, advance: bool = True) -> Estimate:
        """The estimate at x and t > 0. advance: this is a step, which the prior's state follows, not a look ahead."""

    def decode(self, x: Tensor) -> Tensor:
        """x as an image (B, 3 or 1, H, W)."""

    def encode(self, image: Tensor) -> Tensor:
        """An image as x."""

    def to_luma(self, image: Tensor) -> Tensor:
        """Luma of an image."""


Report = Callable[[int, float, float, Estimate], None]
"""Called in each step with its number, t, t' and the estimate."""


def euler(
    field: Field,
    x: Tensor,
    times: Sequence[float],
    report: Report | None,
    eta: float = 0.0,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Euler's method, which for eta = 0 is the posterior update of `flow.path`: the fused luma.

    eta: share of fresh noise at each step, drawn by `noise`.
    """
    for i, (t, t_next) in enumerate(pairwise(times)):
        estimate = field(x, t)
        if report is not None:
            report(i, t, t_next, estimate)
        if t_next > 0:
            fresh = noise(x) if noise is not None and eta > 0 else None
            x = posterior_update(x, estimate.x0, t, t_next, eta, fresh)
    return estimate.luma


def heun(field: Field, x: Tensor, times: Sequence[float], report: Report | None) -> Tensor:
    """Heun's method: v averaged at both ends of a step; the last one, whose end is t = 0, is Euler's."""
    for i, (t, t_next) in enumerate(pairwise(times)):
        estimate = field(x, t)
        if report is not None:
            report(i, t, t_next, estimate)
        if t_next > 0:
            v = velocity_from_x0(x, estimate.x0, t)
            ahead = x + (t_next - t) * v
            v_next = velocity_from_x0(ahead, field(ahead, t_next, advance=False).x0, t_next)
            x = x + (t_next - t) * (v + v_next) / 2
    return estimate.luma


def rk45(field: Field, x: Tensor, times: Sequence[float], report: Report | None, tolerance: float = 1e-5) -> Tensor:
    """SciPy's adaptive Runge-Kutta pair from times[0] to 0.001, then one estimate. One step serves the whole batch."""
    from scipy.integrate import RK45

    def tensor(y: np.ndarray) -> Tensor:
        return x.new_tensor(y).view_as(x)

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        x_t = tensor(y)
        v: np.ndarray = velocity_from_x0(x_t, field(x_t, t, advance=False).x0, t).double().flatten().cpu().numpy()
        return v

    t = times[0]
    if t > RK45_END:
        solver = RK45(slope, t, x.double().flatten().cpu().numpy(), RK45_END, rtol=tolerance, atol=tolerance)
        i = 0
        while solver.status == "running":
            before = float(solver.t)
            problem = solver.step()
            if problem is not None:
                raise OptionError(f"solver rk45 stopped at t={before:.4g}: {problem}; use euler or more tolerance")
            t = float(solver.t)
            if report is not None:
                report(i, before, t, field(tensor(solver.y), t, advance=False))
            i += 1
        x = tensor(solver.y)
    return field(x, min(t, RK45_END), advance=False).luma


def additive(field: Field, x: Tensor, times: Sequence[float], report: Report | None, gain: float = 1.0) -> Tensor:
    """x <- decode(x) + gain (t - t') (y - 1/2), y the corrected luma: the luma of the last x.

    The update of the released RFfusion (RF/sampling.py), whose images are in [-1, 1]: mid-grey adds nothing. Nothing is
    integrated: this is no solver of the flow.
    """
    for i, (t, t_next) in enumerate(pairwise(times)):
        estimate = field(x, t)
        if report is not None:
            report(i, t, t_next, estimate)
        image = field.decode(x) + gain * (t - t_next) * (estimate.luma - 0.5)
        if t_next > 0:
            x = field.encode(image)
    return field.to_luma(image)
