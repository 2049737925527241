"""The rectified-flow path and its identities. The one place where the time convention is stated.

    t in [0, 1];  t = 0 is data, t = 1 is noise
    x_t = (1 - t) x₀ + t ε,   ε ~ N(0, I)
    v   = dx/dt = ε - x₀

(Liu et al., "Flow Straight and Fast", ICLR 2023, with their time reversed: they have noise at 0 and data at 1.)
Every function takes t as a float or as a tensor that broadcasts against x, and is exact algebra, nothing learned.
"""

import math

from torch import Tensor

Time = float | Tensor


def interpolate(x0: Tensor, noise: Tensor, t: Time) -> Tensor:
    """x_t = (1 - t) x₀ + t ε."""
    return (1 - t) * x0 + t * noise


def x0_from_velocity(x_t: Tensor, v: Tensor, t: Time) -> Tensor:
    """x̂₀ = x_t - t v."""
    return x_t - t * v


def velocity_from_x0(x_t: Tensor, x0: Tensor, t: Time) -> Tensor:
    """v = (x_t - x̂₀) / t, the velocity that points from the estimate to x_t; t > 0."""
    return (x_t - x0) / t


def velocity_from_noise(x_t: Tensor, noise: Tensor, t: Time) -> Tensor:
    """v = (ε̂ - x_t) / (1 - t), the velocity of x_t whose noise is ε̂; t < 1."""
    return (noise - x_t) / (1 - t)


def noise_share(t: float) -> float:
    """sigma(t) = t / sqrt((1 - t)² + t²) in [0, 1]: the share of noise in x_t when data have unit variance."""
    return t / math.hypot(1 - t, t)


def posterior_update(
    x_t: Tensor, x0: Tensor, t: float, t_next: float, eta: float = 0.0, fresh: Tensor | None = None
) -> Tensor:
    """From x_t and a (corrected) estimate x̂₀ to x at t_next < t, without asking the backbone again.

        ε̂   = (x_t - (1 - t) x̂₀) / t
        x_t' = (1 - t') x̂₀ + t' (sqrt(1 - η²) ε̂ + η ξ)

    η = 0 keeps the noise (deterministic, the analogue of DDIM), η = 1 replaces all of it; `fresh` is ξ. With the
    true x₀ and η = 0 this gives x_t' exactly.
    """
    noise = (x_t - (1 - t) * x0) / t
    if eta > 0.0:
        if fresh is None:
            raise ValueError("eta > 0 needs `fresh` noise")
        noise = math.sqrt(1 - eta**2) * noise + eta * fresh
    return interpolate(x0, noise, t_next)
