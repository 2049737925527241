"""The prior tv."""

import torch

from fusionkit_priors.tv import TotalVariation, TVOptions
from harness import correct, make, make_sources


class TestTV:
    def test_without_weight_on_edges_the_other_source_comes_out(self, photo):
        other = photo.flip(-1)
        fused = correct(make(TotalVariation, lam=1e-4, iterations=300), photo, make_sources(other, photo))
        assert float((fused - other).abs().mean()) < 2e-3

    def test_with_much_weight_the_reference_moves_by_the_median(self, generator):
        visible, offset = torch.rand(1, 1, 12, 13, generator=generator), 0.2
        other = visible + offset
        other[..., :2, :2] += 0.5  # outliers, which a median ignores
        fused = correct(make(TotalVariation, lam=4.0, iterations=2000), visible, make_sources(other, visible))
        torch.testing.assert_close(fused, visible + offset, atol=2e-3, rtol=0)

    def test_the_energy_falls_to_its_minimum(self, photo):
        sources = make_sources(photo.flip(-2), photo)
        energies = [
            float(make(TotalVariation).energy(correct(make(TotalVariation, iterations=n), photo, sources), sources))
            for n in (1, 10, 60, 1000)
        ]
        assert energies[0] > energies[1] > energies[2]
        assert energies[2] < 1.01 * energies[3]
        assert TVOptions().iterations == 60
