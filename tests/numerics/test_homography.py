"""Resampling by a homography: exact where it can be, strip by strip the same, and what lies inside."""

import math

import pytest
import torch

from fusionkit.numerics.homography import Warp, common_box, displacement, square, stretch, warp

SIZE = (90, 120)
TILTED = torch.tensor([[1.1, 0.1, 4.0], [-0.05, 0.9, -3.0], [2e-4, -3e-4, 1.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def image():
    """A smooth image, (1, 2, 90, 120)."""
    y, x = torch.meshgrid(torch.linspace(0, 4, 90), torch.linspace(0, 5, 120), indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(x) * torch.cos(y), 0.5 + 0.4 * torch.cos(x + y)])[None]


def shift(right, down):
    return torch.tensor([[1, 0, right], [0, 1, down]], dtype=torch.float64)


def test_a_warp_by_whole_pixels_is_a_copy_and_says_what_is_inside(image):
    moved, inside = warp(image, shift(5, 3))
    assert torch.allclose(moved[..., :-3, :-5], image[..., 3:, 5:], atol=2e-5)
    assert inside[..., :-3, :-5].all()
    assert not inside[..., -3:, :].any()
    assert torch.allclose(warp(image, square(shift(0, 0)))[0], image, atol=2e-5)
    assert warp(image, square(shift(0, 0)))[1].all()


def test_strips_of_a_homography_read_few_rows_and_give_the_same(image):
    by = Warp(TILTED, (80, 100), SIZE)
    whole, seen = warp(image, TILTED, (80, 100))[0], []

    def read(rows):
        seen.append(rows.stop - rows.start)
        return image[..., rows, :]

    parts = torch.cat([by.rows(slice(top, top + 20), read) for top in range(0, 80, 20)], -2)
    assert torch.allclose(parts, whole, atol=1e-5)
    assert max(seen) < 50


def test_a_homography_and_back_is_the_image(image):
    there = warp(image, TILTED)[0]
    back, inside = warp(there, TILTED.inverse())
    assert (back - image).abs()[..., 20:-20, 20:-20].max() < 5e-3


def test_a_source_with_more_pixels_is_low_passed(generator):
    noise = torch.rand(1, 1, 400, 400, generator=generator)
    small = warp(noise, torch.diag(torch.tensor([4.0, 4.0, 1.0])), (100, 100))[0]
    assert small.std() < 0.4 * noise.std()
    assert small.mean() == pytest.approx(float(noise.mean()), abs=0.01)


def test_what_moves_is_measured_against_laying_the_source_over_the_reference():
    assert displacement(shift(3, 4), SIZE) == 5
    assert displacement(stretch(SIZE, (45, 60)), SIZE, (45, 60)) == 0
    half = stretch(SIZE, (45, 60))
    half[0, 2] = 3  # pixels of the source are two of the reference
    assert displacement(half, SIZE, (45, 60)) == pytest.approx(6)
    assert displacement(shift(500, 0), SIZE) == math.inf


def test_the_common_box_is_seen_by_all_and_cannot_grow():
    warps = [Warp(square(shift(7, 0)), SIZE, SIZE), Warp(square(shift(-4, 11)), SIZE, SIZE)]
    assert common_box(warps, SIZE) == (slice(0, 79), slice(4, 113))
    turned = Warp(TILTED, SIZE, SIZE)
    rows, columns = common_box([turned], SIZE)
    assert turned.inside()[..., rows, columns].all()
    assert (rows.stop - rows.start) * (columns.stop - columns.start) > 0.6 * float(turned.inside().sum())
    assert common_box([Warp(square(shift(119.5, 0)), SIZE, SIZE)], SIZE) is None
