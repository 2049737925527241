"""`fusionkit.fuse`: one call on whatever holds an image."""

from typing import Any

from .config import make_config
from .pipeline import Pipeline

__all__ = ["fuse"]


def fuse(*images: Any, prior: str = "em_tv", backbone: str = "rf", device: str = "auto", **choices: Any) -> Any:
    """Fuse two or more registered images of one scene.

    images: paths, PIL images, numpy arrays (H, W) or (H, W, 3) of uint8, uint16 or float in [0, 1], or torch tensors
    (C, H, W) or (B, C, H, W) of uint8 or float in [0, 1]; kinds may be mixed, sizes must agree. choices: any other
    field of `fusionkit.PipelineConfig` (prior_options={"lam": 0.3}, sampler={"steps": 4}, seed=1 ...).

    Returns the kind, size and type of the reference source (`reference`, by default the only one with colour, else
    the last); a path gives a numpy array of the file's depth. Raises `fusionkit.errors.FusionkitError`.

    Builds the method anew at each call: keep a `fusionkit.Pipeline` and call `Pipeline.fuse` for many images.
    """
    pipeline = Pipeline(make_config({"prior": prior, "backbone": backbone, **choices}), device=device)
    return pipeline.fuse(*images)
