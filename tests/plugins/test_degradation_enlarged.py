"""Noise and lines of pictures that were enlarged: found at the scale where they came in, undone there."""

import pytest
import torch
import torch.nn.functional as F
from skimage import data

from fusionkit_plugins.degradations.enlarged import enlarged_noise
from fusionkit_plugins.degradations.noise import Noise, NoiseOptions
from fusionkit_plugins.degradations.stripes import Stripes, StripesOptions


@pytest.fixture(scope="module")
def photograph():
    """A photographer, (1, 1, 512, 512) in [0, 1]."""
    return torch.from_numpy(data.camera())[None, None].float() / 255


def noisy(size, generator, level=5.0):
    """A smooth scene of this size, with white noise in it."""
    y, x = torch.meshgrid(*(torch.linspace(0, 3, n) for n in size), indexing="ij")
    return (0.4 + 0.1 * torch.sin(2 * x + y) + level / 255 * torch.randn(size, generator=generator))[None, None]


def stored(x):
    return (255 * x.clamp(0, 1)).round() / 255


def answered(restoration, answer):
    """The result, each question answered by `answer`."""
    try:
        asked = next(restoration)
        while True:
            asked = restoration.send(answer(*asked))
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_noise_of_a_picture_that_was_enlarged_is_found(generator, mode):
    small = noisy((120, 160), generator)
    found = Noise.estimate(stored(F.interpolate(small, scale_factor=4, mode=mode)), {})
    assert found is not None
    assert found["scale"] in (3, 4)
    assert found["level"] == pytest.approx(5.0, rel=0.45)
    assert Noise.estimate(stored(small), {})["scale"] == 1


def test_texture_and_smooth_pictures_are_no_enlarged_noise(photograph, generator):
    soft = F.interpolate(photograph, scale_factor=3, mode="bicubic")
    textures = [torch.from_numpy(t)[None, None].float() / 255 for t in (data.brick(), data.grass(), data.gravel())]
    for y in (photograph, soft, *textures, torch.ones(1, 1, 64, 64), torch.full((1, 1, 5, 2), 0.5)):
        assert enlarged_noise(stored(y))[1] == 1


@pytest.mark.parametrize("size", [(60, 80), (63, 81)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_is_cleaned_in_the_pixels_that_the_picture_had(generator, scale, size):
    clean = noisy(size, generator, 0.0)
    noise = Noise(NoiseOptions(level=6, scale=scale))
    y = noise.forward(clean, generator)
    assert y.shape == clean.shape
    assert float((y - clean).std()) > 2 / 255
    sizes = []

    def flow(x, s):
        sizes.append(tuple(x.shape[-2:]))
        assert s == pytest.approx(6 / 255)
        whole = F.pad(clean, (0, -size[1] % scale, 0, -size[0] % scale), mode="replicate")
        return F.avg_pool2d(whole, scale)

    x = answered(noise.undo(y, 0.0), flow)
    assert all(abs(n - m / scale) < 1 for n, m in zip(sizes[0], size, strict=True))
    inner = (..., slice(4, -4), slice(4, -4))
    assert float((x - clean)[inner].std()) < 0.35 * float((y - clean)[inner].std())


def test_broad_lines_are_found_with_the_scale_of_the_noise_and_undone_there(generator):
    small = noisy((128, 160), generator) + 4 / 255 * torch.randn(1, 1, 1, 160, generator=generator)
    y = stored(F.interpolate(small, scale_factor=4, mode="bicubic"))
    found = Stripes.estimate(y, {})
    assert found is not None
    assert (found["direction"], found["scale"]) == ("columns", 4)
    stripes = Stripes(StripesOptions(**found))
    x = answered(stripes.undo(y, 0.0), lambda x, s: x.mean((-2, -1), keepdim=True).expand_as(x))
    before, after = (float(z.mean(-2).diff(dim=-1).std()) for z in (y, x))
    assert after < 0.5 * before
    assert "enlarged 4 times" in stripes.describe()
