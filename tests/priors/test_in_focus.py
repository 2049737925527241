"""The network that tells which source is in focus: what it is untrained, what it must not do, how it trains."""

import pytest
import torch
import torch.nn.functional as F

from fusionkit.errors import WeightsError
from fusionkit.numerics.window import gaussian_blur
from fusionkit.training.loop import train
from fusionkit.training.options import TrainOptions
from fusionkit_priors.em_tv import EMTV
from fusionkit_priors.focus import Focus
from fusionkit_priors.focus_training import FocusTrainer, FocusTrainerOptions, render
from fusionkit_priors.in_focus import FocusDecision, InFocus, InFocusConfig
from harness import correct, make, make_sources, psnr


@pytest.fixture
def network():
    torch.manual_seed(0)
    found = InFocus(InFocusConfig(widths=(4, 6, 8)))
    torch.nn.init.normal_(found.last.weight)
    return found.requires_grad_(False).eval()


def halves(photo):
    soft = gaussian_blur(photo, 2.5)
    left = (torch.arange(photo.shape[-1]) < photo.shape[-1] // 2).expand_as(photo)
    return torch.where(left, photo, soft), torch.where(left, soft, photo)


def test_untrained_it_is_the_sharper_one_pixel_by_pixel(photo):
    near, far = halves(photo)
    weights = InFocus(InFocusConfig()).requires_grad_(False)([near, far])
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))
    assert float(weights[0][..., :56].mean()) > 0.75
    assert float(weights[1][..., 72:].mean()) > 0.75


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
    scene = render(wide.expand(12, -1, -1, -1).contiguous(), generator)
    every = torch.stack([scene.sources[0], scene.sources[1], scene.sharp, scene.seen[0], scene.seen[1]])
    assert float(every.amin()) >= 0
    assert float(every.amax()) <= 1
    torch.testing.assert_close(scene.owner.sum(0), torch.ones_like(scene.sharp))
    errors = (scene.sources[:2] - scene.sharp).square()
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
    first, second = FocusDecision("focus-rendered").weights([near, far])
    assert first.shape == large.shape
    torch.testing.assert_close(first + second, torch.ones_like(first))
    fused = first * near + second * far
    assert psnr(fused, large) > max(psnr(near, large), psnr(far, large)) + 5


def test_weights_that_are_missing_are_named():
    with pytest.raises(WeightsError, match="`prior=focus` needs none"):
        make(EMTV, evidence="focus", focus_weights="nothing-there")
    make(EMTV, evidence="heat", focus_weights="nothing-there")  # not asked for


def test_training_gets_nearer_to_what_is_in_focus_everywhere(tmp_path, pair_files):
    import shutil

    (tmp_path / "photos").mkdir()
    for i in range(4):
        shutil.copy(pair_files[1], tmp_path / "photos" / f"{i}.png")
    options = TrainOptions(steps=25, batch=4, crop=64, held_out=2, validate_every=25, warmup=1, lr=5e-3, ema=0.8)
    torch.manual_seed(0)
    trainer = FocusTrainer(FocusTrainerOptions(architecture=InFocusConfig(widths=(8, 8, 8))))
    trainer.open([tmp_path / "photos"], options)
    with torch.inference_mode():
        before = trainer.validate(trainer.module, trainer.held_out)
    path = train(trainer, tmp_path / "out", options, {})
    with torch.inference_mode():
        after = trainer.validate(FocusDecision(str(path)).network, trainer.held_out)
    assert after["psnr"] > before["psnr"]
    assert after["wrong"] < before["wrong"]
