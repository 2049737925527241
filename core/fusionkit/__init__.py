"""fusionkit: plug-in image fusion with rectified flows.

    import fusionkit
    fused = fusionkit.fuse("ir.png", "vis.png")
    fused.save("fused.png")

Names are imported on first use: `import fusionkit` imports no torch.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from .extras import DISTRIBUTION
from .registry import records
from .registry.hookspecs import hookimpl
from .registry.records import *  # noqa: F403
from .threads import wait_briefly

if TYPE_CHECKING:
    from .api import Pipeline, fuse
    from .contracts import (
        Backbone,
        ColorSpace,
        Decoder,
        Degradation,
        Detector,
        Metric,
        Options,
        Prior,
        Reader,
        Sources,
        Stage,
        Streaming,
        Writer,
    )
    from .errors import FusionWarning
    from .images import Picture
    from .method.choice import Choice
    from .method.config import PipelineConfig, SamplerOptions
    from .method.result import Fused
    from .reading import read_image
    from .registry.loading import list_plugins
    from .writing import write_image

wait_briefly()  # works only before torch is imported

__all__ = [
    "Backbone",
    "Choice",
    "ColorSpace",
    "Decoder",
    "Degradation",
    "Detector",
    "Fused",
    "FusionWarning",
    "Metric",
    "Options",
    "Picture",
    "Pipeline",
    "PipelineConfig",
    "Prior",
    "Reader",
    "SamplerOptions",
    "Sources",
    "Stage",
    "Streaming",
    "Writer",
    "__version__",  # noqa: F405
    "fuse",
    "hookimpl",
    "list_plugins",
    "read_image",
    "write_image",
]
__all__ += records.__all__

_LAZY = {
    **dict.fromkeys(("Choice", "PipelineConfig", "SamplerOptions"), ".method.config"),
    **dict.fromkeys(("Backbone", "ColorSpace", "Decoder", "Degradation", "Detector", "Metric"), ".contracts"),
    **dict.fromkeys(("Prior", "Reader", "Sources", "Stage", "Streaming", "Writer"), ".contracts"),
    "Fused": ".method.result",
    "FusionWarning": ".errors",
    "Options": ".options",
    "Picture": ".images.picture",
    "Pipeline": ".api",
    "fuse": ".api",
    "list_plugins": ".registry.loading",
    "read_image": ".reading",
    "write_image": ".writing",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version(DISTRIBUTION)
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return __all__
