"""Blur: the picture was convolved with a kernel before its noise came."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from scipy.fft import next_fast_len
from torch import Generator, Tensor

from fusionkit.contracts import Splitting, SplittingOptions
from fusionkit.errors import OptionError
from fusionkit.flow.restoring import LEFT, Restoration, split
from fusionkit.numerics.noise import estimate_noise
from fusionkit.numerics.window import gaussian_blur
from fusionkit.options import FilePath, When

FINE = 16  # samples a pixel, from which kernels of lines and discs are added up
MOST_SIDE = 255  # of a kernel from a file, pixels
STRONG = 4 / 255  # deviation above which noise is cleaned before the blur is undone
RANGE = 12.0  # first over last deviation: a kernel's inverse amplifies noise by at most 12.5
CLIPPED = 0.25 / 255  # distance from 0 or 1 at which a pixel counts as clipped, if its neighbours are
ROUNDS, ENOUGH = 4, 1e-6  # of conjugate gradients at most; share of the first error at which they end
BLOCK = 24  # side of the blocks whose sharpness is measured, pixels
EVERY = 2  # strip of two rows of blocks that is looked at
FEW_BLOCKS = 8  # blocks with contrast that an estimate needs
CONTRAST = 2 / 255  # root mean square slope of such a block, per pixel
SHARPEST, LEAST_SIGMA = 0.05, 0.68  # blurred: even of the sharpest blocks, at that rank, edges deviate as much, pixels
TYPICAL = 0.7  # rank of the block whose edges tell the deviation


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
        0.0, ge=-360, le=360, description="direction of the movement, degrees anticlockwise from the right"
    )
    radius: Annotated[float, When("kernel", "disc")] = Field(
        2.0, ge=0.5, le=50, description="radius of the disc, pixels"
    )
    file: Annotated[FilePath, When("kernel", "file")] = Field(
        "", description="the kernel: a grey image or an array (.npy) of odd sides; it is divided by its sum"
    )


class Blur(Splitting):
    """y = k * x + noise with a known kernel k, undone by splitting.

    x is estimated on a frame that is wider than y by the kernel's reach, so that no border has to be assumed; y says
    nothing beyond its frame and where it is clipped. The proximal step is the d in x = x̂₀ + d of

        (K* seen K + a) d = K* seen (y - k * x̂₀),

    by conjugate gradients, preconditioned with the solution for all pixels seen (Zhang et al., "Plug-and-play image
    restoration with deep denoiser prior", IEEE TPAMI 2022, eq. 23): far from borders its first iteration is exact.

    Noise above 4 levels is cleaned by the flow first, since splitting leaves coloured noise that the flow takes for
    texture; what is left counts as noise of 2.5 levels.
    """

    Options = BlurOptions
    options: BlurOptions

    def __init__(self, options: BlurOptions) -> None:
        super().__init__(options)
        kernel = _kernel(options)
        self.kernel = (kernel / kernel.sum()).float()
        self._spectra: dict[tuple[int, int], Tensor] = {}

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What is told; else the deviation of a Gaussian blur where no part of y (1, 1, H, W) is sharp.

        Over blocks of 24x24 pixels the energy of the slopes is compared with that of the same picture blurred by one
        pixel more, both less the energy of the noise. An edge of deviation s, taken by central differences, has
        (s² + 1/3 + 1)^½ / (s² + 1/3)^½ times as much (after Zhuo and Sim, "Defocus map estimation from a single
        image", Pattern Recognition 2011, eq. 5, with energies for peaks). Texture seems sharper than edges are.
        """
        if told:
            return told
        height, seen = 2 * BLOCK + 2, []
        for top in range(min(height // 2, max(0, y.shape[-2] - height)), y.shape[-2], EVERY * height):
            strip = y[..., top : top + height, :]
            seen.append(_edge_deviations(strip))
            if len(seen[-1]) >= FEW_BLOCKS and float(seen[-1].quantile(SHARPEST)) < LEAST_SIGMA:
                return None  # a sharp strip settles it
        found = torch.cat(seen)
        if len(found) < FEW_BLOCKS or float(found.quantile(SHARPEST)) < LEAST_SIGMA:
            return None
        return {"kernel": "gaussian", "sigma": round(min(float(found.quantile(TYPICAL)), 20.0), 1)}

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Blur x (1, 1, H, W); beyond its frame the scene continues as its mirror image."""
        return self._frame(self._blurred(self._widened(x)), x)

    def begin(self, y: Tensor) -> Tensor:
        """y, continued as its mirror image to a frame that is wide enough and fast to transform."""
        return self._widened(y)

    def prox(self, x0: Tensor, y: Tensor, strength: float) -> Tensor:
        """The picture near x0, on the wide frame, that explains y where it is not clipped."""
        return self._nearest(x0, y, self._seen(y, x0), strength)

    def _seen(self, y: Tensor, wide: Tensor) -> Tensor:
        """1 where y tells something, on the wide frame: 0 beyond y's frame and in areas that are clipped."""
        seen = torch.zeros_like(wide)
        self._frame(seen, y).copy_(~clipped_areas(y))
        return seen

    def _nearest(self, x0: Tensor, y: Tensor, seen: Tensor, strength: float) -> Tensor:
        """x0 plus the correction d of (K* seen K + a) d = K* seen (y - k * x0), all by Fourier coefficients."""
        size, spectrum = x0.shape[-2:], self._spectrum(x0)
        adjoint = spectrum.conj().resolve_conj()
        preconditioner = 1 / (spectrum.real.square() + spectrum.imag.square() + strength)
        missing = torch.fft.irfft2(torch.fft.rfft2(x0).mul_(spectrum), s=size)
        self._frame(missing, y).sub_(y)
        residual = torch.fft.rfft2(missing.mul_(seen)).mul_(adjoint).neg_()
        direction = residual * preconditioner
        scaled, correction = torch.empty_like(direction), torch.zeros_like(direction)
        energy = start = _dot(residual, direction, size)
        for _ in range(ROUNDS):
            if energy <= ENOUGH * start or energy <= 0:
                break
            blurred = torch.fft.irfft2(torch.mul(direction, spectrum, out=scaled), s=size, out=missing).mul_(seen)
            image = torch.fft.rfft2(blurred, out=scaled).mul_(adjoint).add_(direction, alpha=strength)
            step = energy / _dot(direction, image, size)
            correction.add_(direction, alpha=step)
            residual.sub_(image, alpha=step)
            torch.mul(residual, preconditioner, out=scaled)
            before, energy = energy, _dot(residual, scaled, size)
            direction.mul_(energy / before).add_(scaled)
        return x0 + torch.fft.irfft2(correction, s=size)

    def finish(self, x0: Tensor, y: Tensor) -> Tensor:
        """The part of the wide frame that y shows."""
        return self._frame(x0, y)

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """Clean strong noise; then deviations fall to the noise's own level, each after a proximal step."""
        data, steps = y, self.options.steps
        if noise > STRONG and steps > 1:
            data = yield y, noise
            noise, steps = LEFT, steps - 1
        first = self.begin(data)
        seen = self._seen(y, first)
        x0 = yield from split(
            first,
            lambda x0, strength: self._nearest(x0, data, seen, strength),
            noise=noise,
            highest=RANGE * noise,
            steps=steps,
            weight=self.weight,
        )
        return self.finish(x0, y)

    def describe(self) -> str:
        """Kind and size of the blur."""
        o = self.options
        match o.kernel:
            case "gaussian":
                return f"blur of {o.sigma:g} pixels"
            case "motion":
                return f"motion blur of {o.length:g} pixels"
            case "disc":
                return f"blur of a disc of {o.radius:g} pixels"
            case _:
                return f"blur by {Path(o.file).name}"

    def _widened(self, x: Tensor) -> Tensor:
        for axis in (-2, -1):
            reach, length = self.kernel.shape[axis] // 2, x.shape[axis]
            place = torch.arange(-reach, next_fast_len(length + 2 * reach, real=True) - reach, device=x.device)
            place %= 2 * length
            x = x.index_select(axis, torch.minimum(place, 2 * length - 1 - place))
        return x

    def _frame(self, wide: Tensor, y: Tensor) -> Tensor:
        """A view of what y shows of the wide frame."""
        top, left = (n // 2 for n in self.kernel.shape)
        return wide[..., top : top + y.shape[-2], left : left + y.shape[-1]]

    def _blurred(self, wide: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(wide).mul_(self._spectrum(wide)), s=wide.shape[-2:])

    def _spectrum(self, wide: Tensor) -> Tensor:
        """Transform of the kernel on such a frame; that of the last size is kept."""
        height, width = wide.shape[-2:]
        if (height, width) not in self._spectra:
            kernel = torch.zeros(height, width)
            kernel[: self.kernel.shape[0], : self.kernel.shape[1]] = self.kernel
            centred = kernel.roll([-(n // 2) for n in self.kernel.shape], (0, 1))
            self._spectra = {(height, width): torch.fft.rfft2(centred)}
        return self._spectra[height, width].to(wide.device)


def clipped_areas(y: Tensor) -> Tensor:
    """Up to 2 pixels beside squares of 3x3 white or 5x5 black pixels, (1, 1, H, W): noise clips single ones.

    Beside an area at white y shows the light of more than white, which the flow does not know: explained by what it
    knows, edges would ring.
    """
    areas = torch.zeros_like(y)
    for end, side in ((y >= 1 - CLIPPED, 3), (y <= CLIPPED, 5)):
        if end.any():
            whole = F.max_pool2d((~end).float(), side, 1, side // 2) == 0
            areas = torch.maximum(areas, F.max_pool2d(whole.float(), side + 4, 1, side // 2 + 2))
    return areas > 0


def _dot(a: Tensor, b: Tensor, size: torch.Size) -> float:
    """Inner product of two real images of that size, times its pixels, by the halves of their transforms."""
    total = 2 * torch.vdot(a.flatten(), b.flatten()).real
    for column in (0, -1) if size[-1] % 2 == 0 else (0,):
        total -= torch.vdot(a[..., column].flatten(), b[..., column].flatten()).real
    return float(total)


def _kernel(options: BlurOptions) -> Tensor:
    match options.kernel:
        case "gaussian":
            return _gaussian(options.sigma)
        case "motion":
            return _line(options.length, math.radians(options.angle))
        case "disc":
            return _disc(options.radius)
        case "file":
            return _read(options.file)


def _gaussian(sigma: float) -> Tensor:
    radius = math.ceil(4 * sigma)
    taps = torch.exp(-torch.arange(-radius, radius + 1, dtype=torch.float64).square() / (2 * sigma**2))
    return torch.outer(taps, taps)


def _line(length: float, angle: float) -> Tensor:
    """Points along a line through the centre, each shared linearly among the four pixels around it."""
    radius = math.ceil(length / 2)
    place = torch.linspace(-length / 2, length / 2, 2 * FINE * math.ceil(length) + 1, dtype=torch.float64)
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)[:, None]
    rows = (1 - (grid + place * math.sin(angle)).abs()).clamp_min(0)
    columns = (1 - (grid - place * math.cos(angle)).abs()).clamp_min(0)
    return rows @ columns.T


def _disc(radius: float) -> Tensor:
    """Share of each pixel that lies in a disc."""
    reach = math.ceil(radius)
    place = (torch.arange((2 * reach + 1) * FINE, dtype=torch.float64) + 0.5) / FINE - reach - 0.5
    inside = torch.hypot(place[:, None], place) <= radius
    return F.avg_pool2d(inside.double()[None], FINE)[0]


def _read(file: str) -> Tensor:
    """A kernel from an image or an array. OptionError where it is none."""
    if not file:
        raise OptionError("blur: `kernel=file` needs `file`, an image or an array (.npy) of the kernel")
    try:
        if Path(file).suffix.lower() == ".npy":
            values = np.load(file, allow_pickle=False)
        else:
            with Image.open(file) as image:
                values = np.asarray(image if image.mode in ("L", "F", "I", "I;16") else image.convert("L"))
        values = np.asarray(values, dtype=np.float64).squeeze()
    except (OSError, ValueError, TypeError, EOFError, Image.DecompressionBombError) as error:
        raise OptionError(f"blur: {file} cannot be read as a kernel: {' '.join(str(error).split())}") from None
    values = np.atleast_2d(values)
    height, width = values.shape[0], values.shape[-1]
    if values.ndim != 2 or not (height % 2 and width % 2) or max(values.shape) > MOST_SIDE:
        size = "x".join(map(str, values.shape[::-1]))
        raise OptionError(f"blur: the kernel {file} is {size}; expected two odd sides of at most {MOST_SIDE}")
    if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise OptionError(f"blur: the kernel {file} must have finite values, none below 0 and not all 0")
    return torch.from_numpy(values)


def _slopes(image: Tensor) -> Tensor:
    """Squared length of the gradient by central differences, (1, 1, H, W) -> (1, 1, H - 2, W - 2)."""
    across = image[..., 1:-1, 2:] - image[..., 1:-1, :-2]
    down = image[..., 2:, 1:-1] - image[..., :-2, 1:-1]
    return across.square_().add_(down.square_()).mul_(0.25)


def _edge_deviations(y: Tensor) -> Tensor:
    """Deviation of the edges in each block of y that has contrast, pixels."""
    if min(y.shape[-2:]) < BLOCK + 2:
        return y.new_empty(0)
    point = torch.zeros(1, 1, 17, 17, device=y.device)
    point[..., 8, 8] = 1
    noise = estimate_noise(y)[0].level
    inside = ((y - 0.5).abs() < 0.5 - 2 / 255)[..., 1:-1, 1:-1].float()
    seen = F.avg_pool2d(inside, BLOCK)
    sharp, soft = (
        F.avg_pool2d(_slopes(image) * inside, BLOCK) - seen * noise**2 * _slopes(answer).sum()
        for image, answer in ((y, point), (gaussian_blur(y, 1.0), gaussian_blur(point, 1.0)))
    )
    used = (sharp > max(CONTRAST, noise / math.sqrt(2)) ** 2) & (soft > 0)
    ratio = (sharp[used] / soft[used]).square()
    return (1 / (ratio - 1).clamp_min(1e-3) - 1 / 3).clamp_min(0).sqrt()
