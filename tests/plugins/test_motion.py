"""Motion between frames: shifts of the whole and of parts, and rest, in noise."""

import pytest
import torch

from fusionkit.numerics.window import gaussian_blur
from fusionkit_plugins.degradations.motion import block_motion, moved

NOISE = 8 / 255


@pytest.fixture(scope="module")
def scene():
    rough = torch.rand(1, 1, 260, 300, generator=torch.Generator().manual_seed(2))
    fine = gaussian_blur(rough, 1.5)
    return ((fine - fine.mean()) / (6 * fine.std()) + 0.5).clamp(0, 1)


def noisy(x, seed=0):
    return x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def cut(scene, right=0, down=0, size=(130, 170)):
    return scene[..., 50 + down : 50 + down + size[0], 60 + right : 60 + right + size[1]]


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (-3, 2), (17, -11)])
def test_a_shift_of_the_whole_is_found_in_noise(scene, right, down):
    motion = block_motion(cut(scene), noisy(cut(scene, right, down)), NOISE)
    assert motion.shape == (1, 2, 130, 170)
    wanted = torch.tensor([right, down], dtype=torch.float32).view(1, 2, 1, 1)
    exact = ((motion - wanted).abs().amax(1) == 0).float()  # whole pixels, which stay bit for bit
    assert float(exact.mean()) > 0.8  # at the borders, things come from outside
    assert exact[..., 48:-48, 48:-48].all()


def test_a_part_moves_alone(scene):
    before, now = cut(scene).clone(), cut(scene).clone()
    other = scene[..., :64, :64].flip(-1)
    before[..., 32:96, 48:112], now[..., 32:96, 54:118] = other, other
    motion = block_motion(before, noisy(now), NOISE)
    assert (motion[0, 0, 60:72, 76:92] + 6).abs().max() <= 2
    assert motion[..., :8, :].abs().max() == 0
    left = [(now - there).square()[..., 32:96, 48:118].mean() for there in (before, moved(before, motion)[0])]
    assert left[1] < 0.5 * left[0]


def test_half_a_pixel_is_found(scene):
    half = torch.zeros(1, 2, *cut(scene).shape[-2:])
    half[:, 0] = 0.5
    now, inside = moved(cut(scene), half)
    found = block_motion(cut(scene), now, 1 / 255)
    assert float((found - half).abs().mean()) <= 0.25
    assert inside[..., :-1].all()


def test_what_comes_from_outside_is_told(scene):
    far = torch.zeros(1, 2, *cut(scene).shape[-2:])
    far[:, 1] = 5
    there, inside = moved(cut(scene), far)
    torch.testing.assert_close(there[..., :-5, :], cut(scene)[..., 5:, :], atol=1e-4, rtol=0)
    assert inside[..., :-5, :].all()
    assert not inside[..., -4:, :].any()
