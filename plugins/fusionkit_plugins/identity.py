"""The decoder that does nothing: for pixel-space backbones and for baselines."""

from fusionkit.contracts import Decoder
from torch import Tensor

__all__ = ["IdentityDecoder"]


class IdentityDecoder(Decoder):
    """z = image."""

    def encode(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """The latent itself."""
        return z
