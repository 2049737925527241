"""Poisson's equation against dense solutions."""

import numpy as np
import pytest
import torch

from fusionkit.numerics.poisson import bounded_poisson, decay, divergence, gradient, screened_poisson


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


class TestBoundedPoisson:
    @staticmethod
    def problem(generator, size=(9, 12)):
        low, high = torch.sort(torch.rand(2, 1, 1, *size, generator=generator, dtype=torch.float64), dim=0).values
        return torch.randn(1, 1, *size, generator=generator, dtype=torch.float64), low, high

    def test_it_is_the_least_squares_solution_in_the_bounds(self, generator):
        from scipy.optimize import lsq_linear

        right, low, high = self.problem(generator)
        unit = torch.eye(right.numel(), dtype=torch.float64).view(-1, 1, *right.shape[-2:])
        matrix = (0.1 * unit - divergence(*gradient(unit))).flatten(1).numpy()
        root = np.linalg.cholesky(matrix).T
        exact = lsq_linear(
            root,
            np.linalg.solve(root.T, right.flatten().numpy()),
            (low.flatten().numpy(), high.flatten().numpy()),
            "bvls",
        )
        found = bounded_poisson(right, 0.1, low, high, steps=400)
        np.testing.assert_allclose(found.flatten().numpy(), exact.x, atol=1e-6)

    def test_few_steps_are_in_the_bounds_and_better_than_clamping(self, generator):
        right, low, high = self.problem(generator, (40, 50))

        def energy(f):
            gx, gy = gradient(f)
            return float((0.5 * (gx.square() + gy.square() + 0.02 * f.square()) - right * f).sum())

        clamped = screened_poisson(right, 0.02).clamp(low, high)
        few, best = bounded_poisson(right, 0.02, low, high, 16), bounded_poisson(right, 0.02, low, high, 500)
        assert bool(((few >= low) & (few <= high)).all())
        assert energy(few) - energy(best) < 0.4 * (energy(clamped) - energy(best))

    def test_wide_bounds_change_nothing(self, generator):
        right = torch.randn(2, 1, 30, 20, generator=generator, dtype=torch.float64)
        free, wide = screened_poisson(right, 0.02), torch.full_like(right, 1e6)
        torch.testing.assert_close(bounded_poisson(right, 0.02, -wide, wide, 16), free)

    def test_a_border_is_forgotten(self, generator):
        right = torch.zeros(1, 1, 8, 200, dtype=torch.float64)
        right[..., 0] = 1.0
        f = screened_poisson(right, 0.02).abs()
        assert float(f[..., decay(0.02) :].max()) < 1.1e-3 * float(f.max())
