"""One run's choices: which plug-ins with which options. Built from Python, a TOML preset or the command line."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from .contracts import Options
from .errors import OptionError
from .registry import validate_options
from .sampler import SamplerOptions

__all__ = ["PipelineConfig", "choose", "load_preset", "load_task", "make_config", "merge_choices", "preset_names"]

_PRESETS = resources.files("fusionkit") / "presets"
_TASK = "task-"


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
    luma: Literal["exact", "rounded"] = Field(
        "exact", description="rounded: the sources' luma is BT.601 in whole 8-bit levels, as OpenCV reads a grey image"
    )
    working_size: tuple[PositiveInt, PositiveInt] | None = Field(
        None,
        description="height and width that sources are resized to and the result back from (bicubic); by default none",
    )
    stretch: Literal["none", "minmax"] = Field("none", description="stretch of the result's luma to the full range")
    levels: Literal["all", "truncated"] = Field(
        "all",
        description="truncated: the result is cut down to whole 8-bit levels instead of being rounded when written",
    )
    tile: int = Field(
        0, ge=0, description="side of the networks' tiles in pixels; 0: 512 for images over 1.5 megapixels, else none"
    )

    @model_validator(mode="after")
    def _tile_size(self) -> Self:
        if self.tile and self.tile < 128:
            raise ValueError("tile must be 0 or at least 128")
        return self


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(p.name.removesuffix(".toml") for p in _PRESETS.iterdir() if p.name.endswith(".toml"))


def load_task(task: str) -> dict[str, Any]:
    """The prior and options that were measured to be the best for a task: ivif, mef, mff or medical."""
    tasks = [name.removeprefix(_TASK) for name in preset_names() if name.startswith(_TASK)]
    if task not in tasks:
        raise OptionError(f"no task {task!r}; tasks: {', '.join(tasks)}")
    return load_preset(f"{_TASK}{task}")


def choose(task: str | None, preset: str | Path | None, choices: dict[str, Any]) -> PipelineConfig:
    """The configuration of a task, changed by a preset, changed by choices; any may be missing."""
    merged = load_task(task) if task else {}
    if preset is not None:
        merged = merge_choices(merged, load_preset(preset))
    return make_config(merge_choices(merged, choices))


def load_preset(name: str | Path) -> dict[str, Any]:
    """The choices in a TOML file, or in the shipped preset of that name: the fields of `PipelineConfig`."""
    own = Path(name)
    path = own if own.suffix or own.parent.name or own.is_file() else _PRESETS / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(preset_names())
        raise OptionError(f"preset {str(name)!r}: not found; shipped: {known}; or give a .toml file") from None
    except OSError as error:
        raise OptionError(f"preset {name}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise OptionError(f"preset {name}: not valid TOML: {error}") from None


def merge_choices(base: dict[str, Any], choices: dict[str, Any]) -> dict[str, Any]:
    """`choices` over `base`: options are merged key by key, those of a plug-in that is replaced are dropped."""
    defaults = {kind: PipelineConfig.model_fields[kind].default for kind in ("prior", "backbone", "decoder", "color")}
    stale = {f"{k}_options" for k, d in defaults.items() if k in choices and choices[k] != base.get(k, d)}
    base = {k: v for k, v in base.items() if k not in stale}
    merged = {**base, **choices}
    for name in base.keys() & choices.keys():
        if isinstance(choices[name], dict):
            if not isinstance(base[name], dict):
                raise OptionError(f"preset: {name} must be a table, not {base[name]!r}")
            merged[name] = {**base[name], **choices[name]}
    return merged


def make_config(choices: dict[str, Any]) -> PipelineConfig:
    """Validate choices; a wrong one is an OptionError of one line."""
    choices = dict(choices)
    sampler = choices.pop("sampler", {})
    if isinstance(sampler, dict):
        sampler = validate_options(SamplerOptions, sampler, "sampler")
    config: PipelineConfig = validate_options(PipelineConfig, {**choices, "sampler": sampler}, "configuration")
    return config
