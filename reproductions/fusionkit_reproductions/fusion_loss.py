"""The loss that RFfusion trains its second stage with: how well a fused image keeps what two sources show.

Every function has two forms. `released` computes what the published code does (util/loss.py and train_fusion.py of
github.com/zirui0625/RFfusion at 05399ed), number for number; `corrected`, the default, computes what the paper means
where the two differ, which each docstring states.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.contrast import level_contrast
from fusionkit.numerics.luma import BLUE, RED, luma
from fusionkit.numerics.ssim import ssim_map

Form = Literal["corrected", "released"]


class FusionTerms(NamedTuple):
    """The weighted terms of `FusionLoss` and their sum, each a scalar.

    In the published code `intensity`, `gradient` and `saliency` are called max, text and mask.
    """

    total: Tensor
    intensity: Tensor
    ssim: Tensor
    color: Tensor
    gradient: Tensor
    saliency: Tensor


@dataclass(frozen=True)
class FusionLoss:
    """4 intensity + SSIM + 12 colour + 10 gradient + saliency, for one infrared and one visible image.

    intensity   L1 to the source whose channel mean is the larger at each pixel
    SSIM        1 - SSIM(visible, fused) + 1 - SSIM(luma of infrared, luma of fused)
    colour      L1 of Cb and of Cr to the visible image
    gradient    L1 of |Sobel x| and of |Sobel y| of the luma to the larger of the sources'
    saliency    L1 to the sources weighted by `saliency_weights`

    Called with fused, visible and infrared images (B, 3, H, W) in [0, 1], at least 11 (released: 48) pixels wide and
    high; released: in any of [0, 1], [-1, 1] and [0, 255].
    """

    form: Form = "corrected"
    intensity: float = 4.0
    ssim: float = 1.0
    color: float = 12.0
    gradient: float = 10.0
    saliency: float = 1.0

    def __call__(self, fused: Tensor, visible: Tensor, infrared: Tensor) -> FusionTerms:
        """The terms, differentiable in `fused`."""
        brighter = infrared.mean(1, keepdim=True) > visible.mean(1, keepdim=True)
        weight = saliency_weights(infrared, visible, self.form)
        structure = ssim(visible, fused, self.form), ssim(luma(infrared), luma(fused), self.form)
        edges = zip(_sobel(luma(fused)), _sobel(luma(visible)), _sobel(luma(infrared)), strict=True)
        terms: tuple[Tensor, ...] = (
            self.intensity * F.l1_loss(fused, torch.where(brighter, infrared, visible)),
            self.ssim * ((1 - structure[0]) + (1 - structure[1])),
            self.color * _sum(F.l1_loss(a, b) for a, b in zip(_chroma(visible), _chroma(fused), strict=True)),
            self.gradient * _sum(F.l1_loss(f, torch.maximum(v, i)) for f, v, i in edges),
            self.saliency * F.l1_loss(fused, weight * infrared + (1 - weight) * visible),
        )
        return FusionTerms(_sum(terms), *terms)


def saliency_weights(infrared: Tensor, visible: Tensor, form: Form = "corrected") -> Tensor:
    """Weight of the infrared image, (B, 1, H, W), from both images' global contrast.

    corrected: 1/2 + (S_ir - S_vis) / 2, in [0, 1] (Ma et al., Infrared Physics & Technology 2017, eq. 10).
    released: 1 - (0.4 + S_ir - 0.4 S_vis), in [-0.4, 1]: the more salient the infrared image, the less it weighs.
    """
    levels = 255.0 if form == "corrected" else 1.0  # released: images in [0, 1] are rounded to two levels
    of_infrared, of_visible = (level_contrast(luma(image) * levels) for image in (infrared, visible))
    if form == "released":
        return 1 - (0.4 + (of_infrared - 0.4 * of_visible))
    return 0.5 + (of_infrared - of_visible) / 2


def ssim(a: Tensor, b: Tensor, form: Form = "corrected") -> Tensor:
    """Mean SSIM over the batch (Wang et al., 2004), Gaussian of deviation 1.5, without padding.

    corrected: 11x11 window, values in [0, 1]. released: 48x48 with its peak at 24, half a pixel off centre; the
    range is guessed from the values of `a`.
    """
    size, peak, data_range = 11, 5, 1.0
    if form == "released":
        size, peak = 48, 24
        data_range = (255.0 if a.max() > 128 else 1.0) - (-1.0 if a.min() < -0.5 else 0.0)
    window = torch.exp(-((torch.arange(size, device=a.device, dtype=a.dtype) - peak) ** 2) / (2 * 1.5**2))
    window = window / window.sum()
    channels = a.shape[1]
    kernel = torch.outer(window, window).expand(channels, 1, size, size)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    return ssim_map(a, b, mean, data_range).mean()


def stage_two_input(decoded: Tensor, fused: Tensor, form: Form = "corrected") -> Tensor:
    """The image that the decoder is trained to reproduce, in [0, 1].

    corrected: `fused`, the result of the fusion. released: decoded + 255 fused, clamped, which is white wherever
    `fused` exceeds 1/255; a decoder trained on it learns to paint white.
    """
    return (decoded + 255 * fused if form == "released" else fused).clamp(0, 1)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(tuple(terms)).sum()


def _chroma(image: Tensor) -> tuple[Tensor, Tensor]:
    """Cb and Cr of BT.601, up to an offset."""
    y = luma(image)
    return (image[:, 2:] - y) / (2 * (1 - BLUE)), (image[:, :1] - y) / (2 * (1 - RED))


def _sobel(grey: Tensor) -> tuple[Tensor, Tensor]:
    """|d/dx| and |d/dy|, borders replicated."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(grey)[None, None]
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel).abs(), F.conv2d(padded, kernel.transpose(2, 3)).abs()
