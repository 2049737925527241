"""The shelf of priors, each against what is known of its answer."""

import sys

import numpy as np
import pytest
import torch

from fusionkit.errors import BrokenPlugin, OptionError
from fusionkit.method.config import make_config
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.poisson import divergence, gradient, screened_poisson
from fusionkit.numerics.window import box_mean, gaussian_blur, guided_filter
from fusionkit.registry.loading import get_registry
from fusionkit.scenes import infrared_visible
from fusionkit_priors.ccf import CCF
from fusionkit_priors.focus import Focus, remove_small_regions
from fusionkit_priors.gradient import Gradient, GradientOptions, dominant_gradient
from fusionkit_priors.guided_filter import GuidedFilter
from fusionkit_priors.mertens import Mertens, MertensOptions
from fusionkit_priors.saliency import Saliency
from fusionkit_priors.tv import TotalVariation, TVOptions
from fusionkit_priors.wavelet import Wavelet
from harness import make_sources

CLOSED = ["gradient", "saliency", "guided_filter", "mertens", "focus", "wavelet", "laplacian"]


def correct(prior, x0, sources, sigma=0.1):
    return prior.correct(x0, sources, prior.start(sources), sigma)[0]


def make(cls, **options):
    return cls(cls.Options(**options))


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """A textured luma, (1, 1, 96, 128)."""
    _, visible = infrared_visible((96, 128), seed=5)
    return torch.from_numpy(visible).float().mean(-1)[None, None]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize("name", CLOSED)
def test_an_image_fused_with_itself_is_itself(name, photo):
    fused = correct(get_registry().create("prior", name), photo, make_sources(photo, photo))
    torch.testing.assert_close(fused, photo, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["laplacian", "guided_filter", "mertens", "focus", "wavelet", "gradient"])
def test_three_sources_at_once(name, photo):
    sources = make_sources(photo, photo * 0.5, 1 - photo)
    fused = correct(get_registry().create("prior", name), photo, sources)
    assert fused.shape == photo.shape
    assert bool(fused.isfinite().all())


class TestPoisson:
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 5), (9, 16)])
    def test_the_solution_satisfies_the_equation(self, size, generator):
        right = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
        f = screened_poisson(right, 0.3)
        torch.testing.assert_close(0.3 * f - divergence(*gradient(f)), right)

    def test_divergence_is_minus_the_adjoint_of_gradient(self, generator):
        x, px, py = (torch.randn(1, 1, 5, 7, generator=generator, dtype=torch.float64) for _ in range(3))
        gx, gy = gradient(x)
        torch.testing.assert_close((gx * px + gy * py).sum(), -(x * divergence(px, py)).sum())


class TestWindow:
    @pytest.mark.parametrize("size", [(1, 1), (3, 20), (16, 16)])
    def test_box_mean_is_the_mean_over_what_lies_inside(self, size, generator):
        x = torch.rand(1, 1, *size, generator=generator, dtype=torch.float64)
        ours = box_mean(x, 2)
        for i in range(size[0]):
            for j in range(size[1]):
                part = x[..., max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
                assert float(ours[0, 0, i, j]) == pytest.approx(float(part.mean()))

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


class TestGradient:
    def test_the_field_of_one_image_is_its_gradient(self, photo):
        for ours, expected in zip(dominant_gradient((photo, photo)), gradient(photo), strict=True):
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


class TestWavelet:
    def test_details_come_from_the_source_that_has_them(self, photo):
        flat = gaussian_blur(photo, 3.0)
        fused = correct(make(Wavelet), photo, make_sources(flat, photo))
        assert psnr(fused, photo) > psnr((flat + photo) / 2, photo) + 6

    def test_an_unknown_wavelet_is_one_line(self):
        with pytest.raises(OptionError, match=r"wavelet='db99'"):
            get_registry().create("prior", "wavelet", {"wavelet": "db99"})

    def test_without_the_package_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pywt", None)
        with pytest.raises(BrokenPlugin, match=r"pip install 'imagefusionkit\[wavelet\]'"):
            get_registry().create("prior", "wavelet")


class TestBaselinesOfThePaper:
    def test_a_priors_sampling_is_used_where_the_user_chose_none(self):
        choices = {"prior": "ddfm", "backbone": "identity"}
        sampling = Pipeline(make_config(choices), device="cpu").sampler.options
        assert (sampling.steps, sampling.strength, sampling.eta) == (100, 1.0, 1.0)
        pipeline = Pipeline(make_config({**choices, "sampler": {"steps": 3}}), device="cpu")
        assert (pipeline.sampler.options.steps, pipeline.sampler.options.strength) == (3, 1.0)
        assert pipeline.method()["sampler"]["steps"] == 3
        assert Pipeline(make_config({"backbone": "identity"}), device="cpu").sampler.options.steps == 1

    @pytest.mark.parametrize("solver", ["heun", "rk45"])
    def test_another_solver_does_without_the_priors_fresh_noise(self, solver):
        choices = {"prior": "ddfm", "backbone": "identity", "sampler": {"solver": solver}}
        assert Pipeline(make_config(choices), device="cpu").sampler.options.eta == 0

    def test_options_that_contradict_the_priors_are_one_line(self):
        choices = {"prior": "ddfm", "backbone": "identity", "sampler": {"solver": "heun", "eta": 0.5}}
        with pytest.raises(OptionError, match="eta > 0 needs solver euler"):
            make_config(choices)

    def test_ddfm_runs_from_noise_and_ends_near_the_sources(self, scene):
        choices = {"prior": "ddfm", "sampler": {"steps": 4}, "decoder": "identity", "backbone": "identity"}
        fused = Pipeline(make_config(choices), device="cpu").fuse_tensors(scene)
        assert fused.shape == scene[1].shape

    def test_ccf_lowers_its_energy_and_moves_weight_to_what_lags(self, photo):
        sources = make_sources(photo.flip(-1), photo)
        prior = make(CCF)
        state = prior.start(sources)
        x, energies = photo, [float(prior.energy(photo, sources))]
        for _ in range(3):
            x, state = prior.correct(x, sources, state, 0.1)
            energies.append(float(prior.energy(x, sources)))
        assert energies[-1] < energies[1] < energies[0]
        weights = prior._weights(x, state)
        assert weights.shape == (5, 1)
        ratio = (state.last / state.before)[:, 0]
        given = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.2])
        order = np.argsort((weights[:, 0] / given).numpy())
        assert list(order) == list(np.argsort(ratio.clamp(0, 4).numpy()))

    def test_saliency_keeps_a_hot_object_bright(self):
        visible = torch.full((1, 1, 64, 64), 0.2)
        infrared = torch.full((1, 1, 64, 64), 0.1)
        infrared[..., 28:36, 28:36] = 0.9
        visible[..., :8, :8] = 0.3
        fused = correct(make(Saliency), visible, make_sources(infrared, visible))
        assert float(fused[..., 30:34, 30:34].mean()) > 0.7
