"""Where one image lies in another: shifts, turns and scales that were made are found; what is unclear is not claimed."""

import math

import pytest
import torch

from fusionkit.numerics.registration import displacement, look_apart, register, warp
from fusionkit.scenes import infrared_visible

SIZE = (192, 256)


@pytest.fixture(scope="module")
def pair():
    """Luma of a visible and an infrared image that are registered."""
    ir, visible = infrared_visible(SIZE, seed=4)
    return torch.from_numpy(visible).float().mean(-1)[None, None], torch.from_numpy(ir).float()[None, ..., 0][None]


def matrix(angle=0.0, scale=1.0, right=0.0, down=0.0):
    cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    return torch.tensor([[cos, -sin, right], [sin, cos, down]], dtype=torch.float64)


def inverse(m):
    return torch.linalg.inv(torch.cat([m, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)]))[:2]


def apart(a, b):
    """Median distance in pixels between where two transforms put things."""
    return displacement(a - b + torch.eye(2, 3, dtype=torch.float64), SIZE)


@pytest.mark.parametrize(
    ("model", "move"),
    [
        ("translation", matrix(right=9, down=-6)),
        ("rigid", matrix(angle=4, right=-7, down=5)),
        ("affine", matrix(angle=-3, scale=1.04, right=6, down=8)),
    ],
)
def test_a_move_is_found_across_sensors(pair, model, move):
    visible, infrared = pair
    found = register(visible, warp(infrared, move)[0], model)
    assert found.sure
    assert found.after > found.before + 0.05
    assert apart(found.matrix, inverse(move)) < 1
    assert apart(torch.eye(2, 3, dtype=torch.float64), inverse(move)) > 5  # what it would be without


def test_which_side_of_an_edge_is_brighter_does_not_matter(pair):
    visible, _ = pair
    move = matrix(right=8, down=4)
    found = register(visible, 1 - warp(visible, move)[0], "translation")
    assert found.sure
    assert apart(found.matrix, inverse(move)) < 0.3


def test_what_has_nothing_in_common_is_not_claimed(generator):
    a, b = torch.rand(2, 1, 1, *SIZE, generator=generator)
    assert not register(a, b, "affine").sure
    assert look_apart(a, b) is None
    flat = torch.full((1, 1, *SIZE), 0.5)
    assert not register(a, flat, "translation").sure
    assert look_apart(flat, flat) is None


def test_a_shift_is_told_with_its_direction_and_none_is_not(pair):
    visible, infrared = pair
    assert look_apart(visible, infrared) is None
    found = look_apart(visible[..., 10:-10, 12:-12], infrared[..., 3:-17, 20:-4])
    assert (found.right, found.down) == (pytest.approx(-8, abs=0.7), pytest.approx(7, abs=0.7))
    assert look_apart(visible[..., :40, :40], infrared[..., 8:48, :40]) is None  # too small to say


def test_a_warp_by_whole_pixels_is_a_copy_and_says_what_is_inside(pair):
    visible, _ = pair
    moved, inside = warp(visible, matrix(right=5, down=3))
    assert torch.allclose(moved[..., :-3, :-5], visible[..., 3:, 5:], atol=2e-5)
    assert inside[..., :-3, :-5].all()
    assert not inside[..., -3:, :].any()
    assert torch.allclose(warp(visible, matrix())[0], visible, atol=2e-5)
