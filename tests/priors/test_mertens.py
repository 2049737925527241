"""The prior mertens."""

import pytest
import torch

from fusionkit_priors.mertens import Mertens, MertensOptions
from harness import correct, make, make_sources


class TestMertens:
    def test_what_is_well_exposed_is_kept(self, photo):
        under, over = photo * 0.25, (photo * 0.5 + 0.7).clamp(0, 1)
        good = 0.3 + 0.4 * photo
        fused = correct(make(Mertens), photo, make_sources(under, good, over))
        distance = [float((fused - s).abs().mean()) for s in (under, good, over)]
        assert distance[1] == min(distance)

    def test_grey_counts_as_grey_however_it_is_stored(self, photo):
        from fusionkit.contracts import Sources

        lumas = (photo * 0.4, (photo * 0.5 + 0.5).clamp(0, 1))
        stored = [Sources(tuple(y.expand(-1, n, -1, -1) for y in lumas), lumas) for n in (1, 3)]
        first, second = (correct(make(Mertens), photo, s) for s in stored)
        assert torch.equal(first, second)
        assert float((first - sum(lumas) / 2).abs().mean()) > 0.02

    def test_saturation_counts_for_colour(self, generator):
        pale = torch.full((1, 3, 32, 32), 0.5) + 0.01 * torch.randn(1, 3, 32, 32, generator=generator)
        color = pale + torch.tensor([0.3, 0.0, -0.3]).view(1, 3, 1, 1)
        from fusionkit.contracts import Sources

        lumas = (torch.full((1, 1, 32, 32), 0.2), torch.full((1, 1, 32, 32), 0.8))
        sources = Sources((pale, color), lumas)
        with_color = correct(make(Mertens, contrast=0, exposedness=0), lumas[0], sources)
        without = correct(make(Mertens, contrast=0, exposedness=0, saturation=0), lumas[0], sources)
        assert float(with_color.mean()) > 0.75
        assert float(without.mean()) == pytest.approx(0.5, abs=1e-4)
        assert MertensOptions().saturation == 1

    @pytest.mark.parametrize("channels", [1, 3])
    def test_frame_by_frame_as_all_at_once(self, photo, channels):
        from fusionkit.contracts import Sources, stream

        images = [(photo * s).clamp(0, 1).expand(-1, channels, -1, -1) for s in (0.3, 0.7, 1.4, 2.5)]
        tint = torch.linspace(0.7, 1, channels).view(1, -1, 1, 1)
        sources = Sources.of([image * tint for image in images])
        whole = correct(make(Mertens), photo, sources)
        torch.testing.assert_close(stream(make(Mertens), sources), whole.clamp(0, 1), atol=2e-5, rtol=0)
