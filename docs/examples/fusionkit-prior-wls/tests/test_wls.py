"""The prior `wls`: the contract of its kind, and what is known of its answer."""

import numpy as np
import torch
from fusionkit_prior_wls.implementation import WLS, WLSOptions

from fusionkit.testing import PriorContract, make_sources, random_images


class TestContract(PriorContract):
    name = "wls"


def test_the_base_satisfies_its_equation():
    """u - g = lam div(a grad u): the sum over an image of what smoothing moves is zero, and a constant stays."""
    image = random_images(1, 1, 12, 15)[0]
    base = WLS(WLSOptions(iterations=1000)).smooth(image)
    assert abs(float((base - image).mean())) < 1e-4
    assert float(base.var()) < float(image.var())
    constant = torch.full((1, 1, 9, 9), 0.3)
    torch.testing.assert_close(WLS(WLSOptions()).smooth(constant), constant)


def test_the_base_equals_a_dense_solution():
    image = random_images(1, 1, 5, 6)[0]
    prior = WLS(WLSOptions(iterations=1000))
    g = image[0, 0].double().numpy()
    height, width = g.shape
    matrix = np.eye(g.size)
    for i in range(height):
        for j in range(width):
            for k, m in ((i + 1, j), (i, j + 1)):
                if k < height and m < width:
                    slope = abs(np.log(g[k, m] + 1e-2) - np.log(g[i, j] + 1e-2))
                    a = 1 / (slope**1.2 + 1e-4)
                    p, q = i * width + j, k * width + m
                    matrix[p, p] += a
                    matrix[q, q] += a
                    matrix[p, q] -= a
                    matrix[q, p] -= a
    expected = np.linalg.solve(matrix, g.ravel()).reshape(g.shape)
    np.testing.assert_allclose(prior.smooth(image)[0, 0].numpy(), expected, atol=1e-3)


def test_a_result_beyond_the_range_can_be_folded_on():
    images = [(image > 0.5).float() - 0.1 for image in random_images(1, 1, 32, 32, count=2)]
    fused, _ = WLS(WLSOptions()).correct(images[0], make_sources(*images), None, 0.0)
    assert bool(fused.isfinite().all())


def test_an_image_fused_with_itself_is_itself():
    image = random_images(1, 1, 24, 32)[0]
    fused, _ = WLS(WLSOptions()).correct(image, make_sources(image, image), None, 0.0)
    torch.testing.assert_close(fused, image)


def test_noise_of_the_other_source_is_damped_where_the_reference_is_smooth():
    visible = torch.linspace(0.2, 0.8, 64).expand(1, 1, 64, 64).contiguous()
    noisy = (0.5 + 0.05 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    sources = make_sources(noisy, visible)
    free, damped = (WLS(WLSOptions(mu=mu)).correct(visible, sources, None, 0.0)[0] for mu in (0.0, 0.1))
    assert float(damped.diff(dim=-1).var()) < 0.5 * float(free.diff(dim=-1).var())
