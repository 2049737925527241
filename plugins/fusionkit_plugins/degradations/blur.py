"""Blur: the picture was convolved with a kernel before its noise came."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.fft import next_fast_len
from torch import Generator, Tensor

from fusionkit.contracts import Splitting, SplittingOptions
from fusionkit.errors import OptionError
from fusionkit.options import FilePath, When

__all__ = ["Blur", "BlurOptions"]

FINE = 16  # samples a pixel and axis, from which kernels of lines and discs are added up


class BlurOptions(SplittingOptions):
    """Options of the degradation `blur`."""

    kernel: Literal["gaussian", "motion", "disc", "file"] = Field(
        "gaussian", description="shape of the blur; disc: out of focus"
    )
    sigma: Annotated[float, When("kernel", "gaussian")] = Field(
        1.5, ge=0.3, le=20, description="deviation of the Gaussian, pixels"
    )
    length: Annotated[float, When("kernel", "motion")] = Field(
        9.0, ge=1, le=100, description="length of the movement, pixels"
    )
    angle: Annotated[float, When("kernel", "motion")] = Field(
        0.0, ge=-360, le=360, description="direction of the movement, degrees from the right, anticlockwise"
    )
    radius: Annotated[float, When("kernel", "disc")] = Field(
        2.0, ge=0.5, le=50, description="radius of the disc, pixels"
    )
    file: Annotated[FilePath, When("kernel", "file")] = Field(
        "", description="the kernel: a grey image or an array (.npy) of odd sides, divided by its sum"
    )


class Blur(Splitting):
    """y = k * x + noise with a known kernel k, undone by splitting; the proximal step has a closed form.

    x is estimated on a frame that is wider than y by the kernel's reach, so that no border has to be assumed: where y
    says nothing, outside its frame and where it is clipped, it is taken to be what the estimate makes of it,

        x = x̂₀ + F⁻¹[ K* F[seen · (y - k * x̂₀)] / (|K|² + a) ],

    one step of an EM algorithm for a masked convolution. With all pixels seen this is the step of Zhang et al.,
    "Plug-and-play image restoration with deep denoiser prior", IEEE TPAMI 2022, eq. 23.
    """

    Options = BlurOptions
    options: BlurOptions

    def __init__(self, options: BlurOptions) -> None:
        super().__init__(options)
        self.kernel = _kernel(options)
        self._spectra: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Blur x (1, 1, H, W); beyond its frame the scene continues as its mirror image."""
        return self._blurred(self._wide(x))[..., self._rows(x), self._columns(x)]

    def begin(self, y: Tensor) -> Tensor:
        """y, continued beyond its frame as its mirror image to a size that the transform is fast with."""
        return self._wide(y)

    def prox(self, x0: Tensor, y: Tensor, strength: float) -> Tensor:
        """One step towards the data, on the wide frame; y as the camera gave it."""
        rows, columns = self._rows(y), self._columns(y)
        missing = torch.zeros_like(x0)
        missing[..., rows, columns] = self.mask(y, y - self._blurred(x0)[..., rows, columns])
        spectrum = self._spectrum(x0)
        gain = spectrum.conj() / (spectrum.abs().square() + strength)
        return x0 + torch.fft.irfft2(gain * torch.fft.rfft2(missing), s=x0.shape[-2:])

    def mask(self, y, d):
        return d

    def finish(self, x0: Tensor, y: Tensor) -> Tensor:
        """The part of the wide frame that y shows."""
        return x0[..., self._rows(y), self._columns(y)]

    def _wide(self, x: Tensor) -> Tensor:
        for axis in (-2, -1):
            reach, length = self.kernel.shape[axis] // 2, x.shape[axis]
            full = next_fast_len(length + 2 * reach, real=True)
            place = torch.arange(-reach, full - reach, device=x.device) % (2 * length)
            x = x.index_select(axis, torch.minimum(place, 2 * length - 1 - place))
        return x

    def _rows(self, y: Tensor) -> slice:
        reach = self.kernel.shape[-2] // 2
        return slice(reach, reach + y.shape[-2])

    def _columns(self, y: Tensor) -> slice:
        reach = self.kernel.shape[-1] // 2
        return slice(reach, reach + y.shape[-1])

    def _blurred(self, wide: Tensor) -> Tensor:
        return torch.fft.irfft2(self._spectrum(wide) * torch.fft.rfft2(wide), s=wide.shape[-2:])

    def _spectrum(self, wide: Tensor) -> Tensor:
        height, width = wide.shape[-2:]
        if (height, width) not in self._spectra:
            kernel = torch.zeros(height, width)
            kernel[: self.kernel.shape[0], : self.kernel.shape[1]] = self.kernel
            centred = kernel.roll([-(n // 2) for n in self.kernel.shape], (0, 1))
            self._spectra = {(height, width): torch.fft.rfft2(centred)}
        return self._spectra[height, width].to(wide.device)


def _kernel(options: BlurOptions) -> Tensor:
    """The kernel (odd, odd), of sum 1."""
    match options.kernel:
        case "gaussian":
            kernel = gaussian_kernel(options.sigma)
        case "motion":
            kernel = motion_kernel(options.length, options.angle)
        case "disc":
            kernel = disc_kernel(options.radius)
        case "file":
            kernel = read_kernel(Path(options.file))
    return (kernel / kernel.sum()).float()


def gaussian_kernel(sigma: float) -> Tensor:
    radius = math.ceil(4 * sigma)
    line = torch.exp(-torch.arange(-radius, radius + 1, dtype=torch.float64).square() / (2 * sigma**2))
    return torch.outer(line, line)


def motion_kernel(length: float, angle: float) -> Tensor:
    radius = math.ceil(length / 2 + 0.5)
    place = torch.linspace(-length / 2, length / 2, 2 * FINE * math.ceil(length) + 1, dtype=torch.float64)
    turn = math.radians(angle)
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)
    rows = (1 - (grid[:, None] + place * math.sin(turn)).abs()).clamp_min(0)
    columns = (1 - (grid[:, None] - place * math.cos(turn)).abs()).clamp_min(0)
    return rows @ columns.T


def disc_kernel(radius: float) -> Tensor:
    reach = math.ceil(radius)
    fine = (torch.arange((2 * reach + 1) * FINE, dtype=torch.float64) + 0.5) / FINE - reach - 0.5
    inside = torch.hypot(fine[:, None], fine) <= radius
    return F.avg_pool2d(inside.double()[None, None], FINE)[0, 0]
