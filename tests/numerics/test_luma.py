"""Luma, exact and rounded."""

import pytest
import torch

from fusionkit.numerics.luma import luma, rounded_luma


def test_rounded_luma_is_the_nearest_level_and_decides_ties_as_opencv():
    colors = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    rounded = rounded_luma(colors / 255) * 255
    assert float((rounded - luma(colors)).abs().max()) < 0.5 + 1e-4
    # halves, of which (0.299 R + 0.587 G) + 0.114 B in float32 makes the other neighbour; levels of OpenCV 4.11
    ties = {(0, 138, 171): 101, (5, 113, 41): 73, (20, 8, 16): 12, (35, 157, 34): 106}
    for color, level in ties.items():
        assert float(rounded_luma(torch.tensor(color).view(1, 3, 1, 1) / 255)) * 255 == pytest.approx(level)
    grey = torch.rand(1, 1, 8, 8)
    assert torch.equal(rounded_luma(grey), (grey * 255).round() / 255)
