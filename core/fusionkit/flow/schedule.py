"""Schedules: the times t₁ > t₂ > ... > 0 at which the flow is asked, as plain data."""

from typing import Literal

Spacing = Literal["uniform", "quadratic"]


def make_schedule(strength: float, steps: int, spacing: Spacing = "uniform") -> tuple[float, ...]:
    """`steps` + 1 times from `strength` down to 0.

    uniform: t_i = strength (1 - i / steps), the grid of rectified flow. quadratic: strength (1 - i / steps)², finer
    near the data.
    """
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength must be in (0, 1], got {strength}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    power = {"uniform": 1, "quadratic": 2}[spacing]
    return (*tuple(strength * (1 - i / steps) ** power for i in range(steps)), 0.0)
