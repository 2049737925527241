"""The autoencoder's losses in their corrected forms; the released ones are held to the original's numbers in golden/."""

import pytest
import torch

from fusionkit.errors import WeightsError
from fusionkit_reproductions.vq.losses import PatchDiscriminator, VQLoss, discriminator_loss, frequency_loss
from fusionkit_reproductions.vq.lpips import LPIPS


@pytest.fixture
def pair(generator) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.rand(2, 3, 20, 24, generator=generator) for _ in range(2))


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
