"""The frequency term that RFfusion adds to the training loss of VQ autoencoders.

taming/modules/losses/vqperceptual.py of github.com/zirui0625/RFfusion at 05399ed. `released` is that code number for
number; `corrected`, the default, differs where a docstring says so.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Literal["corrected", "released"]


def frequency_loss(x: Tensor, y: Tensor, form: Form = "corrected") -> Tensor:
    """Mean squared difference of standardised log spectra, log(1 + |FFT|), of images (B, C, H, W).

    corrected: each image is standardised by its own mean and deviation. released: by those of the whole batch, so
    that an image's loss depends on its neighbours.
    """
    dims = (1, 2, 3) if form == "corrected" else (0, 1, 2, 3)
    spectra = (torch.log1p(torch.fft.fft2(image).abs()) for image in (x, y))
    a, b = ((s - s.mean(dims, keepdim=True)) / s.std(dims, keepdim=True).clamp_min(1e-12) for s in spectra)
    return F.mse_loss(a, b)
