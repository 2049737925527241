"""Haze and rain: found where they are, left alone where they are not, undone."""

import pytest
import torch
from skimage import data

from fusionkit.flow.restoring import side_by_side
from fusionkit.numerics.luma import luma
from fusionkit.numerics.window import box_mean
from fusionkit_plugins.degradations.weather import Haze, HazeOptions, Rain, RainOptions


@pytest.fixture(scope="module")
def photograph():
    """A cup of coffee, (1, 3, 384, 600) in [0, 1]."""
    return torch.from_numpy(data.coffee()[:384]).permute(2, 0, 1)[None].float() / 255


def undone(degradation, y):
    """With a mean over neighbours in the flow's place, and its colour left as it is."""
    [x] = side_by_side([degradation.undo(y, 0.0)], lambda asks: [box_mean(x, 1) for x, _ in asks])
    return x


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


def test_bright_lines_of_the_scene_are_no_rain(photograph):
    """Lines that are as often darker as brighter than what is beside them, and dark ones; rain is brighter."""
    rain = Rain(RainOptions(angle=10.0))
    streaks = rain.forward(torch.zeros_like(photograph), torch.Generator().manual_seed(1))
    other = rain.forward(torch.zeros_like(photograph), torch.Generator().manual_seed(2))
    assert Rain.estimate(luma(photograph + 0.5 * streaks), {}) is not None
    assert Rain.estimate(luma(photograph + 0.5 * (streaks - other)), {}) is None
    assert Rain.estimate(luma(photograph - 0.5 * streaks), {}) is None


def test_only_what_lies_across_the_fall_is_changed(photograph):
    """Lines along rows stay as they are beneath rain that falls straight down."""
    rows = 0.3 * (torch.arange(384) % 6 < 3).float()[:, None].expand(1, 3, 384, 600)
    rain = Rain(RainOptions(angle=0.0))
    rainy = 0.5 * photograph + rows
    assert error(undone(rain, rainy), rainy) < 0.01


def test_a_clean_picture_has_no_rain_to_lose(photograph):
    assert error(undone(Rain(RainOptions(angle=-20.0)), photograph), photograph) < 0.02


def test_mist_among_the_streaks_goes_with_them(photograph):
    rainy = (
        Rain(RainOptions(angle=20.0)).forward(Haze().forward(photograph), torch.Generator().manual_seed(1)).clamp(0, 1)
    )
    found = Rain.estimate(luma(rainy), {})
    assert found is not None
    assert found["mist"]
    rain = Rain(RainOptions(**found))
    assert rain.describe() == "rain at 20 degrees, with mist"
    assert rain.veils
    assert not Rain().veils
    veiled = undone(Rain(RainOptions(angle=found["angle"])), rainy)
    assert error(undone(rain, rainy), photograph) < 0.7 * error(veiled, photograph)


@pytest.mark.parametrize("size", [(1, 1), (30, 400), (400, 30)])
def test_small_pictures_come_back(size):
    y = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    x = undone(Rain(RainOptions(angle=30.0)), y)
    assert x.shape == y.shape
    assert bool(x.isfinite().all())


def test_a_dim_veil_is_exposed_anew(photograph):
    """Under a grey airlight all is dark; what comes out is as bright as a photograph."""
    dim = 0.6 * Haze().forward(photograph)
    clear = undone(Haze(), dim)
    assert float(luma(clear).median()) > 0.3
    assert float(luma(clear).std()) > 2 * float(luma(dim).std())


def test_a_grey_road_in_haze_stays_grey(photograph):
    """Its darkest colour is as far from black as a veil's; what is dark above it tells that there is less."""
    scene = photograph.clone()
    scene[..., 250:, :] = 0.4 + 0.02 * torch.rand(134, 600, generator=torch.Generator().manual_seed(1))
    clear = undone(Haze(), Haze().forward(scene))
    assert float(clear[..., 270:, :].mean()) > 0.3


def test_a_sky_in_which_nothing_shows_stays_as_bright_as_it_is(photograph):
    hazy = Haze().forward(photograph)
    hazy[..., :200, :] = 0.83 + 0.02 * torch.linspace(0, 1, 600)
    hazy[..., :24, 250:350] = 0.98  # the airlight
    clear = undone(Haze(), hazy)
    sky = (..., slice(60, 140), slice(40, 560))
    assert error(clear[sky], hazy[sky]) < 0.03
    assert error(clear, hazy) > 0.1
