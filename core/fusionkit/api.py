"""`fusionkit.fuse`: one call on whatever holds an image."""

from typing import Any

from .method.config import choose
from .method.pipeline import Pipeline

__all__ = ["fuse"]


def fuse(
    *images: Any,
    prior: Any = None,
    backbone: Any = None,
    task: str | None = None,
    preset: str | None = None,
    device: str = "auto",
    **choices: Any,
) -> Any:
    """Fuse two or more registered images of one scene.

    images: paths, PIL images, numpy arrays (H, W) or (H, W, 3) of uint8, uint16 or float in [0, 1], or torch tensors
    (C, H, W) or (B, C, H, W) of uint8 or float in [0, 1]; kinds may be mixed, sizes must agree. prior: "em_tv" by
    default; backbone: "rf"; each a name, a table {"name": ..., option: value}, or an object. task: "ivif",
    "mef", "mff" or "medical" takes what was measured best for it. preset: a TOML
    file or the name of a shipped one. Prior, backbone and choices override both. choices: any other field of
    `fusionkit.PipelineConfig` (prior_options={"lit": 0.3}, sampler={"steps": 4} ...).

    Returns the kind, size and type of the reference source (`reference`, by default the only one with colour, else
    the last); a path gives a numpy array of the file's depth. Raises `fusionkit.errors.FusionkitError`.

    Builds the method anew at each call: keep a `fusionkit.Pipeline` and call `Pipeline.fuse` for many images.
    """
    choices |= {k: v for k, v in (("prior", prior), ("backbone", backbone)) if v is not None}
    return Pipeline(choose(task, preset, choices), device=device).fuse(*images)
