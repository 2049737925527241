"""Metrics against scikit-image or a closed form."""

import math

import numpy as np
import pytest
import torch

from fusionkit.contracts import Options
from fusionkit.registry.loading import get_registry
from fusionkit_plugins.metrics.standard import (
    EN,
    MI,
    SCD,
    SD,
    SF,
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
        assert float(EN(Options())(f, sources)[i]) == pytest.approx(measure.shannon_entropy(levels[0][i]))

        def mutual(x, y):
            joint = measure.shannon_entropy(x.astype(int) * 256 + y)
            return measure.shannon_entropy(x) + measure.shannon_entropy(y) - joint

        expected = sum(mutual(levels[0][i], s[i]) for s in levels[1:])
        assert float(MI(Options())(f, sources)[i]) == pytest.approx(expected)


def test_standard_deviation_and_spatial_frequency(triple):
    f, sources = triple
    x = (f * 255).round().numpy()[:, 0].astype(float)
    np.testing.assert_allclose(SD(Options())(f, sources), x.std(axis=(1, 2)))
    sf = [math.hypot(*(np.sqrt((np.diff(image, axis=d) ** 2).mean()) for d in (0, 1))) for image in x]
    np.testing.assert_allclose(SF(Options())(f, sources), sf)


def test_scd_is_two_for_the_sum_of_independent_sources(generator):
    a, b = (0.4 * torch.rand(1, 1, 64, 64, generator=generator) for _ in range(2))
    a, b = ((x * 255).round() / 255 for x in (a, b))
    scd = SCD(Options())
    assert float(scd(a + b, make_sources(a, b))) == pytest.approx(2.0)
    assert bool(scd(a, make_sources(a, b)).isnan())
    with pytest.raises(ValueError, match="two sources"):
        scd(a, make_sources(a, b, a))


@pytest.mark.parametrize("name", [n for n in get_registry().names("metric") if n != "PIQE"])
def test_every_metric_states_what_it_is(name, triple):
    metric = get_registry().create("metric", name)
    assert len(metric.definition) > 20
    values = metric(*triple)
    assert values.shape == (2,)
    low, high = metric.range
    assert all(low <= float(v) <= high or v.isnan() for v in values)


def measure(name, fused, *lumas):
    return get_registry().create("metric", name)(fused, make_sources(*lumas))


class TestFidelity:
    @pytest.fixture
    def images(self, generator):
        return [torch.rand(1, 1, 64, 72, generator=generator) for _ in range(3)]

    def test_ssim_agrees_with_scikit_image(self, images):
        from skimage.metrics import structural_similarity

        f, a, b = ((x[0, 0] * 255).round().double().numpy() for x in images)
        whole = [
            structural_similarity(
                f, s, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
            )[1]
            for s in (a, b)
        ]
        expected = np.mean([m[5:-5, 5:-5].mean() for m in whole])
        assert float(measure("SSIM", *images)) == pytest.approx(expected, abs=1e-9)

    def test_a_source_itself(self, images):
        a = images[0]
        for name, best in (("SSIM", 1.0), ("CC", 1.0), ("VIF", 1.0), ("NMI", 2.0), ("MSE", 0.0), ("PSNR", math.inf)):
            assert float(measure(name, a, a, a)) == pytest.approx(best, abs=1e-6), name
        # the sigmoids of Qabf do not reach 1
        limit = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4))
        assert float(measure("Qabf", a, a, a)) == pytest.approx(limit, abs=1e-6)

    def test_the_average_has_the_best_psnr(self, images):
        _, a, b = images
        of_average = float(measure("PSNR", (a + b) / 2, a, b))
        assert of_average > max(float(measure("PSNR", f, a, b)) for f in (a, b, torch.maximum(a, b)))

    def test_a_turned_edge_counts_less_and_a_reversed_one_as_kept(self):
        ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64).contiguous()
        kept = float(measure("Qabf", 1 - ramp, ramp, ramp))
        turned = float(measure("Qabf", ramp.mT.contiguous(), ramp, ramp))
        assert kept > 0.9
        assert turned < 0.3

    def test_vif_falls_with_blur_and_noise(self, scene, generator):
        a = scene[0]
        blurred = torch.nn.functional.avg_pool2d(a, 5, 1, 2, count_include_pad=False)
        noisy = (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
        assert float(measure("VIF", blurred, a, a)) < 0.7
        assert float(measure("VIF", noisy, a, a)) < 0.7

    def test_ag_of_a_ramp_is_its_slope(self):
        ramp = (torch.arange(64.0) / 255).expand(1, 1, 50, 64).contiguous()
        assert float(measure("AG", ramp, ramp, ramp)) == pytest.approx(math.sqrt(0.5))


def test_the_dialect_linfeng_differs_by_its_scales(generator):
    images = [torch.rand(1, 1, 40, 50, generator=generator) for _ in range(3)]
    ratio = {"EN": 1, "CC": 1, "SCD": 1, "SF": 1 / 255, "MSE": 1 / 255**2, "AG": 40 * 50 / (39 * 49)}
    for name, factor in ratio.items():
        ours, theirs = (float(measure(prefix + name, *images)) for prefix in ("", "linfeng."))
        assert theirs == pytest.approx(ours * factor), name
    shift = float(measure("linfeng.PSNR", *images)) - float(measure("PSNR", *images))
    assert shift == pytest.approx(48.13, abs=0.01)
