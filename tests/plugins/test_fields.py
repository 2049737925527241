"""Fields of shifts about a transform: depth between two cameras, bent scans, and where there is nothing to find."""

import pytest
import torch
import torch.nn.functional as F
from skimage import data

from fusionkit.numerics.homography import Warp, resized
from fusionkit.numerics.window import gaussian_blur
from fusionkit_plugins.alignment.bending import find_bending
from fusionkit_plugins.alignment.field import Field, FieldWarp, pixels
from fusionkit_plugins.alignment.parallax import find_parallax

SIZE = (240, 320)
STILL = torch.eye(3, dtype=torch.float64)


def picture(name, size=SIZE):
    image = torch.from_numpy(getattr(data, name)()).float()[None, None] / 255
    return resized(image, size)


@pytest.fixture(scope="module")
def cameras():
    """A wall, and coins 14 pixels nearer; the thermal camera sees both inverted: reference, source, truth, hidden."""
    wall, coins = picture("brick"), picture("coins")
    x, y = pixels(SIZE)
    near = ((x.abs() < 70) & (y.abs() < 60))[None, None].float()
    reference = torch.lerp(wall, coins, near)
    source = 1 - gaussian_blur(torch.lerp(wall, coins.roll(14, -1), near.roll(14, -1)), 0.8) * 0.7
    right = near.roll(14, -1) * (1 - near)
    return reference, source, 14 * near, right


def test_what_stands_nearer_is_found_and_what_it_hides(cameras):
    reference, source, truth, hidden = cameras
    field = find_parallax(reference, source, STILL)
    assert field.sure
    warp = FieldWarp(STILL, SIZE, SIZE, field=field)
    x, y = pixels(SIZE)
    right, down = warp.places(slice(None))
    seen = hidden[0, 0] == 0
    off = (right - x - truth[0, 0]).hypot(down - y)[seen]
    assert off.median() < 0.5
    assert off.quantile(0.9) < 2
    assert truth[0, 0][seen].mean() > 2  # what the transform alone leaves
    declared = warp.depth() <= 0
    assert declared[hidden > 0].float().mean() > 0.4
    assert declared[(hidden == 0) & (x.abs() < 120)].float().mean() < 0.05


def test_strips_are_those_of_the_whole(cameras):
    reference, source, *_ = cameras
    warp = FieldWarp(STILL, SIZE, SIZE, field=find_parallax(reference, source, STILL))
    whole = warp.rows(slice(None), lambda rows: source[..., rows, :])
    strip = warp.rows(slice(100, 140), lambda rows: source[..., rows, :])
    assert torch.allclose(strip, whole[..., 100:140, :], atol=1e-5)


def test_no_field_without_depth(cameras):
    reference, *_ = cameras
    assert not find_parallax(reference, 1 - gaussian_blur(reference, 0.8), STILL).sure
    other = picture("camera")
    assert not find_parallax(reference, other, STILL).sure


def test_a_field_of_zeros_is_the_transform():
    matrix = torch.tensor([[1.02, 0.03, 4.0], [-0.02, 0.98, -3.0], [0, 0, 1]], dtype=torch.float64)
    field = Field(torch.zeros(1, 2, 9, 12), torch.zeros(1, 1, 9, 12), 1.0, 0.1, True)
    plain, dense = Warp(matrix, SIZE, SIZE), FieldWarp(matrix, SIZE, SIZE, field=field)
    for one, two in zip(plain.places(slice(3, 90)), dense.places(slice(3, 90)), strict=True):
        assert torch.allclose(one, two, atol=1e-4)
    assert torch.allclose(plain.depth(), dense.depth(), atol=1e-4)
    assert plain.share() == dense.share()


def test_a_bent_scan_is_straightened(generator):
    phantom = torch.from_numpy(data.shepp_logan_phantom()).float()[None, None]
    reference = resized(F.pad(phantom, (20, 20, 20, 20)), (160, 160))
    tissue = gaussian_blur(reference, 1.0)
    truth = torch.where(tissue > 0.5, 0.9, tissue * (1.2 - tissue))  # another quantity of the same body
    bend = gaussian_blur(torch.randn(1, 2, 160, 160, generator=generator), 12.0)
    bend = bend / bend.std() * 1.5 + torch.tensor([2.0, -1.5])[None, :, None, None]
    bent = FieldWarp(STILL, (160, 160), (160, 160), field=Field(bend, bend[:, :1] * 0, 1.0, 0.0, True))
    moved = bent.rows(slice(None), lambda rows: truth[..., rows, :])
    field = find_bending(reference, moved)
    assert field.sure
    back = FieldWarp(STILL, (160, 160), (160, 160), field=field).rows(slice(None), lambda rows: moved[..., rows, :])
    before, after = (float((image - truth).square().mean()) for image in (moved, back))
    assert after < 0.4 * before


def test_a_slanted_wall_is_followed_and_the_direction_is_free():
    angle = 0.6
    wall, (x, y) = picture("brick") + 0.5 * picture("camera"), pixels(SIZE)
    along = torch.where((x.abs() < 60) & (y.abs() < 60), 12.0, 0.05 * x)
    shifts = torch.stack([along * torch.tensor(angle).cos(), along * torch.tensor(angle).sin()])[None]
    given = Field(-shifts, shifts[:, :1] * 0, 1.0, 0.0, True)
    source = FieldWarp(STILL, SIZE, SIZE, field=given).rows(slice(None), lambda rows: 1 - wall[..., rows, :] / 1.5)
    field = find_parallax(wall / 1.5, source, STILL)
    assert field.sure
    off = (resized(field.shifts, SIZE) - shifts).square().sum(1).sqrt()[0]
    inside = (x.abs() < 120) & (y.abs() < 90) & (along != 12)
    assert off[inside].quantile(0.9) < 0.7
    assert off[(x.abs() < 40) & (y.abs() < 40)].quantile(0.9) < 0.3


def test_what_is_uniform_in_heat_is_found_by_its_outline():
    wall, (x, y) = picture("brick"), pixels(SIZE)
    near = ((x.abs() < 50) & (y.abs() < 40))[None, None].float()
    heat = torch.lerp(wall, torch.full_like(wall, 0.1), near.roll(22, -1))
    field = find_parallax(torch.lerp(wall, picture("coins"), near), 1 - gaussian_blur(heat, 0.8) * 0.7, STILL)
    assert field.sure
    across, down = resized(field.shifts, SIZE)[0]
    assert ((across - 22).hypot(down)[near[0, 0] > 0] < 2).float().mean() > 0.8
