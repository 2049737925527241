"""Images that a method is given, as sources: checked, on its device."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..contracts import ColorSpace, Sources
from ..errors import InputError, SizeMismatch
from ..images.accept import beyond_unit
from ..images.convert import StoredImages, to_array, to_tensor
from ..images.validity import mirrored
from ..numerics.luma import luma as bt601


def sources_of(
    images: Sequence[Tensor],
    names: Sequence[str],
    valid: Sequence[Tensor | None],
    color: ColorSpace,
    device: torch.device,
) -> Sources:
    """Sources of images, checked, on a device. Other arguments as in `Pipeline.run`."""
    if not len(images):
        raise InputError("fusing needs images; got none")
    known = list(valid) or [None] * len(images)
    checked = images
    if not isinstance(images, StoredImages):  # whose values are in range by what they are
        checked = []
        for i, image in enumerate(images):
            taken, gaps = _checked(image.to(device), i)
            if gaps and known[i] is None:
                taken, known[i] = _without_nan(taken)
            checked.append(taken)
        if len({len(image) for image in checked}) > 1:
            raise SizeMismatch(f"sources differ in shape: {', '.join(str(tuple(i.shape)) for i in checked)}")
    if names and len(names) != len(checked):
        raise InputError(f"{len(names)} names for {len(checked)} sources")
    to_luma = bt601 if color.bt601 else lambda image: color.split(image)[0]
    sources = Sources.of(checked, to_luma, names=tuple(names))
    return replace(sources, valid=tuple(None if v is None else v.to(device) for v in known))


def _checked(image: Tensor, index: int) -> tuple[Tensor, bool]:
    """The source as float32, and whether it has NaN, which say that there are no data."""
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise InputError(f"source {index + 1} has shape {tuple(image.shape)}, expected (B, 1 or 3, H, W)")
    if image.numel() == 0:
        raise InputError(f"source {index + 1} is empty: shape {tuple(image.shape)}")
    low, high = float(image.amin()), float(image.amax())
    if gaps := math.isnan(low):
        low, high = (float(image.nan_to_num(v).aminmax()[i]) for i, v in enumerate((1.0, 0.0)))
    if not (low >= 0 and high <= 1):
        raise InputError(f"source {index + 1} has values {beyond_unit(low, high)}")
    return image.float(), gaps


def _without_nan(image: Tensor) -> tuple[Tensor, Tensor]:
    """The images (B, C, H, W) with values where they are NaN, and where they are not."""
    nan = image.isnan().any(1, keepdim=True)
    rows = [mirrored(~n[0].cpu().numpy(), to_array(x[None]))[0] for x, n in zip(image, nan, strict=True)]
    return torch.cat([to_tensor(row) for row in rows]).to(image), ~nan
