"""Contrast against brute force and a count by hand."""

import pytest
import torch

from fusionkit.numerics.contrast import global_contrast, level_contrast


def test_global_contrast_is_the_mean_distance(generator):
    x = torch.rand(2, 1, 7, 9, generator=generator)
    flat = x.flatten(1)
    brute = (flat[:, :, None] - flat[:, None, :]).abs().mean(2).view_as(x)
    torch.testing.assert_close(global_contrast(x), brute)


def test_saliency_is_the_mean_distance_to_all_other_levels():
    levels = torch.tensor([[[[0.0, 0.0, 0.0, 100.0]]]])
    assert level_contrast(levels).flatten().tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
