"""More sources than a prior takes."""

from dataclasses import replace

import pytest
import torch

from fusionkit.contracts import Sources
from fusionkit.method.folding import FoldedPrior
from fusionkit_plugins.color.ycbcr import YCbCr
from fusionkit_reproductions.em_tv_paper import EMTVPaper, EMTVPaperOptions
from harness import correct, make_sources, random_sources

YCBCR = YCbCr(YCbCr.Options())


class TestFold:
    def test_two_sources_are_what_the_prior_does_itself(self, generator):
        sources = random_sources(generator)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        torch.testing.assert_close(
            correct(FoldedPrior(EMTVPaper(EMTVPaperOptions()), YCBCR), x0, sources),
            correct(EMTVPaper(EMTVPaperOptions()), x0, sources),
        )

    @pytest.mark.parametrize("reference", [0, 1, -1])
    def test_three_sources_all_count_and_the_reference_stays_one(self, reference, generator):
        lumas = random_sources(generator, count=3).luma
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        prior = FoldedPrior(EMTVPaper(EMTVPaperOptions()), YCBCR)

        def fuse(images):
            return correct(prior, x0, Sources(images, images, names=("a", "b", "c"), reference=reference))

        base = fuse(lumas)
        for i in range(3):
            changed = tuple(y * 0.5 if i == k else y for k, y in enumerate(lumas))
            assert float((fuse(changed) - base).abs().max()) > 1e-3

    def test_energy_is_the_mean_of_the_pairs(self, generator):
        sources = random_sources(generator, count=3)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        prior = EMTVPaper(EMTVPaperOptions())
        a, b, v = sources.luma
        pairs = [prior.energy(x0, make_sources(y, v)) for y in (a, b)]
        torch.testing.assert_close(FoldedPrior(prior, YCBCR).energy(x0, sources), sum(pairs) / 2)


def test_each_pair_knows_noise_and_views_of_its_own_sources(generator):
    class Looks(EMTVPaper):
        seen = []

        def correct(self, x0, sources, state, sigma):
            self.seen.append(([float(level) for level in sources.noise], sources.views))
            return super().correct(x0, sources, state, sigma)

    noise = tuple(torch.tensor(s).view(1, 1, 1, 1) for s in (0.25, 0.5, 0.125))
    sources = replace(random_sources(generator, count=3), noise=noise, views=(0.1, 0.2, 0.3))
    correct(FoldedPrior(Looks(EMTVPaperOptions()), YCBCR), sources.luma[-1], sources)
    assert Looks.seen == [([0.25, 0.125], (0.1, 0.3)), ([0.5, 0.125], (0.2, 0.3))]
