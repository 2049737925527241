"""No colour."""

from collections.abc import Sequence

from torch import Tensor

from fusionkit.contracts import ColorSpace, Sources

from .ycbcr import BLUE, GREEN, RED

__all__ = ["Gray"]


class Gray(ColorSpace):
    """BT.601 luma only: the result is grey whatever the sources are."""

    def split(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Luma (B, 1, H, W), no chroma."""
        if image.shape[1] == 1:
            return image, None
        r, g, b = image.chunk(3, dim=1)
        return RED * r + GREEN * g + BLUE * b, None

    def merge(self, luma: Tensor, chromas: Sequence[Tensor | None], sources: Sources) -> Tensor:
        """The luma itself."""
        return luma
