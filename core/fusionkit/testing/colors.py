"""Contract of colour spaces."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from ..contracts import ColorSpace, Sources
from .plugin import PluginContract, random_images


class ColorSpaceContract(PluginContract):
    """Contract of a colour space: see `fusionkit.contracts.ColorSpace`. exact: `merge` inverts `split`."""

    kind = "color-space"
    exact: ClassVar[bool] = True

    def sources(self, *images: Tensor) -> Sources:
        """Make sources with the luma of this space, as a pipeline does."""
        space: ColorSpace = self.make()
        return Sources(images, tuple(space.split(image)[0] for image in images))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_luma_is_in_range_and_of_one_channel(self, channels: int) -> None:
        luma, _ = self.make().split(random_images(2, channels, 9, 11)[0])
        assert luma.shape == (2, 1, 9, 11)
        assert -1e-4 <= float(luma.min()) <= float(luma.max()) <= 1 + 1e-4

    def test_merge_inverts_split(self) -> None:
        if not self.exact:
            pytest.skip("`exact` is False: it drops colour")
        space: ColorSpace = self.make()
        image = random_images(2, 3, 9, 11)[0]
        luma, chroma = space.split(image)
        torch.testing.assert_close(space.merge(luma, [chroma], self.sources(image)), image, atol=1e-4, rtol=0)

    def test_grey_stays_grey(self) -> None:
        """Without chroma the result has one channel, and grey in three channels stays neutral."""
        space: ColorSpace = self.make()
        grey = random_images(1, 1, 9, 11)[0]
        luma, chroma = space.split(grey)
        assert chroma is None
        merged = space.merge(luma, [None, None], self.sources(grey, grey))
        torch.testing.assert_close(merged, grey, atol=1e-4, rtol=0)
        neutral = grey.expand(-1, 3, -1, -1)
        luma, chroma = space.split(neutral)
        merged = space.merge(luma, [chroma], self.sources(neutral))
        torch.testing.assert_close(merged, grey.expand_as(merged), atol=1e-4, rtol=0)
