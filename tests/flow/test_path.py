"""The path identities are algebra: they hold to rounding."""

import pytest
import torch

from fusionkit.flow.path import (
    interpolate,
    noise_share,
    posterior_update,
    velocity_from_noise,
    velocity_from_x0,
    x0_from_velocity,
)
from fusionkit.flow.schedule import make_schedule


@pytest.fixture
def pair(generator):
    return torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64), torch.randn(
        2, 3, 4, 5, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("t", [0.01, 0.3, 0.5, 1.0])
def test_velocity_data_and_noise_give_each_other_back(pair, t):
    x0, noise = pair
    x_t, v = interpolate(x0, noise, t), noise - x0
    torch.testing.assert_close(x0_from_velocity(x_t, v, t), x0)
    torch.testing.assert_close(velocity_from_x0(x_t, x0, t), v)
    if t < 1:
        torch.testing.assert_close(velocity_from_noise(x_t, noise, t), v)


@pytest.mark.parametrize(("t", "t_next"), [(1.0, 0.5), (0.5, 0.1), (0.3, 0.0)])
def test_posterior_update_with_the_true_x0_is_exact(pair, t, t_next):
    x0, noise = pair
    torch.testing.assert_close(
        posterior_update(interpolate(x0, noise, t), x0, t, t_next), interpolate(x0, noise, t_next)
    )


def test_posterior_update_is_an_euler_step_of_the_corrected_velocity(pair):
    x_t, x0 = pair
    step = x_t + (0.2 - 0.7) * velocity_from_x0(x_t, x0, 0.7)
    torch.testing.assert_close(posterior_update(x_t, x0, 0.7, 0.2), step)


def test_fresh_noise_replaces_the_old_and_keeps_its_variance(generator):
    x0 = torch.zeros(200_000)
    noise = torch.randn(200_000, generator=generator)
    fresh = torch.randn(200_000, generator=generator)
    x_t = interpolate(x0, noise, 0.6)
    torch.testing.assert_close(posterior_update(x_t, x0, 0.6, 0.4, 1.0, fresh), 0.4 * fresh)
    assert float(posterior_update(x_t, x0, 0.6, 0.4, 0.5, fresh).std()) == pytest.approx(0.4, rel=0.01)
    with pytest.raises(ValueError, match="fresh"):
        posterior_update(x_t, x0, 0.6, 0.4, 0.5)


def test_noise_share_is_the_share_of_noise_in_x_t():
    assert noise_share(0.0) == 0.0
    assert noise_share(1.0) == 1.0
    assert noise_share(0.5) == pytest.approx(0.5**0.5)


def test_schedules_fall_from_strength_to_zero():
    assert make_schedule(0.8, 4) == pytest.approx((0.8, 0.6, 0.4, 0.2, 0.0))
    assert make_schedule(1.0, 2, "quadratic") == pytest.approx((1.0, 0.25, 0.0))
    assert make_schedule(0.3, 1) == (0.3, 0.0)
    for wrong in ((0.0, 1), (1.1, 1), (0.5, 0)):
        with pytest.raises(ValueError, match="must be"):
            make_schedule(*wrong)
