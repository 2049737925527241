"""Pictures in one colour space: that of the reference's ICC profile, sRGB where a picture has none."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np

from ..extras import install
from .picture import Array, Picture

SAME = 1  # levels of 8 bits up to which two profiles are taken for one: there are many copies of sRGB
MADE = "built-in"  # how littleCMS names profiles made of primaries and a curve, as readers of PNG make them
STEPS = 9  # colours a channel that profiles are compared at


def in_profile(pictures: Sequence[Picture], reference: int) -> tuple[list[Picture], list[str]]:
    """The pictures with their colours in the space of the reference, which stays as it is; and notes on what was done.

    A profile that does not fit a picture's channels counts for none, and none for sRGB; grey without one is left as it
    is, since it may be no light at all.
    """
    target = _fitting(pictures[reference]) if pictures[reference].channels == 3 else None
    notes: list[str] = []
    return [p if i == reference else _converted(p, target, notes) for i, p in enumerate(pictures)], notes


def _fitting(picture: Picture) -> bytes | None:
    """The profile of a picture, where it is one for its channels."""
    kind = b"GRAY" if picture.channels == 1 else b"RGB "
    return picture.icc if picture.icc is not None and picture.icc[16:20] == kind else None


def _converted(picture: Picture, target: bytes | None, notes: list[str]) -> Picture:
    own = _fitting(picture)
    if own == target or (own is None and picture.channels == 1):
        return picture
    try:
        if _same(own, target):
            return picture
        values = _transformed(picture.values if picture.values.dtype == np.uint8 else picture.pixels, own, target)
        done = f"colours converted from {_name(own)} to {_name(target)}"
    except ImportError:
        spaces = f"colours are of {_name(own)}, the reference's of {_name(target)}"
        values = picture.values
        done = f"{spaces}: beyond 8 bits they were not converted; {install('codecs')}"
    except Exception as error:  # damaged profiles raise anything
        values, done = picture.values, f"its colour profile cannot be used and was left out: {error}"
    notes.append(f"{picture.name}: {done}")
    return replace(picture, values=values, icc=target)


def _profile(icc: bytes | None) -> Any:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(BytesIO(icc) if icc is not None else ImageCms.createProfile("sRGB"))


def _name(icc: bytes | None) -> str:
    """The profile's name for users."""
    from PIL import ImageCms

    name = ImageCms.getProfileDescription(_profile(icc)).strip() if icc is not None else "sRGB"
    return "the space that the file states" if name.endswith(MADE) else name


def _transformed(values: Array, own: bytes | None, target: bytes | None) -> Array:
    """Values (H, W, 1 or 3), uint8 or float32 in [0, 1], in another space, of their type and channels."""
    channels = values.shape[2]
    if values.dtype == np.uint8:
        from PIL import Image, ImageCms

        image = Image.fromarray(values[:, :, 0] if channels == 1 else np.ascontiguousarray(values))
        relative = ImageCms.Intent.RELATIVE_COLORIMETRIC  # white stays white
        made = ImageCms.profileToProfile(image, _profile(own), _profile(target), relative, outputMode="RGB")
        return np.asarray(made)[:, :, :channels]
    from imagecodecs import CMS, cms_transform

    kind = "gray" if channels == 1 else "rgb"
    data = np.ascontiguousarray(values[:, :, 0] if channels == 1 else values)
    pair = (icc if icc is not None else _profile(None).tobytes() for icc in (own, target))
    found: Array = cms_transform(
        data, *pair, colorspace=kind, outcolorspace="rgb", intent=CMS.INTENT.RELATIVE_COLORIMETRIC
    )
    return np.clip(found, 0.0, 1.0)[:, :, :channels]


@lru_cache(maxsize=64)
def _same(own: bytes | None, target: bytes | None) -> bool:
    """Whether two profiles make no visible difference."""
    if own is not None and own[16:20] == b"GRAY":
        grid = np.arange(256, dtype=np.uint8)[None, :, None]
    else:
        steps = np.linspace(0, 255, STEPS).astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return int(np.abs(_transformed(grid, own, target).astype(int) - grid).max()) <= SAME
