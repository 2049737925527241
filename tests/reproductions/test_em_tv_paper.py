"""The prior em_tv_paper."""

import pytest
import torch

from fusionkit.errors import OptionError
from fusionkit.options import validate_options
from fusionkit_priors.em_tv import EMTV, EMTVOptions
from fusionkit_reproductions.em_tv_paper import EMTVPaper, EMTVPaperOptions, forward_differences, prox_tv
from harness import correct, make_sources, random_sources


class TestEMTV:
    def test_from_the_reference_the_first_step_is_a_third_of_the_way(self, generator):
        """X = 0 makes D = 2C, so that X = 2CY / 6C, up to the weak tie rho."""
        infrared, visible = random_sources(generator).luma
        prior = EMTVPaper(EMTVPaperOptions(rho=1e-6, eps=1e-5))
        result = correct(prior, visible, make_sources(infrared, visible))
        torch.testing.assert_close(result, visible + (infrared - visible) / 3, atol=1e-5, rtol=0)

    def test_a_pixel_follows_the_source_that_the_estimate_is_nearer_to(self):
        infrared, visible = torch.full((1, 1, 4, 4), 0.9), torch.full((1, 1, 4, 4), 0.1)
        near, far = (
            correct(EMTVPaper(EMTVPaperOptions()), torch.full((1, 1, 4, 4), v), make_sources(infrared, visible))
            for v in (0.8, 0.2)
        )
        assert float(near.mean()) > 0.75
        assert float(far.mean()) == pytest.approx(0.1 + 0.8 / 3, abs=0.02)  # D is capped at 2C

    def test_the_two_recompositions_are_complements(self, generator):
        sources = random_sources(generator)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        a = correct(EMTVPaper(EMTVPaperOptions()), x0, sources)
        b = correct(EMTVPaper(EMTVPaperOptions(recompose="i_minus_x")), x0, sources)
        torch.testing.assert_close(a + b, sources.luma[0] + sources.luma[1])

    def test_prox_solves_its_normal_equations(self, generator):
        """(I + ∇ᵀ∇) H = z + ∇ᵀ F with periodic differences, against a dense solve in float64."""
        height, width = 5, 6
        z, f1, f2 = (torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64) for _ in range(3))
        n = height * width
        eye = torch.eye(n, dtype=torch.float64).view(n, 1, height, width)
        dx, dy = ((eye - eye.roll(-1, axis)).view(n, n).T for axis in (-1, -2))
        right = z.flatten() + dx.T @ f1.flatten() + dy.T @ f2.flatten()
        expected = torch.linalg.solve(torch.eye(n, dtype=torch.float64) + dx.T @ dx + dy.T @ dy, right)
        torch.testing.assert_close(prox_tv(z, f1, f2).flatten(), expected)
        torch.testing.assert_close(prox_tv(z, None, None), prox_tv(z, 0 * f1, 0 * f2))

    def test_forward_differences_are_periodic(self):
        h = torch.arange(6.0).view(1, 1, 2, 3)
        gx, gy = forward_differences(h)
        assert gx.tolist() == [[[[-1, -1, 2], [-1, -1, 2]]]]
        assert gy.tolist() == [[[[-3, -3, -3], [3, 3, 3]]]]

    def test_a_constant_scene_stays_constant_over_carried_steps(self):
        a, b = torch.full((1, 1, 8, 8), 0.9), torch.full((1, 1, 8, 8), 0.3)
        prior, sources, y = EMTVPaper(EMTVPaperOptions(rho=10.0)), make_sources(a, b), b
        state = prior.start(sources)
        for _ in range(4):
            y, state = prior.correct(y, sources, state, 0.1)
            assert float(y.std()) < 1e-6

    def test_the_energy_of_a_constant_residual_has_no_variation(self):
        a, b = torch.full((1, 1, 6, 6), 0.6), torch.full((1, 1, 6, 6), 0.3)
        prior = EMTVPaper(EMTVPaperOptions(lam=1.0, eps=1e-6))
        assert float(prior.energy(b, make_sources(a, b))) == pytest.approx(36 * 0.3, rel=1e-3)

    def test_state_is_carried_unless_told_otherwise(self, generator):
        sources = random_sources(generator)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        results = {}
        for carry in (True, False):
            prior = EMTVPaper(EMTVPaperOptions(carry=carry, rho=1.0))
            first, state = prior.correct(x0, sources, prior.start(sources), 0.1)
            results[carry] = prior.correct(x0, sources, state, 0.1)[0]
            if not carry:
                torch.testing.assert_close(results[carry], first)
        assert float((results[True] - results[False]).abs().max()) > 1e-3

    def test_float32_agrees_with_float64(self, generator):
        infrared, visible = random_sources(generator).luma
        visible = torch.where(torch.rand(visible.shape, generator=generator) < 0.3, infrared, visible)  # zeros in Y
        x0 = torch.where(torch.rand(visible.shape, generator=generator) < 0.3, visible, infrared)  # and in X, Y - X
        single = correct(EMTVPaper(EMTVPaperOptions()), x0, make_sources(infrared, visible))
        double = correct(EMTVPaper(EMTVPaperOptions()), x0.double(), make_sources(infrared.double(), visible.double()))
        torch.testing.assert_close(single.double(), double, atol=2e-6, rtol=0)

    def test_an_option_that_the_released_form_does_not_read_is_refused(self):
        with pytest.raises(OptionError, match=r"`eps=0.01` is read only with `form` corrected"):
            validate_options(EMTVPaperOptions, {"form": "released", "eps": 1e-2}, "prior em_tv_paper")

    def test_the_default_prior_states_the_same_energy(self, generator):
        sources = random_sources(generator)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        assert torch.equal(EMTVPaper(EMTVPaperOptions()).energy(x0, sources), EMTV(EMTVOptions()).energy(x0, sources))
