"""fusionkit: plug-in image fusion with rectified flows.

    import fusionkit
    fused = fusionkit.fuse("ir.png", "vis.png", prior="em_tv", backbone="rf")

Names are imported when they are first used, so that `import fusionkit` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registry import records
from .registry.hookspecs import hookimpl
from .registry.kinds import DISTRIBUTION
from .registry.records import *  # noqa: F403  all of them

if TYPE_CHECKING:
    from .api import fuse
    from .images import write_image
    from .method.config import Choice, PipelineConfig, SamplerOptions
    from .method.pipeline import Pipeline
    from .reading import read_image

__all__ = [
    "Choice",
    "Pipeline",
    "PipelineConfig",
    "SamplerOptions",
    "__version__",  # noqa: F405
    "fuse",
    "hookimpl",
    "read_image",
    "write_image",
]
__all__ += records.__all__

_LAZY = {
    "Choice": ".method.config",
    "Pipeline": ".method.pipeline",
    "PipelineConfig": ".method.config",
    "SamplerOptions": ".method.config",
    "fuse": ".api",
    "read_image": ".reading",
    "write_image": ".images",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(DISTRIBUTION)
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
