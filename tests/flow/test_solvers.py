"""Solvers over any field: nothing of fusion is needed to test them."""

import math
from dataclasses import dataclass

import pytest
import torch

from fusionkit.flow.schedule import make_schedule
from fusionkit.flow.solvers import additive, euler, heun, rk45


@dataclass
class Point:
    x0: torch.Tensor
    luma: torch.Tensor


class Gaussian:
    """The exact clean estimate for data N(mean, spread²); counts what it is asked."""

    mean, spread = 0.4, 0.25

    def __init__(self):
        self.steps = self.ahead = 0

    def __call__(self, x, t, *, advance=True):
        self.steps += advance
        self.ahead += not advance
        variance = (1 - t) ** 2 * self.spread**2 + t**2
        x0 = self.mean + (1 - t) * self.spread**2 * (x - (1 - t) * self.mean) / variance
        return Point(x0, x0)

    def exact(self, x, t):
        return self.mean + self.spread * (x - (1 - t) * self.mean) / math.hypot((1 - t) * self.spread, t)

    def decode(self, x):
        return x

    encode = to_luma = decode


X = torch.linspace(-1, 2, 7).double()


def error(solver, steps):
    field = Gaussian()
    return float((solver(field, X, make_schedule(0.8, steps), None) - field.exact(X, 0.8)).abs().max())


def test_heun_converges_faster_than_euler():
    assert error(euler, 20) / error(euler, 40) == pytest.approx(2, rel=0.25)
    assert error(heun, 20) / error(heun, 40) > 3


def test_rk45_meets_its_tolerance_and_looks_ahead_only():
    field = Gaussian()
    torch.testing.assert_close(rk45(field, X, (0.9, 0.0), None), field.exact(X, 0.9), atol=2e-4, rtol=0)
    assert field.steps == 0


@pytest.mark.parametrize(("solver", "ahead"), [(euler, 0), (heun, 3)])
def test_one_step_a_time_and_the_last_is_not_averaged(solver, ahead):
    field, told = Gaussian(), []
    solver(field, X, make_schedule(0.8, 4), lambda i, t, t_next, estimate: told.append((i, t, t_next)))
    assert (field.steps, field.ahead) == (4, ahead)
    assert [i for i, *_ in told] == [0, 1, 2, 3]
    assert told[-1][2] == 0


def test_euler_draws_fresh_noise_for_every_step_but_the_last():
    drawn = []
    euler(Gaussian(), X, make_schedule(0.8, 3), None, 0.5, lambda x: drawn.append(x) or torch.zeros_like(x))
    assert len(drawn) == 2


def test_additive_is_its_formula():
    field = Gaussian()
    y = field(X, 0.8).luma
    torch.testing.assert_close(additive(field, X, (0.8, 0.0), None, gain=3.0), X + 3 * 0.8 * (y - 0.5))
