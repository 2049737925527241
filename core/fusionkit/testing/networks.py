"""Contracts of velocity fields and of autoencoders."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ..contracts import Backbone, Decoder
from ..registry.loading import get_registry
from .plugin import SIZES, PluginContract, assert_alone, random_images, unchanged


class BackboneContract(PluginContract):
    """Contract of a velocity field: see `fusionkit.contracts.Backbone`."""

    kind = "backbone"

    def velocity(self, x: Tensor, t: Sequence[float]) -> Tensor:
        """Evaluate the field at x and t, without gradients."""
        backbone: Backbone = self.make()
        with torch.no_grad():
            return backbone.velocity(x, torch.tensor(t))

    def images(self, batch: int, size: tuple[int, int]) -> Tensor:
        """Make noise with the channels of the backbone."""
        backbone: Backbone = self.make()
        return random_images(batch, backbone.channels or 3, *size)[0]

    @pytest.mark.parametrize("size", SIZES)
    def test_any_size_is_kept(self, size: tuple[int, int]) -> None:
        """The backbone pads to its own multiple; inputs are not changed in place."""
        x = self.images(1, size)
        check_inputs = unchanged(x)
        v = self.velocity(x, [0.5])
        assert v.shape == x.shape
        assert v.dtype == torch.float32
        assert bool(v.isfinite().all())
        check_inputs()

    @pytest.mark.parametrize("t", [1.0, 0.999, 0.1, 1e-3])
    def test_it_is_finite_at_every_time(self, t: float) -> None:
        """From pure noise to nearly data."""
        assert bool(self.velocity(self.images(1, (16, 16)), [t]).isfinite().all())

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        x, times = self.images(3, (16, 24)), [0.9, 0.5, 0.1]
        assert_alone(self.velocity(x, times), lambda one: self.velocity(x[one], times[one]), self.tolerance, 1e-4)

    def test_the_same_call_gives_the_same_result(self) -> None:
        """No hidden randomness: dropout is off."""
        x = self.images(1, (16, 16))
        assert torch.equal(self.velocity(x, [0.5]), self.velocity(x, [0.5]))

    def test_its_domain_exists(self) -> None:
        """The decoder that it was trained with is installed, too."""
        backbone: Backbone = self.make()
        assert backbone.domain in ("latent", "pixel", "any")
        get_registry().find("decoder", backbone.decoder)


class DecoderContract(PluginContract):
    """Contract of an autoencoder: see `fusionkit.contracts.Decoder`."""

    kind = "decoder"

    def round_trip(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent, and the image decoded from it."""
        decoder: Decoder = self.make()
        with torch.no_grad():
            z = decoder.encode(image)
            return z, decoder.decode(z, (image.shape[-2], image.shape[-1]))

    @pytest.mark.parametrize("size", [(32, 48), (31, 37), (9, 20), (1, 1)])
    def test_any_size_comes_back(self, size: tuple[int, int]) -> None:
        """Latents have the stated factor; decoding gives the stated size, twice the same."""
        image = random_images(1, 3, *size)[0]
        check_inputs = unchanged(image)
        decoder: Decoder = self.make()
        z, again = self.round_trip(image)
        check_inputs()
        assert z.dtype == again.dtype == torch.float32
        assert torch.equal(again, self.round_trip(image)[1]), "the same call gave another result"
        assert z.shape[-2:] == tuple(-(-side // decoder.factor) for side in size)
        assert again.shape == image.shape
        assert bool(again.isfinite().all())

    def test_latents_have_the_stated_channels(self) -> None:
        """Backbones of the domain `latent` are built for them."""
        decoder: Decoder = self.make()
        if decoder.channels is None:
            pytest.skip("`channels` is None: latents have those of the image")
        assert self.round_trip(random_images(1, 3, 24, 32)[0])[0].shape[1] == decoder.channels

    def test_lossless_is_true(self) -> None:
        if not self.make().lossless:
            pytest.skip("`lossless` is False: it may lose detail")
        image = random_images(1, 3, 24, 32)[0]
        torch.testing.assert_close(self.round_trip(image)[1], image, atol=1e-6, rtol=0)

    def test_an_image_does_not_depend_on_its_neighbours(self) -> None:
        images = random_images(3, 3, 24, 32)[0]
        assert_alone(self.round_trip(images)[1], lambda one: self.round_trip(images[one])[1], self.tolerance)
