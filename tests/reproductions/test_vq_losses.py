"""The autoencoder's losses in their corrected forms; the released ones are held to the original's numbers in golden/."""

import pytest
import torch

from fusionkit_reproductions.vq.losses import frequency_loss


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
