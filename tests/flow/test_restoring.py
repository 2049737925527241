"""Restoration by a flow whose answer is known: pixels of one Gaussian."""

import pytest
import torch

from fusionkit.flow.restoring import LEAST, falling, side_by_side, split

MEAN, SPREAD = 0.4, 0.1


def clean(asked):
    """The exact estimates for x ~ N(MEAN, SPREAD²), E[x | x + s ε]."""
    return [MEAN + SPREAD**2 / (SPREAD**2 + s**2) * (x - MEAN) for x, s in asked]


def gaussian(generator, *shape):
    return MEAN + SPREAD * torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_deviations_fall_in_equal_ratios_from_the_highest_to_the_lowest():
    assert falling(0.4, 0.05, 4) == pytest.approx([0.4, 0.2, 0.1, 0.05])
    assert falling(0.4, 0.05, 1) == [0.05]
    assert falling(0.01, 0.05, 3) == pytest.approx([0.05] * 3)  # never below what the data have


def asked_of(restoration):
    """The deviations at which a restoration asks, and its result, where the flow is the exact one."""
    asked = []
    (x,) = side_by_side([restoration], lambda some: (asked.extend(s for _, s in some), clean(some))[1])
    return x, asked


def test_splitting_asks_the_flow_from_the_highest_deviation_to_that_of_the_noise(generator):
    strengths = []

    def prox(x0, strength):
        strengths.append(strength)
        return x0

    _, asked = asked_of(split(gaussian(generator, 1, 1, 8, 9), prox, noise=0.05, highest=0.2, steps=3, weight=0.23))
    assert asked == pytest.approx([0.2, 0.1, 0.05])
    assert strengths == pytest.approx([0.23 / 16, 0.23 / 4, 0.23])  # the data count less and less
    _, asked = asked_of(split(gaussian(generator, 1, 1, 8, 9), prox, noise=0.0, highest=0.2, steps=2, weight=0.23))
    assert asked == pytest.approx([0.2, LEAST])  # without noise, that of rounding is left


def test_splitting_ends_where_the_estimate_and_the_data_agree(generator):
    """y = g x + noise: the fixed point at one deviation solves two linear equations, pixel by pixel."""
    gain, s, weight = 0.5, 0.03, 0.23
    y = gain * gaussian(generator, 1, 1, 8, 9)
    found, _ = asked_of(
        split(
            y,
            lambda x0, strength: (gain * y + strength * x0) / (gain**2 + strength),
            noise=s,
            highest=s,
            steps=100,
            weight=weight,
        )
    )
    keep, pull = SPREAD**2 / (SPREAD**2 + s**2), weight / (gain**2 + weight)
    expected = ((1 - keep) * MEAN + keep * gain * y / (gain**2 + weight)) / (1 - keep * pull)
    torch.testing.assert_close(found, expected)


def test_what_is_seen_explains_the_data_and_the_rest_is_left_to_the_flow(generator):
    x = gaussian(generator, 1, 1, 16, 16)
    seen = (torch.rand(x.shape, generator=generator) < 0.5).double()
    y = seen * x
    restoration = split(
        y, lambda x0, strength: (y + strength * x0) / (seen + strength), noise=1e-3, highest=0.3, steps=30, weight=0.23
    )
    found, asked = asked_of(restoration)
    assert len(asked) == 30
    assert asked == sorted(asked, reverse=True)
    assert float(((found - x) * seen).abs().max()) < 0.01  # the data are explained
    hidden = found[seen == 0]
    assert float((hidden - MEAN).abs().max()) < 0.02  # what no datum tells is the mean of clean pictures


def one(x, s):
    """One evaluation at s: the posterior mean of a noisy picture."""
    x0 = yield x, s
    return x0


def test_noise_is_one_evaluation_and_gives_the_posterior_mean(generator):
    y, s = gaussian(generator, 1, 1, 8, 9), 0.2
    found, asked = asked_of(one(y, s))
    torch.testing.assert_close(found, MEAN + SPREAD**2 / (SPREAD**2 + s**2) * (y - MEAN))
    assert asked == [s]


def twice(x):
    for s in (0.2, 0.1):
        x = yield x, s
    return x


def none(x):
    return x
    yield


def test_restorations_go_side_by_side_and_end_when_they_are_done(generator):
    """What is asked at one time is cleaned together; each result is that of its restoration alone."""
    pictures, rounds = gaussian(generator, 4, 1, 1, 8, 9), []

    def cleaned(asked):
        rounds.append(len(asked))
        return clean(asked)

    def restorations():
        return [one(pictures[0], 0.1), twice(pictures[1]), none(pictures[2]), twice(pictures[3])]

    found = side_by_side(restorations(), cleaned)
    assert rounds == [3, 2]
    for x, restoration in zip(found, restorations(), strict=True):
        torch.testing.assert_close(x, side_by_side([restoration], clean)[0], atol=0, rtol=0)
    assert torch.equal(found[2], pictures[2])
    assert side_by_side([none(1.0)], cleaned) == [1.0]
    assert len(rounds) == 2  # nobody is asked for nothing


def test_a_flow_that_answers_too_little_is_noticed(generator):
    with pytest.raises(ValueError, match="zip"):
        side_by_side([one(gaussian(generator, 1, 1, 2, 2), 0.1)], lambda asked: [])
