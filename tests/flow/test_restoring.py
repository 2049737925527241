"""Restoration by a flow whose answer is known: pixels of one Gaussian."""

from dataclasses import dataclass

import torch

from fusionkit.flow.restoring import AdditiveNoise, restore

MEAN, SPREAD = 0.4, 0.1


def velocity(x, t):
    """The exact field for x₀ ~ N(MEAN, SPREAD²): v = (x_t - x̂₀) / t with x̂₀ = E[x₀ | x_t]."""
    t = t.view(-1, 1, 1, 1)
    gain = (1 - t) * SPREAD**2 / ((1 - t) ** 2 * SPREAD**2 + t**2)
    return (x - (MEAN + gain * (x - (1 - t) * MEAN))) / t


def test_noise_is_one_evaluation_and_gives_the_posterior_mean(generator):
    s = torch.tensor([0.05, 0.2], dtype=torch.float64)
    y = MEAN + 0.3 * torch.randn(2, 1, 8, 9, generator=generator, dtype=torch.float64)
    asked = []
    found = restore(y, AdditiveNoise(s), lambda x, t: (asked.append(t), velocity(x, t))[1])
    wide = s.view(-1, 1, 1, 1) ** 2
    torch.testing.assert_close(found, MEAN + SPREAD**2 / (SPREAD**2 + wide) * (y - MEAN))
    assert len(asked) == 1


def test_noise_beyond_what_the_flow_knows_is_taken_for_the_most_it_knows():
    _, t = AdditiveNoise(torch.tensor([0.1, 5.0]), most=0.4).start(torch.zeros(2, 1, 1, 1))
    torch.testing.assert_close(t, torch.tensor([0.1 / 1.1, 0.4]))


@dataclass
class Covered:
    """y shows the picture where `seen`, nothing elsewhere; the data weigh as the noise of x̂₀ is to theirs."""

    seen: torch.Tensor
    noise: float = 1e-3

    def start(self, y):
        t = torch.full((len(y),), 0.3, dtype=y.dtype)
        return y * self.seen * 0.7, t

    def times(self, t):
        return [t * share for share in (0.5, 0.25, 0.1, 0.02)]

    def correct(self, x0, y, t):
        weight = self.seen * (t.view(-1, 1, 1, 1) / self.noise) ** 2
        return (x0 + weight * y) / (1 + weight)


def test_the_loop_explains_the_data_and_leaves_the_rest_to_the_flow(generator):
    x0 = MEAN + SPREAD * torch.randn(1, 1, 16, 16, generator=generator, dtype=torch.float64)
    seen = (torch.rand(x0.shape, generator=generator) < 0.5).double()
    times = []
    found = restore(x0 * seen, Covered(seen), lambda x, t: (times.append(float(t)), velocity(x, t))[1])
    assert float(((found - x0) * seen).abs().max()) < 0.01  # the data are explained
    hidden = found[seen == 0]
    assert float((hidden - MEAN).abs().max()) < 0.02  # what no datum tells is the mean of clean pictures
    assert times == sorted(times, reverse=True)
    assert len(times) == 5
