"""Degraded sources: what cameras do to pictures, by the `forward` of the degradations themselves."""

from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from typing import cast

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Generator, Tensor

from ..contracts import Degradation, Options
from ..errors import FusionkitError, OptionError
from ..images.convert import to_array, to_tensor
from ..images.picture import Array, Picture
from ..options import explain
from ..registry.loading import get_registry
from ..scenes import SCENES
from .choice import Restoring

NONE, SHIFT = "none", "shift"


class _ShiftOptions(Options):
    pixels: float = Field(0.0, ge=-100, le=100, description="movement to the right")


def _shifted(x: Tensor, _generator: Generator, pixels: float) -> Tensor:
    """x (1, C, H, W) moved to the right, by linear interpolation, as by a bad registration; its border is repeated."""
    from scipy.ndimage import shift

    return torch.from_numpy(np.asarray(shift(x.numpy(), (0, 0, 0, pixels), order=1, mode="nearest")))


def _channel_by_channel(x: Tensor, generator: Generator, degradation: Degradation) -> Tensor:
    """x (1, C, H, W), each channel as a plane of its own."""
    return torch.cat([degradation.forward(plane, generator) for plane in x.split(1, dim=1)], 1)  # type: ignore[no-untyped-call]


def parse_degradation(text: str) -> list[Restoring]:
    """Parse degradations, in the order in which they are made: none, noise:level=10, 2=blur:sigma=2 + noise:level=5.

    They are written as `restore` takes them. shift:pixels=X moves a source, as a bad registration does. Raises
    OptionError.
    """
    steps: list[Restoring] = []
    for part in [] if text == NONE else text.split(" + "):
        try:
            steps.append(Restoring.model_validate(part.strip()))
            _made(str(steps[-1]))
        except (FusionkitError, ValidationError) as error:
            why = explain(error, Restoring) if isinstance(error, ValidationError) else error
            raise OptionError(f"degradation {part!r}: {why}") from None
    return steps


def known(text: str) -> list[str]:
    """What `restore` undoes such degradations by, their options known: those words without the shifts."""
    steps = [str(step) for step in parse_degradation(text) if step.degradation.name != SHIFT]
    return steps or [NONE]


def degrade(image: Array, text: str, source: int, key: str) -> Array:
    """Degrade source number `source` (from 0) of pair `key`, (H, W, 1 or 3) float in [0, 1]; the same each time."""
    for number, step in enumerate(parse_degradation(text)):
        if step.source not in (0, source + 1):
            continue
        seed = sha256(f"{key}/{source}/{number}/{step.degradation}".encode()).digest()[:8]
        generator = Generator().manual_seed(int.from_bytes(seed) >> 1)
        image = to_array(_made(str(step))(to_tensor(image), generator).clamp(0, 1))
    return image


def made_pictures(name: str, size: tuple[int, int] | None = None, seed: int = 0) -> list[Picture]:
    """A pair of `fusionkit.scenes.SCENES` as cameras take it: the scene, and what `degraded` says of it.

    size: height and width of the scene, by default its own. A camera of low resolution gives a smaller picture.
    """
    scene = SCENES[name]
    text = " + ".join(scene.degraded) or NONE
    images = scene.make(seed=seed) if size is None else scene.make(size, seed)
    return [
        Picture(degrade(image.astype("float32"), text, i, f"{name}-{seed}"), "8", (0.0, 255.0), name=role)
        for i, (role, image) in enumerate(zip(scene.roles, images, strict=True))
    ]


@lru_cache(maxsize=64)
def _made(words: str) -> Callable[[Tensor, Generator], Tensor]:
    """What words say, done to an image (1, C, H, W)."""
    choice = Restoring.model_validate(words).degradation
    if choice.name == SHIFT:
        return partial(_shifted, pixels=_ShiftOptions.model_validate(choice.options).pixels)
    degradation = cast(Degradation, get_registry().create("degradation", choice.name, choice.options))
    return degradation.forward if degradation.color else partial(_channel_by_channel, degradation=degradation)
