"""The prior laplacian."""

import torch

from fusionkit_priors.laplacian import Laplacian, LaplacianOptions
from harness import correct, make_sources


class TestLaplacian:
    def test_equal_sources_come_back(self, generator):
        y = torch.rand(1, 1, 40, 56, generator=generator)
        torch.testing.assert_close(
            correct(Laplacian(LaplacianOptions()), y, make_sources(y, y, y)), y, atol=1e-5, rtol=0
        )

    def test_a_hot_object_keeps_its_brightness_and_texture_survives(self, generator):
        texture = 0.3 + 0.1 * torch.rand(1, 1, 64, 64, generator=generator)
        hot = torch.full((1, 1, 64, 64), 0.3)
        hot[..., 24:40, 24:40] = 1.0
        result = correct(Laplacian(LaplacianOptions()), texture, make_sources(hot, texture))
        average = (hot + texture) / 2
        inside, outside = (slice(28, 36), slice(28, 36)), (slice(0, 16), slice(0, 16))
        assert float(result[0, 0][inside].mean()) > float(average[0, 0][inside].mean()) + 0.15
        assert float(result[0, 0][outside].std()) > 0.9 * float(texture[0, 0][outside].std())

    def test_the_sharper_source_wins_each_half(self, generator):
        from scipy.ndimage import gaussian_filter

        sharp = torch.rand(1, 1, 64, 96, generator=generator)
        soft = torch.from_numpy(gaussian_filter(sharp.numpy(), (0, 0, 2, 2)))
        left, right = sharp.clone(), sharp.clone()
        left[..., 48:], right[..., :48] = soft[..., 48:], soft[..., :48]
        result = correct(Laplacian(LaplacianOptions()), sharp, make_sources(left, right))
        error = (result - sharp).abs()
        assert float(error[..., :40].mean()) < 0.03
        assert float(error[..., 56:].mean()) < 0.03
        assert float((soft - sharp).abs().mean()) > 0.15
