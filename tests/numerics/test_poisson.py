"""Poisson's equation against dense solutions."""

import pytest
import torch

from fusionkit.numerics.poisson import decay, divergence, gradient, screened_poisson


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
