"""What metrics share: grey levels, histograms, correlation. Everything in float64."""

import math

import torch
from torch import Tensor

__all__ = ["correlation", "entropy", "gradient_energy", "levels"]


def levels(image: Tensor) -> Tensor:
    """[0, 1] -> grey levels 0 to 255, rounded, as the written 8-bit file holds them; float64."""
    return (image.double() * 255).round().clamp(0, 255)


def entropy(*images: Tensor) -> Tensor:
    """Joint entropy in bits of images (B, 1, H, W) of grey levels: (B,)."""
    index = sum(x.flatten(1).long() * 256**i for i, x in enumerate(images))
    assert isinstance(index, Tensor)
    counts = torch.stack([torch.bincount(row, minlength=256 ** len(images)) for row in index]).double()
    p = counts / index.shape[1]
    return -torch.special.xlogy(p, p).sum(1) / math.log(2)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's r over pixels, (B,); nan where either is constant."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def gradient_energy(x: Tensor) -> Tensor:
    """Mean squared difference along rows plus that along columns, (B,)."""
    rows, columns = (x.diff(dim=d).square().flatten(1).mean(1) for d in (-1, -2))
    return rows + columns
