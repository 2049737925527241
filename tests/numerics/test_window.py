"""Windows against plain loops."""

import pytest
import torch
import torch.nn.functional as F

from fusionkit.numerics.window import box_max, box_mean, gaussian_blur, guided_filter, reduced
from harness import psnr


class TestWindow:
    @pytest.mark.parametrize("size", [(1, 1), (3, 20), (16, 16)])
    def test_box_mean_is_the_mean_over_what_lies_inside(self, size, generator):
        x = torch.rand(1, 1, *size, generator=generator, dtype=torch.float64)
        ours = box_mean(x, 2)
        for i in range(size[0]):
            for j in range(size[1]):
                part = x[..., max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
                assert float(ours[0, 0, i, j]) == pytest.approx(float(part.mean()))

    @pytest.mark.parametrize("size", [(1, 1), (3, 20), (16, 16)])
    @pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
    def test_box_max_is_the_largest_of_what_lies_inside(self, size, radius, generator):
        x = torch.rand(1, 2, *size, generator=generator)
        ours = box_max(x, radius)
        for i in range(size[0]):
            for j in range(size[1]):
                rows = slice(max(0, i - radius), i + radius + 1)
                part = x[..., rows, max(0, j - radius) : j + radius + 1]
                assert torch.equal(ours[..., i, j], part.amax((-2, -1)))

    def test_filters_can_be_differentiated(self, generator):
        guide, x = (torch.rand(1, 1, 6, 7, generator=generator, dtype=torch.float64) for _ in range(2))
        inputs = guide.requires_grad_(), x.requires_grad_()
        assert torch.autograd.gradcheck(lambda g, y: guided_filter(g, y, 2, 0.1), inputs)

    def test_filters_keep_constants_and_mass(self):
        impulse = torch.zeros(1, 1, 41, 41)
        impulse[..., 20, 20] = 1
        assert float(gaussian_blur(impulse, 2.0).sum()) == pytest.approx(1.0, abs=1e-5)
        constant = torch.full((1, 1, 9, 9), 0.4)
        torch.testing.assert_close(gaussian_blur(constant, 3.0), constant)
        torch.testing.assert_close(guided_filter(impulse[..., :9, :9], constant, 2, 0.1), constant)

    def test_the_guided_filter_keeps_the_guides_edge(self):
        step = (torch.arange(40.0) >= 20).float().expand(1, 1, 40, 40)
        noisy = step + 0.2 * torch.randn(step.shape, generator=torch.Generator().manual_seed(0))
        filtered = guided_filter(step, noisy, 4, 1e-3)
        assert psnr(filtered, step) > psnr(gaussian_blur(noisy, 2.0), step) + 6


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [(37, 41), (5, 3), (36, 42)])
def test_reduced_is_the_mean_of_the_pixels_that_are_there(generator, size, factor):
    x = torch.rand(2, 3, *size, generator=generator)
    kept = x.clone()
    wanted = F.avg_pool2d(x, factor, ceil_mode=True)
    torch.testing.assert_close(reduced(x, factor), wanted, atol=1e-6, rtol=0)
    assert torch.equal(x, kept)
