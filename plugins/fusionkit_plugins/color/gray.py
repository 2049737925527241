"""No colour."""

from collections.abc import Sequence

from torch import Tensor

from fusionkit.contracts import ColorSpace, Sources
from fusionkit.numerics.luma import luma


class Gray(ColorSpace):
    """BT.601 luma only: the result is grey whatever the sources are."""

    bt601 = True
    reach = 0
    blends = True

    def split(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Luma (B, 1, H, W), no chroma."""
        return luma(image), None

    def merge(self, luma: Tensor, chromas: Sequence[Tensor | None], sources: Sources) -> Tensor:
        """The luma itself."""
        return luma
