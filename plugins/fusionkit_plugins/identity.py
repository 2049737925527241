"""The decoder without an autoencoder: for pixel-space backbones and for baselines."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Decoder, Options


class IdentityOptions(Options):
    """Options of the decoder `identity`."""

    signal: Literal["unit", "signed"] = Field(
        "unit", description="range of the backbone's images: [0, 1], or [-1, 1], as published pixel-space flows have it"
    )


class IdentityDecoder(Decoder):
    """z = image, or z = 2 image - 1."""

    Options = IdentityOptions
    lossless = True
    options: IdentityOptions

    def encode(self, image: Tensor) -> Tensor:
        """The image in the backbone's range."""
        return 2 * image - 1 if self.options.signal == "signed" else image

    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """The latent as an image in [0, 1]."""
        return (z + 1) / 2 if self.options.signal == "signed" else z
