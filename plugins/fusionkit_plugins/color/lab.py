"""CIELAB: luma that follows perceived lightness."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.contracts import ColorSpace, Sources

from .chroma import REACH, ChromaOptions, mix_chroma, with_room

# linear sRGB -> XYZ (IEC 61966-2-1), rows divided by the D65 white that the matrix itself gives to (1, 1, 1)
_RGB_TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)
RGB_TO_XYZ = (_RGB_TO_XYZ / _RGB_TO_XYZ.sum(1, keepdim=True)).float()
XYZ_TO_RGB = torch.linalg.inv(_RGB_TO_XYZ / _RGB_TO_XYZ.sum(1, keepdim=True)).float()
DELTA = 6 / 29


class Lab(ColorSpace):
    """CIE 1976 L*a*b* of sRGB under D65: luma = L* / 100 in [0, 1], chroma = (a*, b*) / 100.

    Lightness is fused as it is perceived. The inverse is exact; what leaves the sRGB gamut is clipped only when the
    image is written.
    """

    Options = ChromaOptions
    reach = REACH
    options: ChromaOptions

    def __init__(self, options: ChromaOptions) -> None:
        super().__init__(options)
        self.blends = not options.chroma_from

    def split(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Lightness and chroma; a grey image has lightness only."""
        linear = _linear(image)
        if image.shape[1] == 1:
            return 1.16 * _f(linear) - 0.16, None
        x, y, z = (_f(c) for c in _transform(RGB_TO_XYZ, linear).chunk(3, dim=1))
        return 1.16 * y - 0.16, torch.cat([5 * (x - y), 2 * (y - z)], dim=1)

    def merge(self, luma: Tensor, chromas: Sequence[Tensor | None], sources: Sources) -> Tensor:
        """sRGB from the fused lightness and the sources' chroma."""
        chroma = mix_chroma(chromas, self.options.chroma_from, luma, sources)
        y = (luma + 0.16) / 1.16
        if chroma is None:
            return _gamma(_f_inverse(y))
        a, b = chroma.chunk(2, dim=1)
        xyz = torch.cat([_f_inverse(y + a / 5), _f_inverse(y), _f_inverse(y - b / 2)], dim=1)
        return with_room(_gamma(_transform(XYZ_TO_RGB, xyz)), sources)


def _transform(matrix: Tensor, image: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", matrix.to(image), image)


def _linear(x: Tensor) -> Tensor:
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _gamma(x: Tensor) -> Tensor:
    return torch.where(x <= 0.04045 / 12.92, x * 12.92, 1.055 * x.clamp_min(1e-9) ** (1 / 2.4) - 0.055)


def _f(t: Tensor) -> Tensor:
    return torch.where(t > DELTA**3, t.clamp_min(1e-9) ** (1 / 3), t / (3 * DELTA**2) + 4 / 29)


def _f_inverse(f: Tensor) -> Tensor:
    return torch.where(f > DELTA, f**3, 3 * DELTA**2 * (f - 4 / 29))
