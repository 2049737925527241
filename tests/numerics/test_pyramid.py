"""Laplacian pyramids."""

import pytest
import torch

from fusionkit.numerics.pyramid import collapse, laplacian_pyramid

SIZES = [(32, 48), (31, 37), (1, 20), (20, 1), (1, 1), (2, 3), (64, 64), (33, 130)]


@pytest.mark.parametrize("size", SIZES)
def test_pyramid_collapses_exactly(size, generator):
    x = torch.rand(2, 1, *size, generator=generator)
    for levels in (1, 3, 6):
        torch.testing.assert_close(collapse(laplacian_pyramid(x, levels)), x, atol=1e-6, rtol=0)


def test_a_constant_has_no_detail_at_any_border():
    bands = laplacian_pyramid(torch.full((1, 1, 37, 21), 0.7), 4)
    assert max(float(b.abs().max()) for b in bands[:-1]) < 1e-6
