"""The TOML grid of an ablation -> cells, each a whole configuration."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ..contracts import Options
from ..errors import FusionkitError, OptionError
from ..extras import DISTRIBUTION
from ..method.choice import Choice, Restoring, merge_choices
from ..method.config import PipelineConfig, SamplerOptions, placed, sampling_of
from ..method.degrade import NONE, known
from ..method.parts import build
from ..method.presets import choose
from ..options import effective, validate_options
from ..registry.kinds import METHOD
from ..registry.loading import get_registry
from ..storage.regular import read_toml

WHOLE, KNOWN = "degradation", "known"
MOST_CELLS = 10_000


Side = Annotated[int, Field(ge=16, le=16_384)]


class _Data(Options):
    """Where the pairs come from."""

    pairs: list[str] = Field([], description="folders of the sources, one for each source")
    scenes: str | None = Field(None, description="procedural scenes instead: infrared-visible, multi-exposure ...")
    count: int = Field(4, ge=1, le=100_000, description="how many scenes")
    size: tuple[Side, Side] = Field((240, 320), description="height and width of scenes")
    limit: int | None = Field(
        None, ge=1, le=100_000_000, description="at most this many pairs, spread evenly over the folder"
    )


class _Report(Options):
    """What is reported."""

    metrics: list[str] = Field([], description="names of metrics; by default the usual ones")
    dialect: str | None = Field(None, description="compute as another project's code does")
    images: int = Field(3, ge=0, le=10_000, description="pairs whose images are in the report")
    attribution: Literal["base", "all", "none"] = Field(
        "base", description="methods from which parts are removed: the first cell, every cell, or none"
    )


class _File(Options):
    """The tables of a grid file."""

    base: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    data: _Data = _Data()
    report: _Report = _Report()


@dataclass(frozen=True)
class Cell:
    """One method on one kind of input. removed: the part of `parent`, another cell's label, that it lacks."""

    label: str
    choices: dict[str, Any]
    config: PipelineConfig
    degradation: str = "none"
    removed: str = ""
    parent: str = ""


@dataclass
class Grid:
    """A parsed grid file: cells not yet validated against plug-ins and data."""

    cells: list[Cell]
    data: _Data
    report: _Report
    axes: dict[str, list[Any]] = field(default_factory=dict)
    without_effect: list[str] = field(default_factory=list)  # combinations left out, with the reason


def load_grid(path: Path) -> Grid:
    """Read a grid; the first thing that is wrong with it is an OptionError of one line.

    [base] holds choices as a preset does, `task` and `preset` included. [grid] holds lists: of any of these choices, of
    the sampler's options (`steps`, `sampler.eta`), of a plug-in's (`prior.em_tv.lit`, in cells that use it), or of
    `degradation`; `restore` may be "known": what the degradation did is undone with its own options. [data] and
    [report] are optional.
    """
    table = read_toml(path, "does not exist")
    if isinstance(table.get("grid"), dict):
        table["grid"] = dict(_flat(table["grid"]))
    file: _File = validate_options(_File, table, str(path))
    for key, values in file.grid.items():
        if not values:
            raise OptionError(f"{path}: grid.{key} is empty")
    count = math.prod(map(len, file.grid.values()))
    if count > MOST_CELLS:
        raise OptionError(f"{path}: {count} combinations; a grid may have {MOST_CELLS}")
    try:
        cells = list(_cells(file))
    except FusionkitError as error:
        raise OptionError(f"{path}: {error}") from None
    if not cells:
        raise OptionError(f"{path}: the grid has no cell")
    return Grid([*cells, *_removals(cells, file.report.attribution)], file.data, file.report, file.grid)


def cleanly(cell: Cell) -> Cell:
    """The same method on clean sources, restoring nothing."""
    nothing = (Restoring.model_validate(NONE),)
    return replace(cell, config=cell.config.model_copy(update={"restore": nothing}), degradation=NONE)


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"prior": {"em_tv": {"lit": [..]}}} and {"prior.em_tv.lit": [..]} are the same."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cells(file: _File) -> Iterator[Cell]:
    """The product of all axes; an option of a plug-in multiplies only the cells that use the plug-in."""
    axes = {("seed" if key == "seeds" else key): values for key, values in file.grid.items()}
    conditional = {key: _plugin_option(key) for key in axes if key.partition(".")[0] in METHOD and "." in key}
    free = [key for key in axes if key not in conditional]
    used, seen = set(), set()
    for values in itertools.product(*(axes[key] for key in free)):
        chosen = dict(zip(free, values, strict=True))
        names = _names(_configured(file.base, chosen))
        applicable = [key for key, (kind, name, _) in conditional.items() if names[kind] == name]
        used |= set(applicable)
        for more in itertools.product(*(axes[key] for key in applicable)):
            choices = _in_order({**chosen, **dict(zip(applicable, more, strict=True))}, axes)
            label = ", ".join(f"{_short(k, axes)}={_text(v)}" for k, v in choices.items() if len(axes[k]) > 1) or "base"
            if label in seen:
                raise OptionError(f"grid: {label} stands there twice")
            seen.add(label)
            degradation = str(choices.get(WHOLE, NONE))
            undone = known(degradation)
            told = {"restore": undone} if choices.get("restore") == KNOWN else {}
            yield Cell(label, choices, _configured(file.base, {**choices, **told}), degradation)
    idle = sorted(set(conditional) - used)
    if idle:
        raise OptionError(f"grid: {idle[0]} is an option of a plug-in that no cell uses")


def _in_order(choices: dict[str, Any], axes: Iterable[str]) -> dict[str, Any]:
    """In the file's order, a plug-in's options right after the plug-in."""
    heads = list(dict.fromkeys(key.partition(".")[0] for key in axes))
    return dict(sorted(choices.items(), key=lambda item: heads.index(item[0].partition(".")[0])))


def _plugin_option(key: str) -> tuple[str, str, str]:
    parts = key.split(".")
    if len(parts) != 3:
        raise OptionError(f"grid: {key}: expected {parts[0]}.NAME.OPTION, as in prior.em_tv.lit")
    kind, name, option = parts
    get_registry().find(METHOD[kind].name, name)
    return kind, name, option


def _configured(base: dict[str, Any], choices: dict[str, Any]) -> PipelineConfig:
    """The configuration of a cell: base, changed by its choices."""
    base = dict(base)
    task, preset = (choices.get(key, base.pop(key, None)) for key in ("task", "preset"))
    given = {}
    for key, value in choices.items():
        kind, _, rest = key.partition(".")
        given[f"{kind}.{rest.partition('.')[2]}" if kind in METHOD and rest else key] = value
    chosen = {key: value for key, value in given.items() if key not in ("task", "preset", WHOLE)}
    return choose(task, preset, merge_choices(base, placed(chosen)))


def _names(config: PipelineConfig) -> dict[str, str]:
    """The plug-ins of a configuration by kind."""
    names = {key: str(choice) for key in METHOD if (choice := getattr(config, key)) is not None}
    names["decoder"] = names.get("decoder") or str(_decoder(config))
    return names


def _short(key: str, axes: dict[str, list[Any]]) -> str:
    """The last part of a key where no other axis has it."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in axes) == 1 else key


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _removals(cells: list[Cell], attribution: str) -> Iterator[Cell]:
    """For methods that are to be taken apart: the method without each of its parts."""
    whole = [] if attribution == "none" else cells[:1] if attribution == "base" else cells
    for cell in whole:
        for removed, config in without_parts(cell.config):
            yield replace(
                cell, label=f"{cell.label}, without {removed}", config=config, removed=removed, parent=cell.label
            )


def without_parts(config: PipelineConfig) -> Iterator[tuple[str, PipelineConfig]]:
    """The configuration without each part that it has; everything else, the autoencoder included, stays."""

    def without(**parts: Any) -> PipelineConfig:
        return config.model_copy(update=parts)

    decoder = _decoder(config)
    named = any(r.degradation.name not in ("auto", "none") for r in config.restore)  # these need a flow
    bare = (Restoring.model_validate("none"),) if named else config.restore
    if str(config.backbone) != METHOD["backbone"].neutral:
        yield "network (its input instead)", without(backbone=_neutral("backbone"), decoder=decoder, restore=bare)
        zeros = _neutral("backbone", estimate="zeros")
        yield "network (zeros instead)", without(backbone=zeros, decoder=decoder, restore=bare)
    if str(decoder) != METHOD["decoder"].neutral:
        plain = {"backbone": _neutral("backbone"), "decoder": _neutral("decoder")}
        lossless = config.sampler.model_copy(update={"detail": "keep", "finish": "prior"})
        yield "network and autoencoder", without(**plain, restore=bare, sampler=lossless)
    sampler = sampling_of(config.sampler, get_registry().load("prior", config.prior.name).sampling)
    if str(config.prior) != METHOD["prior"].neutral:
        yield "prior", without(prior=_neutral("prior"), sampler=_sampling(sampler, inject="none"))
    if sampler.steps > 1:
        yield "steps but one", without(sampler=_sampling(sampler, steps=1))
    if config.stretch != "none":
        yield "stretch", without(stretch="none")
    for i, stage in enumerate(config.stages):
        yield f"stage {stage}", without(stages=config.stages[:i] + config.stages[i + 1 :])
    if str(config.color) != METHOD["color"].neutral:
        yield "colour", without(color=_neutral("color"))


def _sampling(sampler: SamplerOptions, **changed: Any) -> SamplerOptions:
    """The sampler's options with these changed, less those that are then not read."""
    chosen = {name: getattr(sampler, name) for name in sampler.model_fields_set}
    return SamplerOptions(**effective(SamplerOptions, {**chosen, **changed}))


def _neutral(key: str, **options: Any) -> Choice:
    """The built-in that takes the place of a part that is left out."""
    return Choice(name=f"{DISTRIBUTION}:{METHOD[key].neutral}", options=options)


def _decoder(config: PipelineConfig) -> Choice:
    """The decoder of a method: by default the one that the backbone's weights name."""
    chosen: Choice | None = config.decoder
    if chosen is not None and chosen.name:
        return chosen
    backbone = build("backbone", config.backbone, torch.device("cpu")).plugin
    return Choice(name=backbone.decoder, options={**backbone.decoder_options, **(chosen.options if chosen else {})})
