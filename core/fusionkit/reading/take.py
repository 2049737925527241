"""Whatever holds an image -> a tensor, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..images.convert import to_array, to_tensor
from ..images.picture import PEAK, from_unit, own_span, to_unit
from .read import read_image

__all__ = ["Restore", "take"]

Restore = Callable[[Tensor], Any]


def take(image: Any, number: int) -> tuple[Tensor, Restore]:
    """An image as (B, C, H, W) in [0, 1], and the function that turns a result into the same kind."""
    match image:
        case str() | Path():
            picture = read_image(image)
            return to_tensor(picture.pixels), lambda t: _squeeze(from_unit(to_array(t), picture.depth, picture.span))
        case Image.Image():
            mode = image.mode
            if mode not in ("L", "RGB"):
                raise InputError(f"source {number}: PIL image of mode {mode}; convert it to L or RGB, or pass its path")
            return to_tensor(
                np.asarray(image, np.float32)[..., None] / 255 if mode == "L" else np.asarray(image, np.float32) / 255
            ), _pil
        case np.ndarray():
            return _take_array(image, number)
        case Tensor():
            return _take_tensor(image, number)
    raise InputError(
        f"source {number} is a {type(image).__name__}; expected a path, a PIL image, a numpy array or a torch tensor"
    )


def _take_array(image: "np.ndarray[Any, Any]", number: int) -> tuple[Tensor, Restore]:
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))):
        raise InputError(f"source {number}: array of shape {image.shape}; expected (H, W), (H, W, 1) or (H, W, 3)")
    pixels = image if image.ndim == 3 else image[..., None]
    depths: dict[Any, Any] = {np.dtype(np.uint8): "8", np.dtype(np.uint16): "16"}
    depth = depths.get(image.dtype)
    if depth is None and image.dtype.kind != "f":
        raise InputError(f"source {number}: array of {image.dtype}; expected uint8, uint16 or float in [0, 1]")

    span = (0.0, PEAK[depth] if depth else 1.0)
    if depth == "16" and image.size:
        span = own_span(image, span)  # as of files: thermal counts fill little of their type

    def restore(t: Tensor) -> Any:
        result = to_array(t)
        result = from_unit(result, depth, span) if depth else result.astype(image.dtype)
        return result[..., 0] if image.ndim == 2 and result.shape[2] == 1 else result

    return to_tensor(to_unit(pixels, span) if depth else pixels.astype(np.float32)), restore


def _take_tensor(image: Tensor, number: int) -> tuple[Tensor, Restore]:
    if image.ndim not in (3, 4):
        raise InputError(f"source {number}: tensor of shape {tuple(image.shape)}; expected (C, H, W) or (B, C, H, W)")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise InputError(f"source {number}: tensor of {image.dtype}; expected uint8 or float in [0, 1]")
    batched = image if image.ndim == 4 else image[None]
    unit = batched.float() / 255 if image.dtype == torch.uint8 else batched.float()

    def restore(t: Tensor) -> Tensor:
        t = (t * 255 + 0.5).floor() if image.dtype == torch.uint8 else t
        return (t if image.ndim == 4 else t[0]).to(image.device, image.dtype)

    return unit, restore


def _squeeze(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    return array[..., 0] if array.shape[2] == 1 else array


def _pil(t: Tensor) -> Image.Image:
    return Image.fromarray(_squeeze(from_unit(to_array(t), "8", (0.0, 255.0))))
