"""What many registrations of one rig agree on."""

import math

import numpy as np
import pytest
import torch

from fusionkit.numerics.registration import Registration
from fusionkit.numerics.rig import consensus, limit_of

SIZE, GIVEN = (240, 320), (150, 200)


def match(matrix, left=0.5):
    return Registration(torch.tensor(matrix, dtype=torch.float64), 100.0, left, 0.95)


def similarity(turn=3.0, scale=0.44, right=0.0, down=0.0):
    cos, sin = scale * math.cos(math.radians(turn)), scale * math.sin(math.radians(turn))
    return [[cos, -sin, right], [sin, cos, down], [0, 0, 1]]


def matches(count, seed=0, drift=0.0):
    """Measurements of one similarity, each off by about 0.5 px of the reference, and a third wrong by 20 px or more."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        right, down = 0.44 * rng.normal(0, 0.4, 2)
        wrong = i % 3 == 1
        yield match(
            similarity(
                3 + rng.normal(0, 0.05) + 4 * wrong,
                0.44 * (1 + rng.normal(0, 0.001)),
                right + 9 * wrong + 0.44 * drift * i / (count - 1),
                down,
            )
        )


def positions(count):
    return [i / (count - 1) for i in range(count)]


def test_the_mean_without_wrong_ones_is_better_than_any_pair_and_says_which_are_wrong():
    rig = consensus(list(matches(30)), positions(30), "affine", SIZE, GIVEN)
    truth = np.array(similarity())
    corners = np.array([[-160, 160, 160, -160], [-120, -120, 120, 120], [1, 1, 1, 1]])
    error = np.linalg.norm(((rig.matrix.numpy() - truth) @ corners)[:2], axis=0).max() / 0.44
    assert error < 0.45
    assert 0.03 < rig.left < 0.3
    assert (rig.off > limit_of(SIZE)).tolist() == [i % 3 == 1 for i in range(30)]
    assert rig.drift == (0, 0)


def test_a_pair_whose_error_is_small_weighs_more():
    pairs = [match(similarity(right=0.44 * x), left) for x, left in ((0, 0.1), (1, 5.0), (0.05, 0.1), (1, 5.0))]
    rig = consensus(pairs, positions(4), "affine", SIZE, GIVEN)
    assert abs(float(rig.matrix[0, 2])) / 0.44 < 0.35


def test_rigid_transforms_have_a_rigid_mean():
    pairs = [match(similarity(turn, right=0.1 * turn)) for turn in (-1.0, 0.0, 1.0, 0.5)]
    flat = consensus(pairs, positions(4), "rigid", SIZE, GIVEN).matrix[:2, :2]
    assert torch.allclose(flat @ flat.T, torch.eye(2, dtype=torch.float64) * float(torch.linalg.det(flat)), atol=1e-12)
    assert float(torch.linalg.det(flat)) == pytest.approx(0.44**2, rel=1e-3)


def test_drift_is_told_with_its_size():
    right, down = consensus(list(matches(30, drift=4.0)), positions(30), "affine", SIZE, GIVEN).drift
    assert right == pytest.approx(-4 if right < 0 else 4, abs=1)
    assert right > 0
    assert abs(down) < 1


@pytest.mark.parametrize(("side", "limit"), [(640, 5.0), (5120, 20.0)])
def test_larger_images_have_a_larger_limit(side, limit):
    assert limit_of((side // 2, side)) == limit
