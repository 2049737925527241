"""Low resolution: a camera whose pixels are larger than those of the picture that is wanted."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Generator, Tensor

from fusionkit.contracts import Splitting, SplittingOptions
from fusionkit.errors import OptionError
from fusionkit.options import When

LEAST_RATIO, MOST_RATIO = 1.2, 8.0  # of the sides, between which `estimate` answers
TAIL = 4.0  # deviations of the optics' blur that count


class LowResolutionOptions(SplittingOptions):
    """Options of the degradation `low_resolution`."""

    height: int = Field(0, ge=0, le=100_000, description="rows of the picture that is wanted; 0: by `factor`")
    width: int = Field(0, ge=0, le=100_000, description="columns of the picture that is wanted; 0: by `factor`")
    factor: Annotated[float, When("height", 0)] = Field(
        2.0, ge=1, le=8, description="how many times larger the picture that is wanted is, in both directions"
    )
    optics: float = Field(
        0.2, ge=0, le=2, description="deviation of the blur before the camera's pixels, in units of such a pixel"
    )

    @model_validator(mode="after")
    def _whole_size(self) -> Self:
        if bool(self.height) != bool(self.width):
            raise ValueError("height and width belong together: give both or none")
        return self


class LowResolution(Splitting):
    """y = Ay x Axᵀ + noise, undone by splitting; the proximal step has a closed form.

    Each pixel of y is the mean of x over its area, blurred by the optics; both pictures show the same field, edge to
    edge, mirrored beyond it. Any ratio of sizes will do, another one on either axis. With the eigenvectors
    Ay Ayᵀ = Uy diag(λy) Uyᵀ, and those of the columns, the proximal step is exactly

        x = x̂₀ + Ayᵀ Uy [ Uyᵀ (y - Ay x̂₀ Axᵀ) Ux / (λy λxᵀ + a) ] Uxᵀ Ax,

    the matrix inversion lemma for a separable operator (for integer ratios and circular borders: Zhao et al., "Fast
    single image super-resolution using a new analytical solution for l2-l2 problems", IEEE Trans. Image Processing
    2016).
    """

    Options = LowResolutionOptions
    options: LowResolutionOptions
    resizes = True
    manner = frozenset({"steps", "optics"})
    highest = 49 / 255
    weight = 0.12

    def __init__(self, options: LowResolutionOptions) -> None:
        super().__init__(options)
        self._axes: dict[tuple[int, int], _Axis] = {}

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The size that a stage says the picture is wanted in, if both sides are 1.2 to 8 times those of y."""
        size = {name: int(told.get(name, 0)) for name in ("height", "width")}
        ratios = size["height"] / y.shape[-2], size["width"] / y.shape[-1]
        return size if min(ratios) >= LEAST_RATIO and max(ratios) <= MOST_RATIO else None

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Picture of a camera whose pixels are `factor` times larger: (1, 1, H, W) -> (1, 1, H/factor, W/factor)."""
        height, width = (max(1, round(n / self.options.factor)) for n in x.shape[-2:])
        rows, columns = self._axis(height, x.shape[-2]), self._axis(width, x.shape[-1])
        return rows.camera @ x @ columns.camera.T

    def begin(self, y: Tensor) -> Tensor:
        """y enlarged by bicubic interpolation, edge to edge."""
        height, width = self.options.height, self.options.width
        if not height:
            height, width = (round(n * self.options.factor) for n in y.shape[-2:])
        if height < y.shape[-2] or width < y.shape[-1]:
            raise OptionError(
                f"low_resolution: {width}x{height} is less than the picture's {y.shape[-1]}x{y.shape[-2]}"
            )
        return F.interpolate(y, size=(height, width), mode="bicubic")

    def prox(self, x0: Tensor, y: Tensor, strength: float) -> Tensor:
        """The picture near x0 that the camera sees as y, exactly."""
        rows, columns = (self._axis(y.shape[i], x0.shape[i]) for i in (-2, -1))
        missing = rows.vectors.T @ (y - rows.camera @ x0 @ columns.camera.T) @ columns.vectors
        missing /= torch.outer(rows.values, columns.values) + strength
        return x0 + rows.back @ missing @ columns.back.T

    def describe(self) -> str:
        """How many times, or to what size, the picture is enlarged."""
        o = self.options
        return f"enlarged to {o.width}x{o.height}" if o.height else f"enlarged {o.factor:.1f} times"

    def _axis(self, short: int, long: int) -> "_Axis":
        if (short, long) not in self._axes:
            self._axes[short, long] = _Axis(camera_matrix(short, long, self.options.optics))
        return self._axes[short, long]


class _Axis:
    """What the camera does along one axis: camera (h, H), and its eigenvectors (h, h), eigenvalues, back (H, h)."""

    def __init__(self, camera: Tensor) -> None:
        values, vectors = torch.linalg.eigh(camera @ camera.T)
        self.camera, self.vectors = camera.float(), vectors.float()
        self.values, self.back = values.clamp_min(0).float(), (camera.T @ vectors).float()


def camera_matrix(short: int, long: int, optics: float) -> Tensor:
    """Shares (short, long) of the fine pixels in each coarse one, float64; rows sum to 1.

    Both kinds tile the same length. A coarse pixel's sensitivity is its box, blurred by a Gaussian of deviation
    `optics` coarse pixels, integrated exactly over each fine pixel. What lies beyond an end is mirrored.
    """
    ratio = long / short
    reach = math.ceil((0.5 + TAIL * optics) * ratio) + 1
    edges = torch.arange(-reach, long + reach + 1, dtype=torch.float64)
    centres = (torch.arange(short, dtype=torch.float64) + 0.5) * ratio
    place = edges - centres[:, None]
    integral = _ramp(place + ratio / 2, optics * ratio) - _ramp(place - ratio / 2, optics * ratio)
    shares = integral.diff(dim=1)
    inside = torch.arange(-reach, long + reach) % (2 * long)
    inside = torch.minimum(inside, 2 * long - 1 - inside)
    matrix = torch.zeros(short, long, dtype=torch.float64).index_add_(1, inside, shares)
    return matrix / matrix.sum(1, keepdim=True)


def _ramp(x: Tensor, deviation: float) -> Tensor:
    """Second integral of a Gaussian of mean 0; of none: max(x, 0)."""
    if not deviation:
        return x.clamp_min(0)
    z = x / deviation
    return x * torch.special.ndtr(z) + deviation / math.sqrt(2 * math.pi) * torch.exp(-z.square() / 2)
