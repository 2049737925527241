"""Poisson's equation against dense solutions."""

import pytest
import torch
import torch.nn.functional as F

from fusionkit.numerics.poisson import (
    decay,
    divergence,
    gradient,
    halved_gradient,
    screened_poisson,
    screened_variation,
)


class TestPoisson:
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 5), (9, 16), (300, 260)])
    def test_the_solution_satisfies_the_equation(self, size, generator):
        right = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
        f = screened_poisson(right, 0.3)
        torch.testing.assert_close(0.3 * f - divergence(*gradient(f)), right)

    def test_divergence_is_minus_the_adjoint_of_gradient(self, generator):
        x, px, py = (torch.randn(1, 1, 5, 7, generator=generator, dtype=torch.float64) for _ in range(3))
        gx, gy = gradient(x)
        torch.testing.assert_close((gx * px + gy * py).sum(), -(x * divergence(px, py)).sum())

    def test_a_border_is_forgotten(self, generator):
        right = torch.zeros(1, 1, 8, 200, dtype=torch.float64)
        right[..., 0] = 1.0
        f = screened_poisson(right, 0.02).abs()
        assert float(f[..., decay(0.02) :].max()) < 1.1e-3 * float(f.max())

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 6), (9, 16), (15, 13)])
    def test_differences_between_means_come_from_those_between_pixels(self, size, generator):
        x = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
        halved = halved_gradient(*gradient(x))
        for found, wanted in zip(halved, gradient(F.avg_pool2d(x, 2, ceil_mode=True)), strict=True):
            torch.testing.assert_close(found, wanted)


class TestVariation:
    def test_a_step_is_lowered_by_what_its_variation_costs(self):
        """ROF's answer to a step: each side of n pixels moves by weight / (screen n)."""
        step = (torch.arange(20) >= 12).double().view(1, 1, 1, 20)
        none = torch.zeros_like(step)
        found = screened_variation(none, none, step, torch.full_like(step, 0.03), 0.1, steps=1000)
        torch.testing.assert_close(found, 0.03 / 1.2 + (1 - 0.03 / 0.8 - 0.03 / 1.2) * step, atol=1e-4, rtol=0)

    def test_two_steps_come_near_the_minimum(self, generator):
        x, y, pull = (0.1 * torch.randn(1, 1, 24, 30, generator=generator, dtype=torch.float64) for _ in range(3))
        x[..., -1] = y[..., -1, :] = 0
        weight = 0.01 + 0.02 * torch.rand(1, 1, 24, 30, generator=generator, dtype=torch.float64)

        def energy(steps):
            found = screened_variation(x, y, pull, weight, 0.02, steps)
            dx, dy = gradient(found)
            return float((weight * torch.hypot(dx + x, dy + y) + 0.01 * (found - pull).square()).sum())

        none, least = energy(0), energy(500)
        assert energy(2) - least < 0.5 * (none - least)
        assert least <= min(energy(steps) for steps in (0, 1, 2, 20)) + 1e-9
