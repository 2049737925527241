"""The decoder that does nothing: for pixel-space backbones and for baselines."""

from torch import Tensor

from fusionkit.contracts import Decoder

__all__ = ["IdentityDecoder"]


class IdentityDecoder(Decoder):
    """z = image."""

    lossless = True

    def encode(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """The latent itself."""
        return z
