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

if TYPE_CHECKING:  # for checkers of types
    from .api import Pipeline as Pipeline
    from .api import fuse as fuse
    from .contracts import Backbone as Backbone
    from .contracts import ColorSpace as ColorSpace
    from .contracts import Decoder as Decoder
    from .contracts import Degradation as Degradation
    from .contracts import Detector as Detector
    from .contracts import Metric as Metric
    from .contracts import Options as Options
    from .contracts import Prior as Prior
    from .contracts import Reader as Reader
    from .contracts import Sources as Sources
    from .contracts import Stage as Stage
    from .contracts import Streaming as Streaming
    from .contracts import Writer as Writer
    from .errors import FusionWarning as FusionWarning
    from .images import Picture as Picture
    from .method.choice import Choice as Choice
    from .method.config import PipelineConfig as PipelineConfig
    from .method.config import SamplerOptions as SamplerOptions
    from .method.result import Fused as Fused
    from .reading import read_image as read_image
    from .registry.loading import list_plugins as list_plugins
    from .writing import write_image as write_image

wait_briefly()  # works only before torch is imported

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

__all__ = list(_LAZY)
__all__ += ["__version__", "hookimpl"]  # noqa: F405
__all__ += records.__all__


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version(DISTRIBUTION)
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return __all__
