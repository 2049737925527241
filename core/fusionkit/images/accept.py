"""Turning arrays, tensors and PIL images into pictures."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np

from ..errors import InputError
from .picture import PEAK, Array, Depth, Picture
from .validity import mirrored, where_valid

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

HeldImage: TypeAlias = Union[Picture, Array, "Tensor", "Image"]


def as_picture(image: HeldImage, name: str, expected: str = "") -> Picture:
    """Turn an array (H, W), (H, W, 1 or 3), a tensor (H, W), (C, H, W), (1, C, H, W), or a PIL image into a picture.

    Values: uint8, uint16, or float in [0, 1], NaN where there are no data; NumPy arrays may have alpha as a fourth
    channel. name: of the image in
    messages. expected: other kinds that the caller takes, for messages. Raises InputError.
    """
    if isinstance(image, Picture):
        return image
    known = getattr(image, "picture", None)  # a result of `fuse` has depth and metadata
    if isinstance(known, Picture):
        return replace(known, notes=tuple(map(str, known.notes)))  # whoever has the result was warned already
    if isinstance(image, np.ndarray):
        return _of_array(image, name)
    if "torch" in sys.modules:
        from torch import Tensor

        if isinstance(image, Tensor):
            return _of_tensor(image, name)
    from PIL.Image import Image

    if isinstance(image, Image):
        return _of_pil(image, name)
    hint = "; give its images one by one" if isinstance(image, list | tuple) else ""
    raise InputError(
        f"{name} is a {type(image).__name__}; expected {expected}a PIL image, a numpy array, a torch tensor or a "
        f"Picture{hint}"
    )


def _of_array(values: Array, name: str) -> Picture:
    shape = values.shape
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        first = values.ndim == 3 and shape[0] in (1, 3)
        hint = "; give the images of a stack one by one, as in fuse(*stack)" if values.ndim in (3, 4) else ""
        hint = "; channels come last: np.moveaxis(image, 0, -1)" if first else hint
        raise InputError(f"{name}: array of shape {shape}; expected (H, W), (H, W, 1) or (H, W, 3){hint}")
    if not values.size:
        raise InputError(f"{name} is empty: array of shape {shape}")
    depth = _depth(values, name)
    alpha = None if values.shape[2] < 4 else (values[..., 3] / PEAK[depth]).astype(np.float32)
    values = values[..., :3]
    valid = where_valid(values, None, alpha)
    if valid is not None:
        values = mirrored(valid, values)[0]
    if depth == "float":
        values = values.astype(np.float32).clip(0, 1)
    return Picture(values, depth, (0.0, PEAK[depth]), alpha, name=name, valid=valid)


def _depth(values: Array, name: str) -> Depth:
    """Depth of an array by its type; values out of its range are refused."""
    if values.dtype == np.uint8:
        return "8"
    if values.dtype == np.uint16:
        return "16"
    if values.dtype.kind != "f":
        hint = "; image.astype(np.uint8) where they are 0 to 255" if values.dtype.kind in "iu" else ""
        raise InputError(f"{name}: array of {values.dtype}; expected uint8, uint16 or float in [0, 1]{hint}")
    finite = values[~np.isnan(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(f"{name} has values {beyond_unit(low, high)}")
    return "float"


def beyond_unit(low: float, high: float) -> str:
    """The end of a message on values that are not in [0, 1], with what brings them there."""
    hint = f"; divide by {255 if high <= 255 else 65535}" if 1 < high <= 65535 and low >= 0 else ""
    return f"from {low:g} to {high:g}, expected [0, 1]{hint}"


def _of_tensor(image: "Tensor", name: str) -> Picture:
    if image.ndim == 4 and len(image) != 1:
        raise InputError(f"{name} is a batch of {len(image)} images; give one of them, such as image[0]")
    single = image[0] if image.ndim == 4 else image[None] if image.ndim == 2 else image
    check_tensor(single, image, name)
    single = single.detach().cpu()
    return _of_array((single.float() if image.is_floating_point() else single).permute(1, 2, 0).numpy(), name)


def check_tensor(single: "Tensor", image: "Tensor", name: str) -> None:
    """Refuse a tensor (`image`) whose single images are not (1 or 3, H, W), or neither uint8 nor float."""
    if not image.is_floating_point() and str(image.dtype) != "torch.uint8":
        raise InputError(f"{name}: tensor of {image.dtype}; expected uint8 or float in [0, 1]")
    if single.ndim != 3 or single.shape[0] not in (1, 3):
        last = single.ndim == 3 and single.shape[-1] in (1, 3)
        hint = "; channels come first: image.permute(2, 0, 1)" if last else ""
        raise InputError(
            f"{name}: tensor of shape {tuple(image.shape)}; expected (H, W), (C, H, W) or (B, C, H, W), with 1 or 3 "
            f"channels{hint}"
        )


def _of_pil(image: "Image", name: str) -> Picture:
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16"):
        raise InputError(f'{name}: PIL image of mode {image.mode}; give image.convert("RGB"), or its path')
    values, alpha = np.asarray(image), None
    if image.mode == "LA":
        values, alpha = values[..., 0], values[..., 1] / np.float32(255)
    picture = _of_array(values, name)
    return replace(picture, alpha=picture.alpha if alpha is None else alpha, icc=image.info.get("icc_profile"))
