"""fusionkit: plug-in image fusion with rectified flows.

    import fusionkit
    fused = fusionkit.fuse("ir.png", "vis.png", prior="em_tv", backbone="rf")

Names are imported when they are first used, so that `import fusionkit` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .hookspecs import hookimpl
from .records import BackboneRecord, ColorSpaceRecord, DecoderRecord, DetectorRecord, MetricRecord, PriorRecord

if TYPE_CHECKING:
    from .api import fuse
    from .config import PipelineConfig
    from .images import read_image, write_image
    from .pipeline import Pipeline
    from .sampler import SamplerOptions

__all__ = [
    "BackboneRecord",
    "ColorSpaceRecord",
    "DecoderRecord",
    "DetectorRecord",
    "MetricRecord",
    "Pipeline",
    "PipelineConfig",
    "PriorRecord",
    "SamplerOptions",
    "__version__",
    "fuse",
    "hookimpl",
    "read_image",
    "write_image",
]

_LAZY = {
    "Pipeline": ".pipeline",
    "PipelineConfig": ".config",
    "SamplerOptions": ".sampler",
    "fuse": ".api",
    "read_image": ".images",
    "write_image": ".images",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fusionkit")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
