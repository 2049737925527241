"""Stages that change values: what the field's codes do to grey levels before and after."""

from dataclasses import replace

import torch
from torch import Tensor

from fusionkit.contracts import Sources, Stage
from fusionkit.numerics.luma import luma, rounded_luma

__all__ = ["RoundedLuma", "Stretch", "Truncate"]


class RoundedLuma(Stage):
    """The sources' luma is BT.601 in whole 8-bit levels, as OpenCV reads a grey image."""

    bt601 = True

    def before(self, sources: Sources) -> Sources:
        """The same images with rounded luma."""
        rounded = tuple(rounded_luma(image) for image in sources.images)
        return replace(sources, luma=rounded, to_luma=rounded_luma)


class Stretch(Stage):
    """The result's luma is stretched to the full range, as many codes do: absolute brightness is lost."""

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """(image - low) / (high - low), from the extremes of each image's luma."""
        low, high = (f(luma(image), (1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
        return (image - low) / (high - low).clamp_min(1e-6)


class Truncate(Stage):
    """The result is cut down to whole 8-bit levels, as a cast to bytes does, instead of being rounded."""

    def after(self, image: Tensor, sources: Sources) -> Tensor:
        """floor(255 image) / 255."""
        return (image * 255).floor() / 255
