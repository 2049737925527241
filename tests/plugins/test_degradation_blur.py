"""Blur on pictures whose blur is known; the flow is replaced by a denoiser of a few lines."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data

from fusionkit.errors import NoEffect, OptionError
from fusionkit.flow.restoring import side_by_side
from fusionkit.options import validate_options
from fusionkit_plugins.degradations.blur import Blur, clipped_areas


def blur(**options):
    return Blur(validate_options(Blur.Options, options, "blur"))


def photograph(top=96, left=160, height=128, width=160):
    pixels = data.camera()[top : top + height, left : left + width]
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None, None]


def shrink(asks):
    """Total variation in a few steps, in the flow's place."""
    return [_less_variation(x, s) for x, s in asks]


def _less_variation(x, s, rounds=12):
    """Chambolle (2004): the dual variable's projected gradient steps."""
    dual = x.new_zeros(2, *x.shape)

    def back(p):
        down = F.pad(p[0][..., :-1, :], (0, 0, 1, 1)).diff(dim=-2)
        return down + F.pad(p[1][..., :-1], (1, 1)).diff(dim=-1)

    for _ in range(rounds):
        clean = back(dual) - x / s
        slope = torch.stack([F.pad(clean.diff(dim=-2), (0, 0, 0, 1)), F.pad(clean.diff(dim=-1), (0, 1))])
        dual = (dual + slope / 8) / (1 + slope.square().sum(0).sqrt() / 8)
    return x - s * back(dual)


def restored(degradation, y, noise=1 / 255):
    return side_by_side([degradation.undo(y, noise)], shrink)[0]


def error(a, b):
    return float((a - b).square().mean().sqrt()) * 255


@pytest.mark.parametrize(
    ("options", "row", "column"),
    [
        ({"sigma": 1.6}, 1.6**2, 1.6**2),
        ({"kernel": "disc", "radius": 3.0}, 9 / 4, 9 / 4),
        ({"kernel": "motion", "length": 9.0}, 0.0, 81 / 12),
        ({"kernel": "motion", "length": 9.0, "angle": 90.0}, 81 / 12, 0.0),
    ],
)
def test_a_point_is_spread_as_the_options_say(options, row, column):
    point = torch.zeros(1, 1, 41, 43)
    point[..., 20, 21] = 1
    spread = blur(**options).forward(point)[0, 0]
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    for axis, expected in ((0, row), (1, column)):
        place = torch.arange(spread.shape[axis]) - (20, 21)[axis]
        assert float((spread.sum(1 - axis) * place**2).sum()) == pytest.approx(expected, rel=0.05, abs=0.2)


def test_a_movement_of_thirty_degrees_goes_up_to_the_right():
    kernel = blur(kernel="motion", length=15.0, angle=30.0).kernel
    y, x = torch.meshgrid(*(torch.arange(n) - n // 2 for n in kernel.shape), indexing="ij")
    turn = math.degrees(0.5 * math.atan2(2 * float((kernel * -y * x).sum()), float((kernel * (x**2 - y**2)).sum())))
    assert turn == pytest.approx(30, abs=1)


@pytest.mark.parametrize("options", [{"sigma": 1.0}, {"kernel": "motion", "length": 5.0, "angle": 40.0}])
def test_the_proximal_step_is_a_minimum(options, generator):
    degradation, y = blur(**options), photograph(height=37, width=53)
    wide = degradation.begin(y) + 0.05 * torch.randn(degradation.begin(y).shape, generator=generator)

    def cost(x):
        missing = degradation.finish(degradation._blurred(x), y) - y
        return float(missing.double().square().sum() + 0.05 * (x - wide).double().square().sum())

    x = degradation.prox(wide, y, 0.05)
    for _ in range(4):
        step = 0.02 * torch.randn(x.shape, generator=generator)
        assert cost(x) < min(cost(x + step), cost(x - step), cost(wide))


def test_a_picture_cut_out_of_a_blurred_one_is_sharp_up_to_its_frame(generator):
    degradation, whole = blur(sigma=1.6), photograph(64, 100, 200, 240)
    y = degradation.forward(whole) + torch.randn(whole.shape, generator=generator) / 255
    inside = (..., slice(30, 157), slice(30, 191))
    x, y = whole[inside], y[inside]
    found = restored(degradation, y)
    assert found.shape == x.shape
    assert error(found, x) < 0.8 * error(y, x)
    missed, rim = (found - x).square(), torch.ones_like(x, dtype=torch.bool)
    rim[..., 8:-8, 8:-8] = False
    gained = missed[rim].mean() / (y - x)[rim].square().mean(), missed[~rim].mean() / (y - x)[~rim].square().mean()
    assert float(gained[0]) < 1.5**2 * float(gained[1])


def test_clipped_areas_do_not_ring():
    x = torch.full((1, 1, 64, 80), 0.3)
    x[..., 24:40, 30:50] = 2.5
    degradation = blur(sigma=2.0)
    y = degradation.forward(x).clamp(0, 1)
    lowest = float(restored(degradation, y).min())
    assert lowest > 0.15
    trusting = 0.998 * y + 0.001  # the same picture, not clipped
    assert float(restored(degradation, trusting).min()) < lowest - 0.1


def test_pixels_that_noise_clips_are_no_clipped_area(generator):
    y = (0.02 * torch.randn(1, 1, 64, 64, generator=generator)).clamp(0, 1)
    assert not clipped_areas(y).any()
    y[..., 20:30, 20:30] = 1
    assert int(clipped_areas(y).sum()) == 14 * 14


def test_strong_noise_is_cleaned_before_anything_else(generator):
    degradation, y = blur(sigma=1.0, steps=3), photograph()
    for noise, expected in ((2 / 255, [24, 6.93, 2]), (8 / 255, [8, 30, 2.5])):
        asked = []

        def clean(asks, asked=asked):
            asked.extend(255 * s for _, s in asks)
            return [x for x, _ in asks]

        side_by_side([degradation.undo(y, noise)], clean)
        assert asked == pytest.approx(expected, rel=0.01)


def test_a_kernel_from_a_file(tmp_path):
    kernel = np.zeros((5, 7), np.float32)
    kernel[2, 1:6] = 3.0
    np.save(tmp_path / "k.npy", kernel)
    Image.fromarray((kernel * 50).astype(np.uint8)).save(tmp_path / "k.png")
    for name in ("k.npy", "k.png"):
        found = blur(kernel="file", file=str(tmp_path / name))
        assert float(found.kernel.sum()) == pytest.approx(1)
        assert float(found.kernel[2, 3]) == pytest.approx(0.2)
        assert found.describe() == f"blur by {name}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((4, 5)), "odd sides"),
        (np.ones((3, 3, 3)), "odd sides"),
        (np.ones((257, 3)), "odd sides"),
        (np.zeros((3, 3)), "not all 0"),
        (-np.eye(3), "not all 0"),
        (np.full((3, 3), np.nan), "finite"),
        (np.array([["a"]]), "cannot be read"),
    ],
)
def test_what_is_no_kernel_is_refused_in_one_line(tmp_path, values, said):
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(OptionError, match=said) as error:
        blur(kernel="file", file=str(tmp_path / "k.npy"))
    assert "\n" not in str(error.value)


def test_missing_and_broken_kernel_files_are_refused(tmp_path):
    (tmp_path / "k.png").write_bytes(b"no picture")
    (tmp_path / "k.npy").write_bytes(b"no array")
    for file in ("", *(str(tmp_path / name) for name in ("k.png", "k.npy", "none.png", "none.npy"))):
        with pytest.raises(OptionError) as error:
            blur(kernel="file", file=file)
        assert "\n" not in str(error.value)


def test_options_of_other_kernels_are_refused():
    for options in ({"radius": 3.0}, {"kernel": "disc", "sigma": 2.0}, {"file": "k.png"}):
        with pytest.raises(NoEffect):
            blur(**options)


@pytest.mark.parametrize("sigma", [2.0, 3.0])
@pytest.mark.parametrize("noise", [0, 4])
def test_the_width_of_a_blur_is_found(sigma, noise, generator):
    x = photograph(0, 0, 512, 512)
    y = blur(sigma=sigma).forward(x) + noise / 255 * torch.randn(x.shape, generator=generator)
    found = Blur.estimate((y.clamp(0, 1) * 255).round() / 255, {})
    assert found["kernel"] == "gaussian"
    assert found["sigma"] == pytest.approx(sigma, rel=0.25)
    assert blur(**found).describe() == f"blur of {found['sigma']:g} pixels"


@pytest.mark.parametrize("name", ["camera", "coins", "page", "text", "moon", "brick", "grass", "gravel"])
def test_no_blur_is_found_in_sharp_pictures(name):
    y = torch.from_numpy(getattr(data, name)().astype(np.float32) / 255)[None, None]
    assert Blur.estimate(y, {}) is None
    assert Blur.estimate(y[..., :20, :20], {}) is None
    assert Blur.estimate(torch.full((1, 1, 100, 100), 0.5), {}) is None


def test_what_is_told_is_taken():
    assert Blur.estimate(photograph(), {"sigma": 1.2}) == {"sigma": 1.2}
