"""The prior focus."""

import pytest
import torch

from fusionkit.numerics.window import gaussian_blur
from fusionkit_priors.focus import Focus, remove_small_regions
from fusionkit_priors.guided_filter import GuidedFilter
from harness import correct, make, make_sources, psnr


class TestFocus:
    @pytest.fixture
    def halves(self, photo):
        soft = gaussian_blur(photo, 2.0)
        left = (torch.arange(128) < 64).expand_as(photo)
        return torch.where(left, photo, soft), torch.where(left, soft, photo)

    @pytest.mark.parametrize("cls", [Focus, GuidedFilter])
    def test_the_sharp_half_of_each_is_taken(self, cls, halves, photo):
        fused = correct(make(cls), photo, make_sources(*halves))
        average = (halves[0] + halves[1]) / 2
        assert psnr(fused, photo) > psnr(average, photo) + (8 if cls is Focus else 3)

    def test_the_decision_map_is_decided(self, halves):
        weights = make(Focus).weights(make_sources(*halves))
        torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))
        assert float((weights[0] > 0.9).float().mean()) > 0.4
        assert float(weights[0][..., :48].mean()) > 0.95
        assert float(weights[0][..., 80:].mean()) < 0.05

    def test_small_regions_join_what_surrounds_them(self):
        choice = torch.zeros(1, 1, 40, 40, dtype=torch.long)
        choice[..., 20:, :] = 1
        choice[..., 5:8, 5:8] = 2
        choice[..., 30:32, 30:32] = 0
        cleaned = remove_small_regions(choice, 3, 0.01)
        assert torch.equal(cleaned, (torch.arange(40) >= 20).long().view(1, 1, 40, 1).expand(1, 1, 40, 40))
        assert int(choice[0, 0, 6, 6]) == 2
