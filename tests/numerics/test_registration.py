"""Where one image lies in another: shifts, turns, scales and views that were made are found; nothing else is claimed."""

import math

import pytest
import torch
from skimage import data

from fusionkit.numerics.homography import displacement, size_of, square, warp
from fusionkit.numerics.registration import look_apart, register
from fusionkit.numerics.window import gaussian_blur
from fusionkit.scenes import infrared_visible
from fusionkit_plugins.alignment.field import Field, FieldWarp

SIZE = (192, 256)


@pytest.fixture(scope="module")
def pair():
    """Luma of a visible and an infrared image that are registered."""
    ir, visible = infrared_visible(SIZE, seed=4)
    return torch.from_numpy(visible).float().mean(-1)[None, None], torch.from_numpy(ir).float()[None, ..., 0][None]


def matrix(angle=0.0, scale=1.0, right=0.0, down=0.0):
    cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    return torch.tensor([[cos, -sin, right], [sin, cos, down], [0, 0, 1]], dtype=torch.float64)


def apart(a, b, size=SIZE):
    """Median distance in pixels between where two transforms put things."""
    return displacement(square(a) - square(b) + torch.eye(3, dtype=torch.float64), size)


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
    assert found.left < 1.5
    assert apart(found.matrix, move.inverse()) < 1
    assert apart(torch.eye(3), move.inverse()) > 5  # what it would be without


@pytest.mark.parametrize(("view", "size"), [(0.55, (128, 176)), (0.7, SIZE)])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_narrower_and_a_wider_view_of_another_size_are_found(pair, view, size, swapped):
    visible, infrared = pair
    inner = matrix(angle=2, scale=view * SIZE[1] / size[1], right=-14, down=9)  # from the narrow image to the wide one
    narrow = warp(infrared, inner, size)[0]
    found = register(narrow, visible, "affine") if swapped else register(visible, narrow, "affine")
    truth = inner if swapped else inner.inverse()
    assert found.sure
    moved = found.matrix @ truth.inverse() if swapped else truth.inverse() @ found.matrix
    assert displacement(moved, (80, 80)) < 1.2  # in the middle of the wide image


def test_a_start_is_all_that_is_searched(pair):
    visible, infrared = pair
    narrow = warp(infrared, matrix(scale=0.6, right=10))[0]
    assert register(visible, narrow, "affine", start=matrix(scale=1 / 0.6)).sure
    assert register(visible, narrow, "rigid", start=matrix(scale=1 / 0.6)).sure
    assert not register(visible, narrow, "affine", start=matrix()).sure
    assert not register(visible, narrow, "rigid").sure


def test_which_side_of_an_edge_is_brighter_does_not_matter(pair):
    visible, _ = pair
    move = matrix(right=8, down=4)
    found = register(visible, 1 - warp(visible, move)[0], "translation")
    assert found.sure
    assert apart(found.matrix, move.inverse()) < 0.3


def test_what_is_left_grows_with_what_is_unclear(pair):
    visible, infrared = pair
    sharp, soft = (register(visible, image, "affine") for image in (infrared, gaussian_blur(infrared, 4.0)))
    assert sharp.left < soft.left
    assert sharp.confidence > soft.confidence


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


def test_large_images_are_reduced_without_a_shift():
    _, visible = infrared_visible((1101, 1931), seed=2)
    visible = torch.from_numpy(visible).float().mean(-1)[None, None]
    found = register(visible, visible[..., 3:, 2:], "affine")  # other pixels are left over when it is reduced
    assert found.sure
    assert apart(found.matrix, matrix(right=-1, down=-1.5), (1101, 1931)) < 0.3


def test_parallax_in_parts_does_not_refuse_a_transform_that_is_right():
    luma = torch.from_numpy(data.camera()).float()[None, None] / 255
    cell, size, move = (torch.arange(512) // 128) % 2, size_of(luma), matrix(angle=1, right=5, down=-4)
    parts = gaussian_blur((cell[:, None] != cell).float()[None, None] * 2 - 1, 12)
    field = Field(2.6 * parts.expand(1, 2, -1, -1), 0 * parts, 0.0, 0.0, True)
    moved = FieldWarp(move, size, size, field=field).rows(slice(None), lambda rows: 1 - luma[..., rows, :])
    found = register(luma, moved, "affine")
    assert 0.9 < found.left < 1.4  # by such an error of the transform it would be refused
    assert found.sure
    assert apart(found.matrix, move.inverse(), size) < 2
