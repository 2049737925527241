"""The training loss of VQ autoencoders: reconstruction, perception, an adversary, the codebook, frequencies.

Esser et al., "Taming Transformers", CVPR 2021, section 3.1, as RFfusion changes it (taming/modules/losses/
vqperceptual.py of github.com/zirui0625/RFfusion at 05399ed): a frequency term is added. `released` is that code number
for number; `corrected`, the default, differs where a docstring says so.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lpips import LPIPS

Form = Literal["corrected", "released"]


class PatchDiscriminator(nn.Module):
    """Judges patches of an image as real or not (Isola et al., CVPR 2017): (B, 3, H, W) -> logits (B, 1, h, w)."""

    def __init__(self, width: int = 64, layers: int = 3, channels: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for number in range(1, layers + 1):
            after = width * min(2**number, 8)
            stride = 2 if number < layers else 1
            parts += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
            before = after
        self.main = nn.Sequential(*parts, nn.Conv2d(before, 1, 4, padding=1))
        for module in self.main:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, positive for real."""
        return self.main(x)


class GeneratorTerms(NamedTuple):
    """The loss of the autoencoder and its parts, each a scalar: total = nll + weight adversarial + codebook
    + frequency; nll is the mean of reconstruction and perception.
    """

    total: Tensor
    nll: Tensor
    perceptual: Tensor
    adversarial: Tensor
    weight: Tensor
    codebook: Tensor
    frequency: Tensor


@dataclass
class VQLoss:
    """mean(|x - y| + LPIPS(x, y)) - λ mean D(y) + codebook + frequency, for images in [-1, 1].

    λ = 0.75 |∇ nll| / (|∇ adversarial| + 1e-4), gradients with respect to the decoder's last layer, from
    `adversarial_start` on. perceptual: None leaves that term out.
    """

    discriminator: PatchDiscriminator
    perceptual: LPIPS | None = None
    form: Form = "corrected"
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.75
    codebook_weight: float = 1.0
    frequency_weight: float = 1.0
    adversarial_start: int = 0

    def __call__(self, x: Tensor, y: Tensor, codebook: Tensor, last_layer: Tensor, step: int) -> GeneratorTerms:
        """x: images (B, 3, H, W), y: their reconstruction, codebook: its loss, last_layer: a parameter y depends on."""
        reconstruction = (x - y).abs()
        perceptual = torch.zeros(1, device=x.device)
        if self.perceptual is not None and self.perceptual_weight > 0:
            perceptual = self.perceptual(x, y)
            reconstruction = reconstruction + self.perceptual_weight * perceptual
        nll = reconstruction.mean()
        adversarial = -self.discriminator(y).mean()
        # without gradients, for validation, there is nothing to balance
        balance = _balance(nll, adversarial, last_layer) if torch.is_grad_enabled() else torch.zeros_like(nll)
        weight = self.adversarial_weight * balance
        factor = float(step >= self.adversarial_start)
        frequency = frequency_loss(x, y, self.form)
        total = (
            nll
            + weight * factor * adversarial
            + self.codebook_weight * codebook.mean()
            + self.frequency_weight * frequency
        )
        return GeneratorTerms(total, nll, perceptual.mean(), adversarial, weight, codebook.mean(), frequency)


def _balance(nll: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Ratio of the gradients of nll and adversarial term at the last layer, at most 1e4."""
    of_nll, of_adversarial = (
        torch.autograd.grad(term, last_layer, retain_graph=True)[0].norm() for term in (nll, adversarial)
    )
    return (of_nll / (of_adversarial + 1e-4)).clamp(0, 1e4).detach()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of logits (Lim & Ye, 2017): mean of relu(1 - real) and relu(1 + fake), halved."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def frequency_loss(x: Tensor, y: Tensor, form: Form = "corrected") -> Tensor:
    """Mean squared difference of standardised log spectra, log(1 + |FFT|), of images (B, C, H, W).

    corrected: each image is standardised by its own mean and deviation. released: by those of the whole batch, so
    that an image's loss depends on its neighbours.
    """
    dims = (1, 2, 3) if form == "corrected" else (0, 1, 2, 3)
    spectra = (torch.log1p(torch.fft.fft2(image).abs()) for image in (x, y))
    a, b = ((s - s.mean(dims, keepdim=True)) / s.std(dims, keepdim=True).clamp_min(1e-12) for s in spectra)
    return F.mse_loss(a, b)
