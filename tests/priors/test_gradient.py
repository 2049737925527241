"""The prior gradient."""

import torch

from fusionkit.numerics.poisson import gradient
from fusionkit_priors.gradient import Gradient, GradientOptions, dominant_gradient
from harness import correct, make, make_sources


class TestGradient:
    def test_the_field_of_one_image_is_its_gradient(self, photo):
        for ours, expected in zip(dominant_gradient(make_sources(photo, photo)), gradient(photo), strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)

    def test_the_minimum_of_the_energy_is_what_correct_returns(self, generator):
        a, b, x = (torch.rand(1, 1, 8, 9, generator=generator, dtype=torch.float64) for _ in range(3))
        prior, sources = make(Gradient, screen=0.1), make_sources(a, b)
        f = correct(prior, x, sources).requires_grad_()
        (slope,) = torch.autograd.grad(prior.energy(f, sources).sum(), f)
        assert float(slope.abs().max()) < 1e-9

    def test_structure_of_both_sources_is_there(self, photo):
        flat = torch.full_like(photo, 0.5)
        flat[..., 40:60, 40:60] = 0.9
        fused = correct(make(Gradient), photo, make_sources(flat, photo))
        edge = (fused[..., 45:55, 40] - fused[..., 45:55, 39]).mean()
        assert float(edge) > 0.2
        assert float(fused.std()) > 0.8 * float(photo.std())

    def test_the_estimate_is_read_only_when_it_is_the_base(self):
        assert not Gradient(GradientOptions()).reads_x0
        assert Gradient(GradientOptions(base="estimate")).reads_x0
