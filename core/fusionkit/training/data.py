"""Random crops from folders of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..images import EXTENSIONS, read_image
from ..luma import luma
from .options import TrainOptions

__all__ = ["CropSampler"]


def list_images(folders: Sequence[Path]) -> list[Path]:
    """All image files in `folders`, sorted; an error when there is none."""
    paths = sorted(p for f in folders for p in f.iterdir() if p.suffix.lower() in EXTENSIONS)
    if not paths:
        raise InputError(f"no images in {', '.join(map(str, folders))}")
    return paths


class CropSampler:
    """Keeps the images as bytes in memory and cuts crops from them: position, flips and grey at random.

    held_out: full images that no crop comes from, spread evenly over the sorted file names.
    """

    def __init__(self, folders: Sequence[Path], options: TrainOptions) -> None:
        paths = list_images(folders)
        every = max(2, len(paths) // options.held_out)
        self.held_out_paths = paths[every // 2 :: every][: options.held_out]
        self.paths = [p for p in paths if p not in set(self.held_out_paths)]
        if not self.paths:
            raise InputError(f"only {len(paths)} image(s): too few to hold one out and train on the rest")
        self.grey = options.grey
        self._images = [self._load(p) for p in self.paths]
        for path, image in zip(self.paths, self._images, strict=True):
            if min(image.shape[:2]) < options.crop:
                raise InputError(
                    f"{path}: {image.shape[1]}x{image.shape[0]} is smaller than the crops ({options.crop})"
                )
        self.held_out = [self._tensor(self._load(p))[None] for p in self.held_out_paths]
        area = np.array([image.shape[0] * image.shape[1] for image in self._images], dtype=np.float64)
        self._weights = torch.from_numpy(area / area.sum())

    @staticmethod
    def _load(path: Path) -> np.ndarray:
        pixels = read_image(path).pixels
        return np.round(np.broadcast_to(pixels, (*pixels.shape[:2], 3)) * 255).astype(np.uint8)

    @staticmethod
    def _tensor(image: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255

    def batch(self, count: int, crop: int, generator: torch.Generator) -> Tensor:
        """(count, 3, crop, crop) in [0, 1]; larger images are drawn more often, by area."""
        chosen = torch.multinomial(self._weights, count, replacement=True, generator=generator).tolist()
        draws = torch.rand(count, 5, generator=generator).tolist()
        crops = []
        for i, (y, x, flip_y, flip_x, grey) in zip(chosen, draws, strict=True):
            image = self._images[i]
            top, left = int(y * (image.shape[0] - crop + 1)), int(x * (image.shape[1] - crop + 1))
            part = image[top : top + crop, left : left + crop]
            part = part[:: -1 if flip_y < 0.5 else 1, :: -1 if flip_x < 0.5 else 1]
            tensor = self._tensor(part)[None]
            crops.append(luma(tensor).expand(-1, 3, -1, -1) if grey < self.grey else tensor)
        return torch.cat(crops)
