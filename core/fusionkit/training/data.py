"""Random crops from folders of images, single ones or registered pairs."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..numerics.luma import luma
from ..reading import read_image, readable_extensions
from ..reading.matching import match_folders
from .options import TrainOptions

Scene = TypeVar("Scene", bound=Hashable)
Made = Callable[[tuple[Tensor, ...]], Tensor]


def centre(x: Tensor, side: int) -> Tensor:
    """Crop images (B, C, H, W) to their centre, at most `side` pixels high and wide."""
    top, left = (max(0, (n - side) // 2) for n in x.shape[-2:])
    return x[..., top : top + side, left : left + side]


def list_images(folders: Sequence[Path]) -> list[Path]:
    """List all image files in `folders`, sorted. Raises InputError where there is none."""
    paths = sorted(p for f in folders for p in f.iterdir() if p.name.lower().endswith(readable_extensions()))
    if not paths:
        raise InputError(f"no images in {', '.join(map(str, folders))}")
    return paths


def hold_out(scenes: Sequence[Scene], count: int) -> tuple[Sequence[Scene], list[Scene]]:
    """Up to `count` scenes, spread over their order, and the others. Raises InputError where none is left."""
    every = max(2, len(scenes) // count)
    held_out = scenes[every // 2 :: every][:count]
    training = [scene for scene in scenes if scene not in set(held_out)]
    if not training:
        raise InputError(f"only {len(scenes)} image(s): too few to hold one out and train on the rest")
    return held_out, training


class _Scenes:
    """Scenes in memory as bytes, each of one or more images of one size; some are held out, spread over the names.

    paths, held_out_paths: the last image of each scene. made: see `PairSampler`.
    """

    def __init__(self, scenes: Sequence[tuple[Path, ...]], options: TrainOptions, made: Made | None = None) -> None:
        held_out, training = hold_out(scenes, options.held_out)
        self.held_out_paths, self.paths = [s[-1] for s in held_out], [s[-1] for s in training]
        self._scenes = [_load(scene, made) for scene in training]
        for path, images in zip(self.paths, self._scenes, strict=True):
            if min(images[0].shape[:2]) < options.crop:
                size = f"{images[0].shape[1]}x{images[0].shape[0]}"
                raise InputError(f"{path}: {size} is smaller than the crops ({options.crop})")
        self._held_out = [tuple(_tensor(image)[None] for image in _load(scene, made)) for scene in held_out]
        area = np.array([images[0].shape[0] * images[0].shape[1] for images in self._scenes], dtype=np.float64)
        self._weights = torch.from_numpy(area / area.sum())

    def crops(self, count: int, crop: int, generator: torch.Generator) -> tuple[list[tuple[Tensor, ...]], list[float]]:
        """Cut `count` crops, the same from all images of a scene, larger scenes more often; and draw a number for each.

        The numbers are uniform in [0, 1].
        """
        chosen = torch.multinomial(self._weights, count, replacement=True, generator=generator).tolist()
        draws = torch.rand(count, 5, generator=generator).tolist()
        crops = []
        for i, (y, x, flip_y, flip_x, _) in zip(chosen, draws, strict=True):
            height, width = self._scenes[i][0].shape[:2]
            top, left = int(y * (height - crop + 1)), int(x * (width - crop + 1))
            down, right = (-1 if flip < 0.5 else 1 for flip in (flip_y, flip_x))
            parts = (image[top : top + crop, left : left + crop] for image in self._scenes[i])
            crops.append(tuple(_tensor(part[::down, ::right])[None] for part in parts))
        return crops, [draw[4] for draw in draws]


class CropSampler(_Scenes):
    """Crops of single images at random positions, flipped and turned to grey at random.

    held_out: full images that no crop comes from, spread evenly over the sorted file names.
    """

    def __init__(self, folders: Sequence[Path], options: TrainOptions) -> None:
        super().__init__([(path,) for path in list_images(folders)], options)
        self.grey = options.grey
        self.held_out = [images[0] for images in self._held_out]

    def batch(self, count: int, crop: int, generator: torch.Generator) -> Tensor:
        """Draw crops (count, 3, crop, crop) in [0, 1], from larger images more often, by area."""
        crops, draws = self.crops(count, crop, generator)
        return torch.cat(
            [luma(t).expand(-1, 3, -1, -1) if d < self.grey else t for (t,), d in zip(crops, draws, strict=True)]
        )


class PairSampler(_Scenes):
    """Crops of registered images of one scene, matched over the folders by name.

    made: computes one more image (1, 1 or 3, H, W) from a scene's images (1, 3, H, W), all in [0, 1]; it is cropped
    with them.
    """

    def __init__(self, folders: Sequence[Path], options: TrainOptions, made: Made | None = None) -> None:
        super().__init__(match_folders(folders).groups, options, made)
        self.held_out = self._held_out

    def batch(self, count: int, crop: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw crops (count, 3, crop, crop) in [0, 1], the same from each folder's images."""
        crops, _ = self.crops(count, crop, generator)
        return tuple(torch.cat(images) for images in zip(*crops, strict=True))


def _load(scene: tuple[Path, ...], made: Made | None) -> tuple[np.ndarray, ...]:
    images = []
    for path in scene:
        pixels = read_image(path).pixels
        images.append(_bytes(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{', '.join(map(str, scene))}: images of one scene differ in size")
    if made is not None:
        extra = made(tuple(_tensor(image)[None] for image in images))
        images.append(_bytes(extra[0].expand(3, -1, -1).permute(1, 2, 0).numpy()))
    return tuple(images)


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels * 255).astype(np.uint8)


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
