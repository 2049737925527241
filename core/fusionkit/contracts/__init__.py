"""What each kind of plug-in answers.

Tensors are float32 (B, C, H, W); images are in [0, 1]; luma has C = 1. Time is stated once, in `fusionkit.flow.path`.
A plug-in's class is called with its options model and nothing else, so that `Class(Class.Options())` works.
"""

from ..numerics.layers import pad_to_multiple
from ..options import Options
from ..sources import Frame, Frames, Memory, Report, ShotMemory, Sources
from .around import ColorSpace, Stage
from .base import Lazy, Plugin
from .degradation import Degradation, Splitting, SplittingOptions
from .files import Pictures, Reader, Stored, Writer
from .flow import Backbone, Decoder
from .prior import Prior, Streaming, stream
from .scoring import Detection, Detector, Metric

__all__ = [
    "Backbone",
    "ColorSpace",
    "Decoder",
    "Degradation",
    "Detection",
    "Detector",
    "Frame",
    "Frames",
    "Lazy",
    "Memory",
    "Metric",
    "Options",
    "Pictures",
    "Plugin",
    "Prior",
    "Reader",
    "Report",
    "ShotMemory",
    "Sources",
    "Splitting",
    "SplittingOptions",
    "Stage",
    "Stored",
    "Streaming",
    "Writer",
    "pad_to_multiple",
    "stream",
]
