"""Frames of a hand-held camera: chained along neighbours, adjusted together."""

import math

import numpy as np
import pytest
import torch
from skimage import data

from fusionkit.images.convert import to_tensor
from fusionkit.numerics.homography import Warp, grid, mapped, size_of, square
from fusionkit_plugins.alignment.handheld import chained

SIZE = (300, 440)
LIGHT = to_tensor((data.coffee() / 255) ** 2.2).mean(1, keepdim=True)
FOCAL = 500.0


def pose(generator: np.random.Generator, *, turned: bool) -> torch.Tensor:
    """Shake: a shift of up to 15 pixels, a turn of 2 degrees, 3 % of breathing; or a camera turned as far."""
    roll, grow = math.radians(generator.uniform(-2, 2)), 1 + generator.uniform(-0.03, 0.03)
    right, down = generator.uniform(-15, 15, 2)
    cos, sin = math.cos(roll), math.sin(roll)
    flat = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)
    if not turned:
        flat[:2, :2] *= grow
        flat[0, 2], flat[1, 2] = right, down
        return flat
    yaw, pitch = right / FOCAL, down / FOCAL
    sideways = torch.tensor([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    upward = torch.tensor([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    lens = torch.diag(torch.tensor([FOCAL, FOCAL, 1.0], dtype=torch.float64))
    return square(lens @ sideways.double() @ upward.double() @ flat @ torch.linalg.inv(lens))


def shaken(count: int, *, turned: bool, stops: float = 0.0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Frames of one scene, and where they lie to the middle one."""
    generator = np.random.default_rng(3)
    poses = [pose(generator, turned=turned) for _ in range(count)]
    poses[count // 2] = torch.eye(3, dtype=torch.float64)
    frames = []
    for k, there in enumerate(poses):
        light = Warp(torch.linalg.inv(there), SIZE, size_of(LIGHT)).rows(slice(None), lambda r: LIGHT[..., r, :])
        noisy = light * 2.0 ** (stops * (k - count // 2)) + torch.from_numpy(generator.normal(0, 0.003, (1, 1, *SIZE)))
        frames.append(((noisy.clamp(0, 1) ** (1 / 2.2)) * 255).round().float() / 255)
    return frames, poses


def off(found: torch.Tensor, true: torch.Tensor) -> float:
    """Mean distance in pixels between where two transforms put the picture."""
    x, y = grid(SIZE, 9)
    (a, b), (c, d) = mapped(found, x, y), mapped(true, x, y)
    return float(torch.hypot(a - c, b - d).mean())


@pytest.mark.parametrize("turned", [False, True], ids=["similarity", "homography"])
def test_frames_are_found_to_half_a_pixel(turned):
    frames, poses = shaken(5, turned=turned, stops=1.0 if turned else 0.0)
    found, sizes = chained(frames, 2, "homography" if turned else "similarity", by_light=turned)
    assert found[2] is None
    assert sizes == [SIZE] * 5
    for i in (0, 1, 3, 4):
        assert off(found[i].matrix, poses[i]) < 0.5
        assert found[i].sure
        assert 0 < found[i].left < 2


def test_similarities_do_not_explain_a_turned_camera():
    frames, poses = shaken(3, turned=True)
    errors = {}
    for model in ("similarity", "homography"):
        found, _ = chained(frames, 1, model, by_light=False)
        errors[model] = max(off(found[i].matrix, poses[i]) for i in (0, 2) if found[i] is not None)
    assert errors["homography"] < 0.3 < errors["similarity"]


def test_a_bracket_is_chained_by_brightness_in_whatever_order_it_comes():
    frames, poses = shaken(5, turned=True, stops=1.0)
    order = [2, 0, 4, 1, 3]  # as cameras write brackets
    found, _ = chained([frames[i] for i in order], 0, "homography", by_light=True)
    assert all(off(found[k].matrix, poses[i]) < 0.5 for k, i in enumerate(order) if k)


def test_a_frame_without_a_match_is_passed_over():
    frames, poses = shaken(4, turned=False)
    frames[3] = torch.rand(frames[3].shape, generator=torch.Generator().manual_seed(0))
    frames.append(frames[1])
    poses.append(poses[1])
    found, _ = chained(frames, 2, "similarity", by_light=False)
    assert found[3] is None
    assert off(found[4].matrix, poses[4]) < 0.5


def test_small_frames_are_not_registered():
    assert chained([torch.rand(1, 1, 20, 20)] * 2, 0, "similarity", by_light=False) == ([None, None], [(20, 20)] * 2)
