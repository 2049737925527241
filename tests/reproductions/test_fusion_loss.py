"""The training losses in their corrected forms; the released ones are held to the original's numbers in golden/."""

import pytest
import torch

from fusionkit_reproductions.fusion_loss import FusionLoss, saliency_weights, ssim, stage_two_input


@pytest.fixture
def pair(generator) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.rand(2, 3, 20, 24, generator=generator) for _ in range(2))


def test_corrected_weights_favour_what_stands_out_and_released_ones_the_opposite():
    visible = torch.full((1, 3, 8, 8), 0.5)
    infrared = torch.full((1, 3, 8, 8), 0.2)
    infrared[..., 3, 3] = 0.9
    visible[..., 0, 0] = 0.6  # a histogram of one level has no contrast at all
    weights = saliency_weights(infrared, visible)
    assert float(weights[0, 0, 3, 3]) > 0.9
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1
    released = saliency_weights(infrared, visible, "released")
    assert float(released[0, 0, 3, 3]) < float(released[0, 0, 5, 5])


def test_released_saliency_of_unit_images_has_two_levels_and_corrected_many(pair):
    count = {form: len(torch.unique(saliency_weights(*pair, form=form)[0])) for form in ("released", "corrected")}
    assert count["released"] <= 4
    assert count["corrected"] > 100


def test_ssim_of_an_image_with_itself_is_one_and_falls_with_noise(pair, generator):
    image = pair[0]
    assert float(ssim(image, image)) == pytest.approx(1.0)
    values = [float(ssim(image, image + s * torch.randn(image.shape, generator=generator))) for s in (0.05, 0.2)]
    assert 1 > values[0] > values[1] > 0


def test_the_fusion_loss_pulls_towards_the_sources(pair):
    visible, infrared = pair
    fused = torch.full_like(visible, 0.5).requires_grad_()
    first = FusionLoss()(fused, visible, infrared)
    assert float(first.total.detach()) == pytest.approx(sum(float(t.detach()) for t in first[1:]), rel=1e-5)
    (gradient,) = torch.autograd.grad(first.total, fused)
    assert float(FusionLoss()(fused - gradient, visible, infrared).total.detach()) < float(first.total.detach())


def test_the_released_target_of_stage_two_is_white(pair):
    decoded, fused = pair
    assert float((stage_two_input(decoded, fused, "released") == 1).float().mean()) > 0.98
    assert torch.equal(stage_two_input(decoded, fused), fused)
