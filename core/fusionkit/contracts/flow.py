"""What the flow model and its autoencoder answer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from .base import Plugin


class Backbone(Plugin, ABC):
    """The flow model: a velocity field over images or latents.

    domain: "latent" (works on what a decoder's `encode` gives), "pixel", or "any". channels: of x_t, None for any.
    multiple: x_t's height and width are padded to a multiple of it by the backbone itself. decoder, decoder_options:
    the decoder this backbone was trained with, used when the user names none. restores: the largest t at which one
    evaluation cleans an image of its own noise, 0 for a field that was not made for it; it then takes images of one
    channel, in the range of a decoder of factor 1. overlap: how many samples of
    x_t around a tile influence it; tiles share at least as many.
    """

    domain: Literal["latent", "pixel", "any"]
    channels: Annotated[int | None, Field(ge=1)]
    multiple: Annotated[int, Field(ge=1)] = 1
    decoder: str = "identity"
    decoder_options: Mapping[str, Any] = MappingProxyType({})
    restores: Annotated[float, Field(ge=0, lt=1)] = 0.0
    overlap: Annotated[int, Field(ge=0)] = 0

    @abstractmethod
    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        """v = dx/dt at x_t (B, C, H, W) and t (B,) in [0, 1]; same shape as x_t."""


class Decoder(Plugin, ABC):
    """The autoencoder between images and the backbone's domain.

    lossless: decode(encode(image)) is the image. factor: image size over latent size. overlap: how many image pixels
    around a tile influence it; tiles share as many. channels: of the latent, None when it has the image's.
    """

    lossless: bool = False
    factor: Annotated[int, Field(ge=1)] = 1
    overlap: Annotated[int, Field(ge=0)] = 0
    channels: Annotated[int | None, Field(ge=1)] = None

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Image (B, 3, H, W) in [0, 1] -> latent of zero mean and unit variance over natural images."""

    @abstractmethod
    def decode(self, z: Tensor, size: tuple[int, int]) -> Tensor:
        """Latent -> image (B, 3, *size), about [0, 1], not clamped."""
