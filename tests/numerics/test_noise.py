"""Estimated noise against noise that was made: scikit-image's public pictures, and scenes of this package."""

import numpy as np
import pytest
import torch
from skimage import data

from fusionkit.numerics.noise import Noise, _quiet, estimate_noise, stabilise, unstabilise
from fusionkit.scenes import SCENES

PHOTOGRAPHS = ("camera", "astronaut", "coffee", "rocket")


def photograph(name):
    """Luma (1, 1, H, W), halved, so that no camera's noise is left."""
    image = torch.from_numpy(np.ascontiguousarray(getattr(data, name)())).float() / 255
    image = image if image.ndim == 2 else image @ torch.tensor([0.299, 0.587, 0.114])
    return torch.nn.functional.avg_pool2d(image[None, None], 2) if min(image.shape) > 400 else image[None, None]


def stored(y):
    return (y.clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_clean_photographs_are_below_the_dead_zone(name):
    assert estimate_noise(stored(photograph(name)))[0].level < 1.5 / 255


@pytest.mark.parametrize("level", [10, 20, 30])
def test_white_noise_clipped_and_rounded(level, generator):
    ratios = []
    for name in PHOTOGRAPHS:
        y = photograph(name)
        ratios.append(estimate_noise(stored(y + level / 255 * torch.randn(y.shape, generator=generator)))[0].level)
    assert np.median(ratios) * 255 == pytest.approx(level, rel=0.05)


def test_white_noise_on_a_ramp():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, 256)[None, :] + 0.03 * rng.standard_normal((200, 256))
    assert estimate_noise(torch.from_numpy(ramp)[None, None].float())[0].level == pytest.approx(0.03, rel=0.05)


def test_noise_that_grows_with_light(generator):
    a, b = 0.02, 0.0004
    y = torch.linspace(0.1, 0.9, 256).expand(1, 1, 256, 256).contiguous()
    noise = estimate_noise(stored(y + (a * y + b).sqrt() * torch.randn(y.shape, generator=generator)))[0]
    for x in (0.2, 0.5, 0.8):
        assert (noise.slope * x + noise.offset) ** 0.5 == pytest.approx((a * x + b) ** 0.5, rel=0.08)


def test_noise_along_rows_is_seen_whole(generator):
    y = photograph("camera")
    wide = torch.randn(*y.shape[:-1], y.shape[-1] + 4, generator=generator)
    rows = torch.nn.functional.avg_pool2d(wide, (1, 5), 1) * 5**0.5
    noise = estimate_noise(stored(y + 12 / 255 * rows))[0]
    assert noise.correlation > 0.5
    assert noise.level * 255 == pytest.approx(12, rel=0.15)


def test_each_image_of_a_batch_alone(generator):
    clean = photograph("camera")
    batch = torch.cat([clean, stored(clean + 20 / 255 * torch.randn(clean.shape, generator=generator))])
    quiet, loud = estimate_noise(batch)
    assert quiet.level < 1.5 / 255 < loud.level
    assert loud == estimate_noise(batch[1:])[0]


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (16, 16), (40, 17)])
def test_small_and_flat_images_are_harmless(size):
    for level in (0.0, 0.5, 1.0):
        assert estimate_noise(torch.full((1, 1, *size), level))[0].level == 0
    assert estimate_noise(torch.rand(1, 1, *size))[0].level >= 0


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_procedural_scenes_have_little(scene):
    for image in SCENES[scene].make((240, 320), seed=0):
        luma = torch.from_numpy(image.astype(np.float32).mean(2))[None, None]
        assert estimate_noise(luma)[0].level < 4 / 255


class TestStabiliser:
    NOISE = Noise(0.1, 0.02, 0.0004)

    def test_noise_becomes_uniform_and_of_the_stated_deviation(self, generator):
        for x in (0.2, 0.5, 0.8):
            flat = torch.full((1, 1, 256, 256), x)
            y = flat + self.NOISE.variance(flat).sqrt() * torch.randn(flat.shape, generator=generator)
            z, deviation = stabilise(y, self.NOISE)
            assert float(z.std()) == pytest.approx(deviation, rel=0.05)

    def test_the_inverse_of_the_mean_is_the_mean(self, generator):
        for x in (0.1, 0.5, 0.9):
            flat = torch.full((1, 1, 400, 400), x)
            y = flat + self.NOISE.variance(flat).sqrt() * torch.randn(flat.shape, generator=generator)
            mean = stabilise(y, self.NOISE)[0].mean()
            assert float(unstabilise(mean, self.NOISE)) == pytest.approx(x, abs=1 / 255)

    def test_the_ends_stay_the_ends(self):
        z, _ = stabilise(torch.tensor([0.0, 1.0]), self.NOISE)
        assert z.tolist() == pytest.approx([0, 1], abs=1e-6)

    def test_white_noise_is_left_as_it_is(self):
        y, noise = torch.rand(3, 3), Noise(0.1, 0.0, 0.01)
        assert stabilise(y, noise) == (y, 0.1)
        assert unstabilise(y, noise) is y


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_weak_noise_is_not_taken_for_a_quiet_image(name, generator):
    clean = photograph(name)
    y = stored(clean + 2 / 255 * torch.randn(clean.shape, generator=generator))
    assert not _quiet(y[0, 0])
