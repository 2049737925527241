"""Networks that decide between sources: what they are untrained, what they must not do, how they train."""

import pytest
import torch
import torch.nn.functional as F

from fusionkit.contracts import Sources
from fusionkit.errors import NoEffect, WeightsError
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.window import gaussian_blur
from fusionkit.options import validate_options
from fusionkit.scenes import multi_exposure
from fusionkit.training.loop import train
from fusionkit.training.options import TrainOptions
from fusionkit_plugins.metrics.audit import Rims
from fusionkit_priors import exposure_training, focus_training
from fusionkit_priors.decision import Decision, DecisionNetConfig, Exposed, InFocus
from fusionkit_priors.em_tv import EMTV, EMTVOptions
from fusionkit_priors.exposure import Exposure
from fusionkit_priors.exposure_training import ExposureTrainer, ExposureTrainerOptions
from fusionkit_priors.focus import Focus
from fusionkit_priors.focus_training import FocusTrainer, FocusTrainerOptions
from fusionkit_priors.mertens import Mertens
from harness import correct, make, make_sources, psnr


@pytest.fixture(params=[InFocus, Exposed])
def network(request):
    torch.manual_seed(0)
    found = request.param(DecisionNetConfig(widths=(4, 6, 8)))
    torch.nn.init.normal_(found.last.weight)
    return found.requires_grad_(False).eval()


def halves(photo):
    soft = gaussian_blur(photo, 2.5)
    left = (torch.arange(photo.shape[-1]) < photo.shape[-1] // 2).expand_as(photo)
    return torch.where(left, photo, soft), torch.where(left, soft, photo)


def exposures(photo):
    return (photo / 4).clamp(0, 1), (photo * 2.5).clamp(0, 1)


def test_untrained_it_is_the_sharper_one_pixel_by_pixel(photo):
    near, far = halves(photo)
    weights = InFocus(DecisionNetConfig()).requires_grad_(False)([near, far])
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))
    assert float(weights[0][..., :56].mean()) > 0.75
    assert float(weights[1][..., 72:].mean()) > 0.75


def test_untrained_it_is_the_one_nearer_to_grey_pixel_by_pixel(photo):
    under, over = exposures(photo)
    weights = Exposed(DecisionNetConfig()).requires_grad_(False)([under, over])
    nearer = (under - 0.5).abs() < (over - 0.5).abs()
    assert torch.equal(weights[0] > 0.5, nearer)


@pytest.mark.parametrize("size", [(96, 128), (33, 50), (5, 7)])
def test_weights_are_of_any_size_and_number_and_sum_to_one(network, size, generator):
    for count in (1, 2, 3):
        lumas = [torch.rand(2, 1, *size, generator=generator) for _ in range(count)]
        weights = network(lumas)
        assert weights.shape == (count, 2, 1, *size)
        torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))


def test_sources_are_equal_in_rights(network, photo):
    lumas = [photo, gaussian_blur(photo, 2.0), gaussian_blur(photo, 1.0)]
    forth, back = network(lumas), network(lumas[::-1])
    torch.testing.assert_close(forth, back.flip(0), atol=1e-5, rtol=0)


def test_a_rendered_scene_has_each_layer_sharp_in_one_picture(photo, generator):
    wide = F.interpolate(photo, scale_factor=2.0)
    scene = focus_training.render(wide.expand(12, -1, -1, -1).contiguous(), generator)
    every = torch.stack([scene.sources[0], scene.sources[1], scene.wanted, scene.seen[0], scene.seen[1]])
    assert float(every.amin()) >= 0
    assert float(every.amax()) <= 1
    torch.testing.assert_close(scene.owner.sum(0), torch.ones_like(scene.wanted))
    errors = (scene.sources[:2] - scene.wanted).square()
    mine, others = (errors * scene.owner[:2]).sum(), (errors * (1 - scene.owner[:2])).sum()
    assert float(mine) < 0.2 * float(others)


def test_shipped_weights_put_halves_together(photo):
    near, far = halves(photo)
    for prior in (make(Focus, weights="focus-rendered"), make(EMTV, evidence="focus")):
        fused = correct(prior, far, make_sources(near, far))
        assert psnr(fused, photo) > max(psnr(near, photo), psnr(far, photo)) + 10


def test_large_sources_are_decided_on_a_copy(photo):
    large = F.interpolate(photo, size=(1450, 1933), mode="bicubic").clamp(0, 1)
    soft = gaussian_blur(large, 12.0)
    left = (torch.arange(1933) < 960).expand_as(large)
    near, far = torch.where(left, large, soft), torch.where(left, soft, large)
    first, second = Decision(InFocus, "focus-rendered", "").weights([near, far])
    assert first.shape == large.shape
    torch.testing.assert_close(first + second, torch.ones_like(first))
    fused = first * near + second * far
    assert psnr(fused, large) > max(psnr(near, large), psnr(far, large)) + 5


def test_a_rendered_bracket_is_in_range_and_its_aim_within_its_sources(photo, generator):
    wide = F.interpolate(photo, scale_factor=2.0)
    scene = exposure_training.render(wide.expand(12, -1, -1, -1).contiguous(), generator)
    every = torch.cat([scene.seen, scene.sources, scene.wanted[None]])
    assert float(every.amin()) >= 0
    assert float(every.amax()) <= 1
    tolerance = 6 * 8 / 255  # of the noise
    assert float((scene.sources.amin(0) - scene.wanted).amax()) < tolerance
    assert float((scene.wanted - scene.sources.amax(0)).amax()) < tolerance
    apart = (scene.sources[0].mean((1, 2, 3)) - scene.sources[1].mean((1, 2, 3))).abs()
    assert float(apart.mean()) > 0.2


def test_shipped_weights_leave_less_of_a_rim_round_a_bright_window():
    images = [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in multi_exposure((192, 256))]
    sources, rims = Sources.of(images), Rims(Rims.Options())
    by_network, by_bands = (
        float(rims(correct(prior, sources.luma[1], sources), sources))
        for prior in (make(EMTV, evidence="exposure"), make(Mertens))
    )
    assert by_network < 0.6 * by_bands


def test_em_tv_gives_the_mixture_of_exposures_the_edges_of_its_sources(photo):
    under, over = exposures(photo)
    mixture, fused = (
        correct(prior, over, make_sources(under, over)) for prior in (make(Exposure), make(EMTV, evidence="exposure"))
    )
    assert float((gaussian_blur(fused, 8.0) - gaussian_blur(mixture, 8.0)).abs().mean()) < 0.02
    strong, weak = (sum(g.abs().mean() for g in gradient(x)) for x in (fused, mixture))
    assert float(strong) > 1.05 * float(weak)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_weights_of_large_exposures_follow_edges_and_sum_to_one(photo, count):
    large = F.interpolate(photo, size=(970, 1293), mode="bicubic").clamp(0, 1).expand(2, -1, -1, -1)
    lumas = [(large * gain).clamp(0, 1) for gain in (0.3, 3.0, 1.0)[:count]]
    kept = [y.clone() for y in lumas]
    weights = Decision(Exposed, "exposure-rendered", "").weights(lumas)
    assert [w.shape for w in weights] == [y.shape for y in lumas]
    torch.testing.assert_close(torch.stack(weights).sum(0), torch.ones_like(large))
    assert min(float(w.amin()) for w in weights) >= 0
    assert all(torch.equal(a, b) for a, b in zip(lumas, kept, strict=True))


def test_weights_that_are_missing_or_of_another_network_are_named():
    for kind in ("focus", "exposure"):
        with pytest.raises(WeightsError, match="`prior=laplacian` needs none"):
            make(EMTV, evidence=kind, **{f"{kind}_weights": "nothing-there"})
        with pytest.raises(NoEffect, match=f"`{kind}_weights=nothing-there` is read only with `evidence`"):
            validate_options(EMTVOptions, {"evidence": "heat", f"{kind}_weights": "nothing-there"}, "em_tv")
    with pytest.raises(WeightsError, match="of kind 'prior focus', expected 'prior exposure'"):
        make(Exposure, weights="focus-rendered")


SMALL = DecisionNetConfig(widths=(8, 8, 8))


@pytest.mark.parametrize(
    ("kind", "choices", "falls"),
    [
        (FocusTrainer, FocusTrainerOptions, {"wrong"}),
        (ExposureTrainer, ExposureTrainerOptions, {"brightness", "edges"}),
    ],
)
def test_training_gets_nearer_to_the_wanted_picture(tmp_path, pair_files, kind, choices, falls):
    import shutil

    (tmp_path / "photos").mkdir()
    for i in range(4):
        shutil.copy(pair_files[1], tmp_path / "photos" / f"{i}.png")
    options = TrainOptions(steps=25, batch=4, crop=64, held_out=2, validate_every=25, warmup=1, lr=5e-3, ema=0.8)
    torch.manual_seed(0)
    trainer = kind(choices(architecture=SMALL))
    trainer.open([tmp_path / "photos"], options)
    with torch.inference_mode():
        before = trainer.validate(trainer.module, trainer.held_out)
    path = train(trainer, tmp_path / "out", options, {})
    with torch.inference_mode():
        after = trainer.validate(Decision(trainer.Net, str(path), "").module, trainer.held_out)
    assert all(after[name] < before[name] for name in falls)
