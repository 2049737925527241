"""Haze and rain: found where they are, left alone where they are not, undone."""

import pytest
import torch
from skimage import data

from fusionkit.numerics.luma import luma
from fusionkit_plugins.degradations.weather import Haze, HazeOptions, Rain, RainOptions


@pytest.fixture(scope="module")
def photograph():
    """A cup of coffee, (1, 3, 384, 600) in [0, 1]."""
    return torch.from_numpy(data.coffee()[:384]).permute(2, 0, 1)[None].float() / 255


def undone(degradation, y):
    restoration = degradation.undo(y, 0.0)
    try:
        asked, _ = next(restoration)
        restoration.send(asked)
    except StopIteration as end:
        return end.value
    raise AssertionError("asked twice")


def error(x, y):
    return float((x - y).square().mean().sqrt())


def test_a_veil_is_found_and_taken_away(photograph):
    haze = Haze()
    hazy = haze.forward(photograph)
    assert Haze.estimate(luma(photograph), {}) is None
    assert Haze.estimate(luma(hazy), {}) == {}
    assert error(undone(haze, hazy), photograph) < 0.5 * error(hazy, photograph)


def test_strength_says_how_much_of_the_veil_goes(photograph):
    hazy = Haze().forward(photograph)
    errors = [error(undone(Haze(HazeOptions(strength=s)), hazy), photograph) for s in (0.2, 0.5, 0.8)]
    assert errors[0] > errors[1] > errors[2]


def test_a_large_picture_is_restored_as_its_small_copy_is(photograph):
    hazy = Haze().forward(photograph)
    large = torch.nn.functional.interpolate(hazy, scale_factor=3, mode="bilinear")
    small = torch.nn.functional.avg_pool2d(undone(Haze(), large), 3)
    assert error(small, undone(Haze(), hazy)) < 0.1 * error(hazy, undone(Haze(), hazy))


@pytest.mark.parametrize("angle", [-30.0, 0.0, 20.0])
def test_rain_is_found_with_its_angle_and_taken_away(photograph, angle):
    rain = Rain(RainOptions(angle=angle))
    rainy = rain.forward(photograph, torch.Generator().manual_seed(1)).clamp(0, 1)
    found = Rain.estimate(luma(rainy), {})
    assert found is not None
    assert abs(found["angle"] - angle) < 5
    assert error(undone(Rain(RainOptions(**found)), rainy), photograph) < 0.8 * error(rainy, photograph)


def test_there_is_no_rain_in_a_clean_picture_in_noise_or_in_a_small_one(photograph):
    noise = 0.5 + 0.1 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(1))
    for y in (luma(photograph), noise, luma(photograph)[..., :100, :100], torch.full((1, 1, 128, 128), 0.5)):
        assert Rain.estimate(y, {}) is None


def test_broad_bright_things_are_no_rain():
    y = torch.full((1, 3, 160, 160), 0.3)
    y[..., 40:120, 40:80] = 0.8
    assert torch.equal(undone(Rain(RainOptions(angle=0.0)), y), y)
    narrow = undone(Rain(RainOptions(angle=0.0, width=51)), y)
    assert float(narrow[..., 80, 60].mean()) < 0.7


def test_a_sky_in_which_nothing_shows_stays_as_bright_as_it_is(photograph):
    hazy = Haze().forward(photograph)
    hazy[..., :200, :] = 0.83 + 0.02 * torch.linspace(0, 1, 600)
    hazy[..., :24, 250:350] = 0.98  # the airlight
    clear = undone(Haze(), hazy)
    sky = (..., slice(60, 140), slice(40, 560))
    assert error(clear[sky], hazy[sky]) < 0.03
    assert error(clear, hazy) > 0.1
