"""`fusionkit.fuse`: fuse paths, pictures, arrays, tensors or PIL images in one call."""

from pathlib import Path
from typing import Unpack, overload

from PIL.Image import Image
from torch import Tensor

from .contracts import Backbone, Prior
from .images.picture import Array, Picture
from .method.keywords import AllChoices, Choices, Named
from .method.pipeline import Pipeline
from .method.result import FusedArray, FusedImage, FusedTensor
from .reading.take import Source

__all__ = ["fuse"]


@overload
def fuse(*images: str | Path | Picture | Array, **choices: Unpack[AllChoices]) -> FusedArray: ...


@overload
def fuse(*images: Tensor, **choices: Unpack[AllChoices]) -> FusedTensor: ...


@overload
def fuse(*images: Image, **choices: Unpack[AllChoices]) -> FusedImage: ...


@overload
def fuse(*images: Source, **choices: Unpack[AllChoices]) -> FusedArray | FusedTensor | FusedImage: ...


def fuse(  # type: ignore[misc]  # mypy compares no TypedDict with parameters
    *images: Source,
    prior: Named | Prior | None = None,
    backbone: Named | Backbone | None = None,
    task: str | None = None,
    preset: str | Path | None = None,
    device: str = "auto",
    **choices: Unpack[Choices],
) -> FusedArray | FusedTensor | FusedImage:
    """Fuse two or more registered images of one scene.

    images: paths, pictures of `read_image`, PIL images, numpy arrays (H, W) or (H, W, 3) of uint8, uint16 or float in
    [0, 1], or torch tensors (H, W), (C, H, W) or (B, C, H, W) of uint8 or float in [0, 1]; kinds may be mixed.
    prior: "em_tv" by default; backbone: "rf"; each a name, a table {"name": ..., option: value}, or an object.
    task: "ivif", "mef", "mff" or "medical" takes the choices that were measured best for it. preset: a TOML file or the
    name of a shipped one. device: "auto" takes CUDA, then Apple's MPS, then the CPU. choices: fields of
    `fusionkit.PipelineConfig`, and options of a part. Keywords override the preset, which overrides the task.

    Returns an array, a tensor or a PIL image, like the reference source (by default the only one with colour, else the
    last), of its size and type; for a path, an array of the file's depth. The result has `notes`, `reference`, `image`
    (its plain pixels) and `save(path)`. Raises `fusionkit.errors.FusionkitError`. A
    `fusionkit.FusionWarning` tells of what may have spoiled the result: a source that looks misplaced, a range that was
    guessed, noise that was left; `notes` has these, too.

    Each call builds the method; a `fusionkit.Pipeline` builds it once for many calls.

    >>> import numpy as np, fusionkit
    >>> dark, bright = np.full((32, 32), 0.2), np.full((32, 32), 0.6)
    >>> fused = fusionkit.fuse(dark, bright, prior="average", backbone="identity")
    >>> print(type(fused).__name__, fused.shape, round(float(fused.mean()), 3))
    FusedArray (32, 32) 0.4
    >>> fused = fusionkit.fuse(dark, bright, prior="source", prior_options={"number": 1}, backbone="identity")
    >>> print(round(float(fused.mean()), 3))
    0.2
    """
    parts = {name: part for name, part in (("prior", prior), ("backbone", backbone)) if part is not None}
    pipeline = Pipeline(task=task, preset=preset, device=device, **choices, **parts)  # type: ignore[arg-type]
    return pipeline.fuse(*images)
