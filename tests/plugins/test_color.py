"""Colour spaces invert exactly, agree with independent code, and mix chroma as stated."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionkit.contracts import Options, Sources
from fusionkit.numerics.window import gaussian_blur
from fusionkit_plugins.color.chroma import ChromaOptions, mix_chroma
from fusionkit_plugins.color.gray import Gray
from fusionkit_plugins.color.lab import Lab
from fusionkit_plugins.color.ycbcr import YCbCr
from harness import make_sources

SPACES = {"ycbcr": YCbCr(ChromaOptions()), "lab": Lab(ChromaOptions())}


@pytest.fixture
def rgb(generator):
    image = torch.rand(2, 3, 16, 16, generator=generator)
    corners = torch.tensor([[r, g, b] for r in (0.0, 1.0) for g in (0.0, 1.0) for b in (0.0, 1.0)])
    image[0, :, 0, :8] = corners.T
    return image


@pytest.mark.parametrize("name", SPACES)
def test_the_inverse_is_exact(name, rgb):
    space = SPACES[name]
    luma, chroma = space.split(rgb)
    assert luma.shape == (2, 1, 16, 16)
    torch.testing.assert_close(space.merge(luma, [chroma], make_sources(luma)), rgb, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", SPACES)
def test_grey_stays_grey_whether_stored_in_one_channel_or_three(name, rgb):
    space, grey = SPACES[name], rgb[:, :1]
    luma, chroma = space.split(grey)
    assert chroma is None
    torch.testing.assert_close(space.merge(luma, [None], make_sources(luma)), grey, atol=1e-5, rtol=0)
    luma3, chroma3 = space.split(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(luma3, luma, atol=1e-6, rtol=0)
    assert float(chroma3.abs().max()) < 1e-5


def test_ycbcr_is_the_one_of_jpeg(rgb):
    from PIL import Image

    levels = (rgb[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
    theirs = np.asarray(Image.fromarray(levels.numpy()).convert("YCbCr")).astype(float)
    luma, chroma = SPACES["ycbcr"].split(levels.permute(2, 0, 1)[None].float() / 255)
    assert np.abs(luma[0, 0].numpy() * 255 - theirs[..., 0]).max() <= 1
    assert np.abs(chroma[0].permute(1, 2, 0).numpy() * 255 + 128 - theirs[..., 1:]).max() <= 1.5


def test_lab_agrees_with_scikit_image(rgb):
    rgb2lab = pytest.importorskip("skimage.color").rgb2lab
    luma, chroma = SPACES["lab"].split(rgb)
    theirs = rgb2lab(rgb[0].permute(1, 2, 0).numpy())
    ours = torch.cat([luma, chroma], 1)[0].permute(1, 2, 0).numpy() * 100
    assert np.abs(ours - theirs).max() < 0.05


def test_gray_is_the_luma_of_ycbcr(rgb):
    luma, chroma = Gray(Options()).split(rgb)
    assert chroma is None
    torch.testing.assert_close(luma, SPACES["ycbcr"].split(rgb)[0])


def mix(chromas, chroma_from, luma, lumas, scene="contrast"):
    """Of sources that have colour somewhere."""
    red = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1)
    images = tuple(red.expand(len(y), -1, *y.shape[-2:]) for y in lumas)
    return mix_chroma(chromas, chroma_from, luma, Sources(images, tuple(lumas), known_scenes=(scene,) * len(luma)))


def test_one_colour_source_gives_its_chroma(rgb):
    chroma = SPACES["ycbcr"].split(rgb)[1]
    y = torch.full_like(chroma[:, :1], 0.5)
    assert torch.equal(mix([None, chroma], 0, y, [y, y / 2]), chroma)
    assert mix([None, None], 0, y, [y, y]) is None
    assert mix([None, chroma], 1, y, [y, y]) is None
    assert mix([0 * chroma, chroma], 1, y, [y, y]).abs().max() == 0


def test_several_colour_sources_are_weighted_by_saturation():
    strong, weak = torch.tensor([0.4, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 0.1]).view(1, 2, 1, 1)
    y = torch.full((1, 1, 1, 1), 0.5)
    mixed = mix([strong, weak, None], 0, y, [y, y, y])
    torch.testing.assert_close(mixed, (0.4 * strong + 0.1 * weak) / 0.5, atol=1e-5, rtol=0)
    neutral = torch.zeros_like(strong)
    torch.testing.assert_close(mix([strong, neutral], 0, y, [y, y]), strong, atol=1e-5, rtol=0)
    assert float(mix([neutral, neutral], 0, y, [y, y]).abs().max()) == 0


def test_colours_of_a_source_change_with_its_luma():
    """Up to three times, as they would have with the exposure; by the square root downwards, since light bleaches."""
    chroma, y = torch.tensor([0.05, -0.02]).view(1, 2, 1, 1), torch.full((1, 1, 1, 1), 0.2)
    neutral, bright = torch.zeros_like(chroma), torch.full_like(y, 0.9)
    lifted = mix([chroma, neutral], 0, 2 * y, [y, bright])
    torch.testing.assert_close(lifted, chroma * (0.4 + 4 / 255) / (0.2 + 4 / 255), atol=1e-5, rtol=0)
    torch.testing.assert_close(mix([chroma, neutral], 0, bright, [y / 4, bright]), 3 * chroma, atol=1e-4, rtol=0)
    fallen = mix([chroma, neutral], 0, y / 2, [y, bright])
    torch.testing.assert_close(fallen, chroma * ((0.1 + 4 / 255) / (0.2 + 4 / 255)) ** 0.5, atol=1e-5, rtol=0)
    clipped = 0.1 * chroma  # beside white, whatever colour it has left is not the object's
    both = mix([chroma, clipped], 0, y, [y, torch.ones_like(y)])
    torch.testing.assert_close(both, chroma, atol=3e-3, rtol=0)


def test_heat_adds_no_colour():
    """What is dark in all sources in colour, and hot, keeps the little colour that it has."""
    chroma, y = torch.tensor([0.01, 0.03]).view(1, 2, 1, 1), torch.full((1, 1, 1, 1), 0.1)
    hot, lit = torch.full_like(y, 0.9), torch.full_like(y, 0.2)
    torch.testing.assert_close(mix([None, chroma, chroma], 0, hot, [hot, y, y], "heat"), chroma, atol=1e-5, rtol=0)
    exposures = mix([None, chroma, 0 * chroma], 0, hot, [hot, y, lit], "heat")
    torch.testing.assert_close(exposures, chroma * (0.2 + 4 / 255) / (0.1 + 4 / 255), atol=1e-5, rtol=0)


def test_one_scan_in_colour_falls_with_its_luma_and_rises_with_none():
    """Which keeps hue and saturation, or the chroma; where kinds of scenes are not layered it stays."""
    pet = torch.tensor([0.9, 0.4, 0.1]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    sources = Sources.of([torch.full((2, 1, 8, 8), 0.5), pet])
    space = SPACES["ycbcr"]
    chromas = [space.split(image)[1] for image in sources.images]
    layered = replace(sources, known_scenes=("contrast", "heat"))
    darker = space.merge(0.5 * sources.luma[1], chromas, layered)
    torch.testing.assert_close(darker[0], 0.5 * pet[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(space.split(darker)[1][1], chromas[1][1], atol=1e-5, rtol=0)
    brighter = space.merge(sources.luma[1] + 0.1, chromas, layered)
    torch.testing.assert_close(brighter, pet + 0.1, atol=1e-5, rtol=0)
    # a grey scan that is stored in three channels is no second one
    beside = [torch.zeros(2, 2, 8, 8), chromas[1]]
    torch.testing.assert_close(space.merge(0.5 * sources.luma[1], beside, layered), darker, atol=1e-5, rtol=0)


def test_colours_of_exposures_rise_less_than_their_luma():
    chroma, y = torch.tensor([0.05, -0.02]).view(1, 2, 1, 1), torch.full((1, 1, 1, 1), 0.2)
    neutral, bright = torch.zeros_like(chroma), torch.full_like(y, 0.9)
    lifted = mix([chroma, neutral], 0, 2 * y, [y, bright], "exposure")
    torch.testing.assert_close(lifted, chroma * ((0.4 + 4 / 255) / (0.2 + 4 / 255)) ** 0.75, atol=1e-5, rtol=0)
    fallen = mix([chroma, neutral], 0, y / 2, [y, bright], "exposure")
    torch.testing.assert_close(fallen, chroma * ((0.1 + 4 / 255) / (0.2 + 4 / 255)) ** 0.5, atol=1e-5, rtol=0)


@pytest.fixture
def sunset():
    """A bracket of an orange glow that falls off to the right: its over-exposed frame is clipped to yellow."""
    glow = torch.linspace(1.0, 0.15, 96).view(1, 1, 1, -1).expand(1, 1, 64, 96)
    light = glow * torch.tensor([1.0, 0.45, 0.15]).view(1, 3, 1, 1)
    return [(light * gain).clamp(0, 1) ** (1 / 2.2) for gain in (0.3, 4.0)]


@pytest.mark.parametrize("name", SPACES)
def test_the_hue_of_exposures_is_that_of_the_frame_that_is_not_clipped(name, sunset):
    space, sources = SPACES[name], Sources.of(sunset, _luma_of(name))
    assert sources.scenes == ("exposure",)
    chromas = [space.split(image)[1] for image in sources.images]
    merged = space.merge(torch.full_like(sources.luma[0], 0.55), chromas, sources)
    hues = [_hue(image)[..., :48] for image in (merged, *sunset)]
    assert float((hues[2] - hues[1]).abs().mean()) > 12
    assert float((hues[0] - hues[1]).abs().mean()) < 4


@pytest.mark.parametrize("name", SPACES)
def test_a_bright_colour_of_exposures_pales_and_keeps_its_hue(name, sunset):
    space, sources = SPACES[name], Sources.of(sunset, _luma_of(name))
    chromas = [space.split(image)[1] for image in sources.images]
    merged = space.merge(torch.full_like(sources.luma[0], 0.85), chromas, sources)
    assert float(merged.amin()) > -1e-3
    assert float(merged.amax()) < 1 + 1e-3
    assert float((_hue(merged) - _hue(sunset[0]))[..., :48].abs().mean()) < 6
    kept = space.split(merged)[0]
    torch.testing.assert_close(kept, torch.full_like(kept, 0.85), atol=0.04, rtol=0)


def _luma_of(name):
    return lambda image: SPACES[name].split(image)[0]


def _hue(image):
    """Degrees in the plane of BT.601's chroma."""
    cb, cr = SPACES["ycbcr"].split(image)[1].chunk(2, dim=1)
    return torch.rad2deg(torch.atan2(cr, cb))


def test_where_focus_differs_colour_comes_with_the_luma(generator):
    """A red thing on green, sharp in one source and blurred in the other: none of its blur's colour is left around it."""
    ground = gaussian_blur(torch.randn(1, 1, 64, 96, generator=generator), 6.0)
    sharp = (1 + 0.3 * ground / ground.std()) * torch.tensor([0.2, 0.4, 0.2]).view(1, 3, 1, 1)
    sharp[..., 20:44, 30:60] = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    blurred = gaussian_blur(sharp, 4.0)
    space, sources = SPACES["ycbcr"], Sources.of([blurred, sharp])
    chromas = [space.split(image)[1] for image in sources.images]
    merged = space.merge(sources.luma[1], chromas, sources)
    assert float((merged - sharp).abs().mean()) < 0.1 * float((blurred - sharp).abs().mean())
    batch = Sources.of([torch.cat([x, x.flip(-1)]) for x in (blurred, sharp)])
    chromas = [space.split(image)[1] for image in batch.images]
    torch.testing.assert_close(space.merge(batch.luma[1], chromas, batch)[:1], merged)


def test_grey_in_three_channels_has_no_colour(rgb):
    """The same infrared image, stored in one channel or in three, beside a coloured one: the same result."""
    space, grey = SPACES["ycbcr"], 0.7 * rgb[:, :1].flip(-1)
    for infrared in (grey, grey.expand(-1, 3, -1, -1)):
        sources = Sources.of([infrared, rgb])
        chromas = [space.split(image)[1] for image in sources.images]
        merged = space.merge(0.2 + 0.7 * sources.luma[1], chromas, sources)
        torch.testing.assert_close(space.split(merged)[1], chromas[1], atol=1e-5, rtol=0)
