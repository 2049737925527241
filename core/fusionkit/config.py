"""One run's choices: which plug-ins with which options. Built from Python, a TOML preset or the command line."""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from .contracts import Options
from .errors import OptionError
from .registry import validate_options
from .sampler import SamplerOptions

__all__ = ["PipelineConfig", "load_preset", "make_config"]


class PipelineConfig(Options):
    """Everything that decides the pixels of a result, apart from the sources."""

    prior: str = Field("em_tv", description="the fusion prior")
    prior_options: dict[str, Any] = {}
    backbone: str = Field("rf", description="the flow model")
    backbone_options: dict[str, Any] = {}
    decoder: str | None = Field(None, description="the autoencoder; by default the one the backbone was trained with")
    decoder_options: dict[str, Any] = {}
    color: str = Field("ycbcr", description="the colour space whose luma is fused")
    color_options: dict[str, Any] = {}
    sampler: SamplerOptions = SamplerOptions()
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the sampler's noise")
    reference: int = Field(
        0, ge=0, description="number of the reference source, from 1; 0: the only one with colour, else the last"
    )
    resize: Literal["error", "reference"] = Field("error", description="what to do with sources of different sizes")
    stretch: Literal["none", "minmax"] = Field("none", description="stretch of the result's luma to the full range")
    tile: int = Field(
        0, ge=0, description="side of the networks' tiles in pixels; 0: 512 for images over 1.5 megapixels, else none"
    )

    @model_validator(mode="after")
    def _tile_size(self) -> Self:
        if self.tile and self.tile < 128:
            raise ValueError("tile must be 0 or at least 128")
        return self


def load_preset(path: Path) -> dict[str, Any]:
    """The choices in a TOML file: keys and tables are the fields of `PipelineConfig`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"preset {path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise OptionError(f"preset {path}: not valid TOML: {error}") from None


def make_config(choices: dict[str, Any]) -> PipelineConfig:
    """Validate choices; a wrong one is an OptionError of one line."""
    choices = dict(choices)
    sampler = choices.pop("sampler", {})
    if isinstance(sampler, dict):
        sampler = validate_options(SamplerOptions, sampler, "sampler")
    config: PipelineConfig = validate_options(PipelineConfig, {**choices, "sampler": sampler}, "configuration")
    return config
