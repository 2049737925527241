"""Keywords of `fuse` and `Pipeline`, typed: the fields of `PipelineConfig`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict

from ..contracts import Backbone, ColorSpace, Decoder, Degradation, Prior, Stage
from .choice import Choice
from .config import SamplerOptions

Table: TypeAlias = Mapping[str, object]
Named: TypeAlias = str | Table | Choice  # "NAME", {"name": "NAME", OPTION: VALUE}


class Choices(TypedDict, total=False):
    """Fields of `PipelineConfig`, and options of its parts (prior_options={"weight": 0.3})."""

    prior: Named | Prior
    prior_options: Table
    backbone: Named | Backbone
    backbone_options: Table
    decoder: Named | Decoder | None
    decoder_options: Table
    color: Named | ColorSpace
    color_options: Table
    stages: Sequence[Named | Stage]
    restore: str | Degradation | Sequence[Named | Degradation]
    sampler: SamplerOptions | Table
    seed: int
    reference: int
    resize: Literal["error", "reference"]
    align: Literal["check", "none", "translation", "rigid", "affine", "dense", "handheld"]
    transform: str
    fov: float | Sequence[float]
    align_or_keep: bool
    rest: bool
    crop: Literal["fill", "reference", "common"]
    palette: str
    deghost: Literal["auto", "none"] | int
    luma: Literal["exact", "rounded"]
    working_size: str | tuple[int, int] | None
    stretch: Literal["none", "minmax"]
    look: Literal["auto", "faithful", "vivid", "hot"]
    levels: Literal["all", "truncated"]
    tile: int


class AllChoices(Choices, total=False):
    """Keywords of `fuse`: `Choices`, task, preset and device."""

    task: str | None
    preset: str | Path | None
    device: str
