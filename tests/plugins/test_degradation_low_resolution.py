"""Low resolution: the camera's geometry, and the exactness of the proximal step."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from fusionkit.errors import NoEffect, OptionError
from fusionkit.flow.restoring import side_by_side
from fusionkit.options import validate_options
from fusionkit_plugins.degradations.low_resolution import LowResolution, camera_matrix


def camera(**options):
    return LowResolution(validate_options(LowResolution.Options, options, "low_resolution"))


def photograph(height=96, width=128):
    pixels = data.camera()[100 : 100 + height, 160 : 160 + width]
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None, None]


def test_without_optics_a_pixel_is_the_mean_of_its_area():
    x = photograph()
    torch.testing.assert_close(camera(factor=4, optics=0).forward(x), F.avg_pool2d(x, 4))
    torch.testing.assert_close(camera(factor=1, optics=0).forward(x), x)


@pytest.mark.parametrize(("short", "long"), [(48, 96), (48, 100), (31, 96), (60, 60), (40, 30)])
@pytest.mark.parametrize("optics", [0.0, 0.25, 1.0])
def test_pixels_lie_edge_to_edge_and_weigh_alike(short, long, optics):
    matrix = camera_matrix(short, long, optics)
    torch.testing.assert_close(matrix.sum(1), torch.ones(short, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(0), torch.full((long,), short / long, dtype=torch.float64))
    ramp = (torch.arange(long, dtype=torch.float64) + 0.5) / long
    seen, expected = matrix @ ramp, (torch.arange(short, dtype=torch.float64) + 0.5) / short
    inner = slice(6, -6)
    torch.testing.assert_close(seen[inner], expected[inner], atol=0.26 / long, rtol=0)


def test_optics_have_the_stated_deviation():
    row = camera_matrix(31, 31 * 8, 0.5)[15]
    place = (torch.arange(31 * 8) + 0.5) / 8 - 15.5
    assert float((row * place).sum()) == pytest.approx(0, abs=1e-6)
    assert float((row * place**2).sum()) == pytest.approx(0.25 + 1 / 12, rel=0.01)


@pytest.mark.parametrize("size", [(64, 96), (50, 71), (33, 90)])
def test_the_proximal_step_is_the_minimum(size, generator):
    x0, y = (torch.rand(1, 1, *s, generator=generator) for s in (size, (24, 30)))
    rows, columns = (camera_matrix(y.shape[i], size[i], 0.2) for i in (-2, -1))
    x = camera(height=size[0], width=size[1], optics=0.2).prox(x0, y, 0.03).double()
    slope = rows.T @ (rows @ x @ columns.T - y) @ columns + 0.03 * (x - x0)
    assert float(slope.abs().max()) < 1e-5


def test_it_is_restored_where_it_lies_and_better_than_by_interpolation(generator):
    x = photograph()
    y = camera().forward(x) + torch.randn(1, 1, 48, 64, generator=generator) / 255

    def smooth(asks):
        return [x0 + (F.avg_pool2d(F.pad(x0, (1, 1, 1, 1), "replicate"), 3, 1) - x0) * min(1, 3 * s) for x0, s in asks]

    for degradation in (camera(), camera(height=96, width=128)):
        found = side_by_side([degradation.undo(y, 1 / 255)], smooth)[0]
        begun = degradation.begin(y)
        assert found.shape == x.shape
        assert float((found - x).square().mean()) < 0.8 * float((begun - x).square().mean())
        error = [float((begun.roll(k, -1) - x)[..., 4:-4].square().mean()) for k in (-1, 0, 1)]
        assert error[1] == min(error)


def test_nothing_beyond_a_flat_picture_is_invented():
    y = torch.full((1, 1, 20, 27), 0.4)
    found = side_by_side([camera(height=53, width=61).undo(y, 0.01)], lambda asks: [x for x, _ in asks])[0]
    torch.testing.assert_close(found, torch.full((1, 1, 53, 61), 0.4), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"height": 96, "width": 128}, True),
        ({"height": 96, "width": 150}, True),
        ({"height": 55, "width": 128}, False),
        ({"height": 96, "width": 600}, False),
        ({"height": 96}, False),
        ({}, False),
    ],
)
def test_the_size_is_taken_from_whoever_resizes(told, found):
    assert LowResolution.estimate(photograph(48, 64), told) == (told if found else None)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="belong together"):
        camera(height=100)
    with pytest.raises(NoEffect):
        camera(height=100, width=100, factor=3.0)
    with pytest.raises(OptionError, match="40x100 is less than the picture's 64x48"):
        camera(height=100, width=40).begin(photograph(48, 64))


def test_the_user_reads_how_much_it_is_enlarged():
    assert camera(factor=2.5).describe() == "enlarged 2.5 times"
    assert camera(height=96, width=128).describe() == "enlarged to 128x96"
