"""Metrics against scikit-image or a closed form."""

import math

import numpy as np
import pytest
import torch

from fusionkit.contracts import Options
from fusionkit.registry import get_registry
from fusionkit_plugins.metrics.standard import (
    Entropy,
    MutualInformation,
    SpatialFrequency,
    StandardDeviation,
    SumOfCorrelationsOfDifferences,
)
from harness import make_sources


@pytest.fixture
def triple(generator):
    f, a, b = (torch.rand(2, 1, 40, 50, generator=generator) for _ in range(3))
    return (f + a + b) / 3, make_sources(a, b)


def test_entropy_and_mutual_information_agree_with_scikit_image(triple):
    measure = pytest.importorskip("skimage.measure")
    f, sources = triple
    levels = [(x * 255).round().byte().numpy()[:, 0] for x in (f, *sources.luma)]
    for i in range(2):
        assert float(Entropy(Options())(f, sources)[i]) == pytest.approx(measure.shannon_entropy(levels[0][i]))

        def mutual(x, y):
            joint = measure.shannon_entropy(x.astype(int) * 256 + y)
            return measure.shannon_entropy(x) + measure.shannon_entropy(y) - joint

        expected = sum(mutual(levels[0][i], s[i]) for s in levels[1:])
        assert float(MutualInformation(Options())(f, sources)[i]) == pytest.approx(expected)


def test_standard_deviation_and_spatial_frequency(triple):
    f, sources = triple
    x = (f * 255).round().numpy()[:, 0].astype(float)
    np.testing.assert_allclose(StandardDeviation(Options())(f, sources), x.std(axis=(1, 2)))
    sf = [math.hypot(*(np.sqrt((np.diff(image, axis=d) ** 2).mean()) for d in (0, 1))) for image in x]
    np.testing.assert_allclose(SpatialFrequency(Options())(f, sources), sf)


def test_scd_is_two_for_the_sum_of_independent_sources(generator):
    a, b = (0.4 * torch.rand(1, 1, 64, 64, generator=generator) for _ in range(2))
    a, b = ((x * 255).round() / 255 for x in (a, b))
    scd = SumOfCorrelationsOfDifferences(Options())
    assert float(scd(a + b, make_sources(a, b))) == pytest.approx(2.0)
    assert bool(scd(a, make_sources(a, b)).isnan())
    with pytest.raises(ValueError, match="two sources"):
        scd(a, make_sources(a, b, a))


@pytest.mark.parametrize("name", get_registry().names("metric"))
def test_every_metric_states_what_it_is(name, triple):
    metric = get_registry().create("metric", name)
    assert len(metric.definition) > 20
    values = metric(*triple)
    assert values.shape == (2,)
    low, high = metric.range
    assert all(low <= float(v) <= high or v.isnan() for v in values)
