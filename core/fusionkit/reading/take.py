"""Turning the images that users give into pictures, or into tensors, which may be batches."""

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import Caution
from ..images.accept import HeldImage, as_picture, check_tensor
from ..images.picture import Picture, own_span, range_note
from .read import read_image

Source: TypeAlias = str | Path | HeldImage


def as_source(image: Source, number: int) -> Picture | Tensor:
    """Turn a tensor into float32 (B, C, H, W) in [0, 1], and anything else into a picture.

    number: of the source in messages, from 1. 16-bit arrays that fill little of their type get their own range, as
    files do. Raises InputError.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Tensor):
        return _batch(image.detach().as_subclass(Tensor), f"source {number}")
    picture = as_picture(image, f"source {number}", "a path, ")
    if picture.depth == "16" and not isinstance(image, Picture) and not hasattr(image, "picture"):
        span = own_span(picture.values, picture.span)
        guessed = () if span == picture.span else (Caution(range_note(span)),)
        picture = replace(picture, span=span, measured=True, notes=(*picture.notes, *guessed))
    return picture


def _batch(image: Tensor, name: str) -> Tensor:
    batch = image if image.ndim == 4 else image[None] if image.ndim == 3 else image[None, None]
    check_tensor(batch[0] if len(batch) else batch, image, name)
    return batch.float() / 255 if image.dtype == torch.uint8 else batch.float()
