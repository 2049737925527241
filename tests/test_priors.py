"""Each prior against a closed form, and what all priors promise."""

import numpy as np
import pytest
import torch

from fusionkit.contracts import Options, Sources
from fusionkit.method.folding import FoldedPrior
from fusionkit.numerics.contrast import global_contrast
from fusionkit.numerics.pyramid import collapse, laplacian_pyramid
from fusionkit.registry.loading import get_registry
from fusionkit_plugins.color.ycbcr import YCbCr
from fusionkit_priors.baselines import Average, Keep, Maximum
from fusionkit_priors.em_tv import EMTV, EMTVOptions, forward_differences, prox_tv
from fusionkit_priors.laplacian import Laplacian, LaplacianOptions
from harness import make_sources

YCBCR = YCbCr(YCbCr.Options())
PRIORS = get_registry().names("prior")
SIZES = [(32, 48), (31, 37), (1, 20), (20, 1), (1, 1), (2, 3)]


def create(name):
    return get_registry().create("prior", name)


def random_sources(generator, size=(24, 40), batch=1, count=2):
    return make_sources(*(torch.rand(batch, 1, *size, generator=generator) for _ in range(count)))


def correct(prior, x0, sources, sigma=0.1):
    return prior.correct(x0, sources, prior.start(sources), sigma)[0]


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_is_kept_finite_and_inputs_untouched(name, size, generator):
    sources = random_sources(generator, size)
    x0 = torch.rand(1, 1, *size, generator=generator)
    copies = [t.clone() for t in (x0, *sources.luma)]
    result = correct(create(name), x0, sources)
    assert result.shape == x0.shape
    assert result.dtype == torch.float32
    assert bool(result.isfinite().all())
    assert all(torch.equal(a, b) for a, b in zip(copies, (x0, *sources.luma), strict=True))


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.0, 1.0, 0.5)])
def test_constant_and_equal_sources_are_harmless(name, values):
    a, b, x0 = (torch.full((1, 1, 16, 16), v) for v in values)
    result = correct(create(name), x0, make_sources(a, b))
    assert bool(result.isfinite().all())
    assert float(result.min()) >= -1e-4
    assert float(result.max()) <= 1 + 1e-4
    if values[0] == values[1] and name != "released_rffusion":  # which stretches every image to the full range
        torch.testing.assert_close(result, a, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PRIORS)
def test_an_image_does_not_depend_on_its_neighbours_in_the_batch(name, generator):
    sources = random_sources(generator, batch=3)
    x0 = torch.rand(3, 1, 24, 40, generator=generator)
    prior = create(name)
    together, state = prior.correct(x0, sources, prior.start(sources), 0.1)
    together = prior.correct(together, sources, state, 0.1)[0]
    for b in range(3):
        alone = make_sources(*(y[b : b + 1] for y in sources.luma))
        one, state = prior.correct(x0[b : b + 1], alone, prior.start(alone), 0.1)
        torch.testing.assert_close(together[b : b + 1], prior.correct(one, alone, state, 0.1)[0], atol=5e-5, rtol=0)


@pytest.mark.parametrize("name", [n for n in PRIORS if create(n).has_energy])
def test_energies_have_right_gradients(name, generator):
    a, b = (torch.rand(2, 1, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    x0 = torch.rand(2, 1, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    prior, sources = create(name), make_sources(a, b)
    assert prior.energy(x0, sources).shape == (2,)
    assert torch.autograd.gradcheck(lambda x: prior.energy(x, sources), x0)


@pytest.mark.parametrize("name", [n for n in PRIORS if not create(n).has_energy])
def test_a_prior_without_energy_says_so(name, generator):
    sources = random_sources(generator)
    with pytest.raises(TypeError, match="no energy"):
        create(name).energy(sources.luma[0], sources)


def test_baselines(generator):
    sources = random_sources(generator, count=3)
    x0 = torch.rand(1, 1, 24, 40, generator=generator)
    torch.testing.assert_close(correct(Average(Options()), x0, sources), sum(sources.luma) / 3)
    torch.testing.assert_close(correct(Maximum(Options()), x0, sources), torch.cat(sources.luma).amax(0, keepdim=True))
    assert correct(Keep(Options()), x0, sources) is x0


class TestEMTV:
    def test_from_the_reference_the_first_step_is_a_third_of_the_way(self, generator):
        """X = 0 makes D = 2C, so that X = 2CY / 6C, up to the weak tie rho."""
        infrared, visible = random_sources(generator).luma
        prior = EMTV(EMTVOptions(rho=1e-6, eps=1e-5))
        result = correct(prior, visible, make_sources(infrared, visible))
        torch.testing.assert_close(result, visible + (infrared - visible) / 3, atol=1e-5, rtol=0)

    def test_a_pixel_follows_the_source_that_the_estimate_is_nearer_to(self):
        infrared, visible = torch.full((1, 1, 4, 4), 0.9), torch.full((1, 1, 4, 4), 0.1)
        near, far = (
            correct(EMTV(EMTVOptions()), torch.full((1, 1, 4, 4), v), make_sources(infrared, visible))
            for v in (0.8, 0.2)
        )
        assert float(near.mean()) > 0.75
        assert float(far.mean()) == pytest.approx(0.1 + 0.8 / 3, abs=0.02)  # D is capped at 2C

    def test_the_two_recompositions_are_complements(self, generator):
        sources = random_sources(generator)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        a = correct(EMTV(EMTVOptions()), x0, sources)
        b = correct(EMTV(EMTVOptions(recompose="i_minus_x")), x0, sources)
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
        prior, sources, y = EMTV(EMTVOptions(rho=10.0)), make_sources(a, b), b
        state = prior.start(sources)
        for _ in range(4):
            y, state = prior.correct(y, sources, state, 0.1)
            assert float(y.std()) < 1e-6

    def test_the_energy_of_a_constant_residual_has_no_variation(self):
        a, b = torch.full((1, 1, 6, 6), 0.6), torch.full((1, 1, 6, 6), 0.3)
        prior = EMTV(EMTVOptions(lam=1.0, eps=1e-6))
        assert float(prior.energy(b, make_sources(a, b))) == pytest.approx(36 * 0.3, rel=1e-3)

    def test_state_is_carried_unless_told_otherwise(self, generator):
        sources = random_sources(generator)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        results = {}
        for carry in (True, False):
            prior = EMTV(EMTVOptions(carry=carry, rho=1.0))
            first, state = prior.correct(x0, sources, prior.start(sources), 0.1)
            results[carry] = prior.correct(x0, sources, state, 0.1)[0]
            if not carry:
                torch.testing.assert_close(results[carry], first)
        assert float((results[True] - results[False]).abs().max()) > 1e-3

    def test_float32_agrees_with_float64(self, generator):
        infrared, visible = random_sources(generator).luma
        visible = torch.where(torch.rand(visible.shape, generator=generator) < 0.3, infrared, visible)  # zeros in Y
        x0 = torch.where(torch.rand(visible.shape, generator=generator) < 0.3, visible, infrared)  # and in X, Y - X
        single = correct(EMTV(EMTVOptions()), x0, make_sources(infrared, visible))
        double = correct(EMTV(EMTVOptions()), x0.double(), make_sources(infrared.double(), visible.double()))
        torch.testing.assert_close(single.double(), double, atol=2e-6, rtol=0)


class TestLaplacian:
    @pytest.mark.parametrize("size", [*SIZES, (64, 64), (33, 130)])
    def test_pyramid_collapses_exactly(self, size, generator):
        x = torch.rand(2, 1, *size, generator=generator)
        for levels in (1, 3, 6):
            torch.testing.assert_close(collapse(laplacian_pyramid(x, levels)), x, atol=1e-6, rtol=0)

    def test_a_constant_has_no_detail_at_any_border(self):
        bands = laplacian_pyramid(torch.full((1, 1, 37, 21), 0.7), 4)
        assert max(float(b.abs().max()) for b in bands[:-1]) < 1e-6

    def test_global_contrast_is_the_mean_distance(self, generator):
        x = torch.rand(2, 1, 7, 9, generator=generator)
        flat = x.flatten(1)
        brute = (flat[:, :, None] - flat[:, None, :]).abs().mean(2).view_as(x)
        torch.testing.assert_close(global_contrast(x), brute)

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


class TestFold:
    def test_two_sources_are_what_the_prior_does_itself(self, generator):
        sources = random_sources(generator)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        torch.testing.assert_close(
            correct(FoldedPrior(EMTV(EMTVOptions()), YCBCR), x0, sources), correct(EMTV(EMTVOptions()), x0, sources)
        )

    @pytest.mark.parametrize("reference", [0, 1, -1])
    def test_three_sources_all_count_and_the_reference_stays_one(self, reference, generator):
        lumas = random_sources(generator, count=3).luma
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        prior = FoldedPrior(EMTV(EMTVOptions()), YCBCR)

        def fuse(images):
            return correct(prior, x0, Sources(images, images, ("a", "b", "c"), reference))

        base = fuse(lumas)
        for i in range(3):
            changed = tuple(y * 0.5 if i == k else y for k, y in enumerate(lumas))
            assert float((fuse(changed) - base).abs().max()) > 1e-3

    def test_energy_is_the_mean_of_the_pairs(self, generator):
        sources = random_sources(generator, count=3)
        x0 = torch.rand(1, 1, 24, 40, generator=generator)
        prior = EMTV(EMTVOptions())
        a, b, v = sources.luma
        pairs = [prior.energy(x0, make_sources(y, v)) for y in (a, b)]
        torch.testing.assert_close(FoldedPrior(prior, YCBCR).energy(x0, sources), sum(pairs) / 2)


def test_noise_level_is_estimated():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, 256)[None, :] + 0.03 * rng.standard_normal((200, 256))
    sources = make_sources(torch.from_numpy(ramp)[None, None].float(), torch.zeros(1, 1, 1, 1))
    assert float(sources.noise[0]) == pytest.approx(0.03, rel=0.05)
    assert float(sources.noise[1]) == 0.0
