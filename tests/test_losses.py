"""The training losses in their corrected forms; the released ones are held to the original's numbers in golden/."""

import pytest
import torch

from fusionkit.errors import WeightsError
from fusionkit.numerics.contrast import level_contrast
from fusionkit.training.losses import FusionLoss, saliency_weights, ssim, stage_two_input
from fusionkit_plugins.vq.losses import PatchDiscriminator, VQLoss, discriminator_loss, frequency_loss
from fusionkit_plugins.vq.lpips import LPIPS


@pytest.fixture
def pair(generator) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.rand(2, 3, 20, 24, generator=generator) for _ in range(2))


def test_saliency_is_the_mean_distance_to_all_other_levels():
    levels = torch.tensor([[[[0.0, 0.0, 0.0, 100.0]]]])
    assert level_contrast(levels).flatten().tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])


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


def test_the_frequency_loss_of_an_image_does_not_depend_on_its_neighbours(pair):
    x, y = pair
    x = x * torch.tensor([1.0, 20.0]).view(2, 1, 1, 1)
    alone = [frequency_loss(x[i : i + 1], y[i : i + 1]) for i in range(2)]
    assert float(frequency_loss(x, y)) == pytest.approx(float(sum(alone)) / 2, rel=1e-5)
    released = [frequency_loss(x[i : i + 1], y[i : i + 1], "released") for i in range(2)]
    assert abs(float(frequency_loss(x, y, "released")) - float(sum(released)) / 2) > 1e-3


def test_the_adversary_enters_at_its_step_with_a_balanced_gradient(generator):
    discriminator = PatchDiscriminator(width=4, layers=1)
    last_layer = torch.randn(3, 3, 1, 1, generator=generator).requires_grad_()
    x = torch.rand(1, 3, 16, 16, generator=generator)
    y = torch.nn.functional.conv2d(x, last_layer)
    loss = VQLoss(discriminator, adversarial_start=5)
    before, after = (loss(x, y, torch.zeros(()), last_layer, step) for step in (4, 5))
    added = (after.total - before.total - after.weight * after.adversarial).detach()
    assert float(added) == pytest.approx(0, abs=1e-5)
    norms = [torch.autograd.grad(t, last_layer, retain_graph=True)[0].norm() for t in (after.nll, after.adversarial)]
    assert float(after.weight * norms[1]) == pytest.approx(0.75 * float(norms[0]), rel=0.05)


def test_the_hinge_loss_is_zero_where_the_judgement_is_sure():
    assert float(discriminator_loss(torch.tensor([2.0]), torch.tensor([-3.0]))) == 0
    assert float(discriminator_loss(torch.zeros(1), torch.zeros(1))) == 1


def test_lpips_reads_torchvisions_and_its_own_names(tmp_path):
    torch.manual_seed(0)
    module = LPIPS()
    state = module.state_dict()
    vgg = {f"features.{k.split('.', 2)[2]}": v for k, v in state.items() if k.startswith("net.")}
    torch.save({**vgg, "classifier.0.bias": torch.zeros(1)}, tmp_path / "vgg16.pth")
    torch.save({k: v for k, v in state.items() if k.startswith("lin")}, tmp_path / "vgg.pth")
    again = LPIPS.from_file(tmp_path / "vgg16.pth", tmp_path / "vgg.pth")
    images = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    assert torch.equal(again(*images), module(*images))
    assert float(module(images[0], images[0])) == 0
    with pytest.raises(WeightsError, match=r"missing lin0\.model\.1\.weight"):
        LPIPS.from_file(tmp_path / "vgg16.pth")
