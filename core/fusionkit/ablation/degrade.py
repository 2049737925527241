"""Degradations of sources, to test how well a method bears them."""

import io
from collections.abc import Callable
from hashlib import sha256

import numpy as np

from ..errors import OptionError
from ..images.picture import Array

__all__ = ["DEGRADATIONS", "degrade", "parse_degradation"]


def _noise(image: Array, amount: float, rng: np.random.Generator) -> Array:
    """Add white Gaussian noise of standard deviation `amount`, on images in [0, 1]."""
    return image + amount * rng.standard_normal(image.shape).astype(np.float32)


def _blur(image: Array, amount: float, _rng: np.random.Generator) -> Array:
    """Blur by a Gaussian of deviation `amount` pixels."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, (amount, amount, 0), mode="nearest"))


def _motion(image: Array, amount: float, _rng: np.random.Generator) -> Array:
    """Smear over `amount` pixels along rows, as by a camera that pans."""
    from scipy.ndimage import convolve1d

    reach = int(amount / 2 + 0.5)
    weights = (amount / 2 + 0.5 - np.abs(np.arange(-reach, reach + 1))).clip(0, 1) / amount
    return np.asarray(convolve1d(image, weights, axis=1, mode="nearest"))


def _shift(image: Array, amount: float, _rng: np.random.Generator) -> Array:
    """Move the first source by `amount` pixels to the right, as by a bad registration."""
    from scipy.ndimage import shift

    return np.asarray(shift(image, (0, amount, 0), order=1, mode="nearest"))


def _darken(image: Array, amount: float, _rng: np.random.Generator) -> Array:
    """Multiply by `amount`."""
    return image * np.float32(amount)


def _jpeg(image: Array, amount: float, _rng: np.random.Generator) -> Array:
    """Compress by JPEG of quality `amount`, 1 to 95."""
    from PIL import Image

    levels = np.round(image * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(stream, "JPEG", quality=round(amount))
    decoded = np.asarray(Image.open(stream), dtype=np.float32) / 255
    return decoded.reshape(image.shape)


# function, whether it changes the first source alone, range of amounts
DEGRADATIONS: dict[str, tuple[Callable[[Array, float, np.random.Generator], Array], bool, tuple[float, float]]] = {
    "noise": (_noise, False, (0.0, 1.0)),
    "blur": (_blur, False, (0.0, 50.0)),
    "motion": (_motion, False, (1.0, 200.0)),
    "shift": (_shift, True, (-100.0, 100.0)),
    "darken": (_darken, False, (0.0, 1.0)),
    "jpeg": (_jpeg, False, (1.0, 95.0)),
}


def parse_degradation(text: str) -> list[tuple[str, float]]:
    """Parse degradations, in their order: none, noise=0.05, blur=2+noise=0.02."""
    steps: list[tuple[str, float]] = []
    for part in [] if text == "none" else text.split("+"):
        name, _, amount = part.partition("=")
        if name not in DEGRADATIONS:
            known = ", ".join(f"{known}=X" for known in DEGRADATIONS)
            raise OptionError(f"degradation {part!r}: unknown; known: none, {known}")
        low, high = DEGRADATIONS[name][2]
        try:
            value = float(amount)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise OptionError(f"degradation {part!r}: expected {name}=X with X from {low:g} to {high:g}")
        steps.append((name, value))
    return steps


def degrade(image: Array, text: str, source: int, key: str) -> Array:
    """Degrade source number `source` (from 0) of pair `key`, (H, W, 1 or 3) float in [0, 1]; the same each time."""
    for number, (name, amount) in enumerate(parse_degradation(text)):
        change, first_alone, _ = DEGRADATIONS[name]
        if first_alone and source > 0:
            continue
        seed = int.from_bytes(sha256(f"{key}/{source}/{number}/{name}".encode()).digest()[:8])
        image = np.clip(change(image, amount, np.random.default_rng(seed)), 0, 1).astype(np.float32)
    return image
