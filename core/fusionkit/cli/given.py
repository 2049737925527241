"""From the values of a command line to the models that read them: method, files, results, workers, video.

`Given` takes the values once, by the fields' names, and hands each model its own. An option that this kind of run
ignores is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from ..batch.options import FileOptions, Mode, ResultOptions, refuse_ignored
from ..engines.options import EngineOptions
from ..errors import NoEffect, OptionError
from ..method.choice import merge_choices
from ..method.config import PipelineConfig, SamplerOptions, configuration, make_config, placed
from ..method.flags import stages_of
from ..method.presets import choose
from ..method.words import from_text, key_values, named
from ..options import validate_options
from ..registry.kinds import METHOD
from ..registry.loading import short_name
from ..video.options import VideoOptions

# the kinds of runs that read a model; its fields may narrow them by `For`
READ: dict[type[BaseModel], tuple[Mode, ...]] = {
    FileOptions: ("single", "folders", "shards", "video"),
    ResultOptions: ("single", "folders", "shards", "video"),
    EngineOptions: ("folders", "shards", "video"),
    VideoOptions: ("video",),
}
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class RunOptions:
    """Options of a run beside the method."""

    files: FileOptions
    result: ResultOptions
    engine: EngineOptions
    video: VideoOptions


class Given:
    """The values that a command line gave, by the names of fields."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: value for name, value in values.items() if value not in (None, [])}

    def options(self, model: type[Model]) -> Model:
        """A model of the options that were set."""
        return validate_options(model, self._table(model), "")

    def run_options(self, mode: Mode, output: Path | None, config: PipelineConfig) -> RunOptions:
        """The options of a run of this kind; one that it does not read is refused."""
        from ..writing import extension_of, writable_extensions

        result = self._read(ResultOptions, mode, "")
        suffix = result.ext if mode in ("folders", "shards") else extension_of(output) if output is not None else ""
        if suffix == result.ext and suffix not in writable_extensions():
            raise OptionError(f"`ext={suffix}`: expected one of {', '.join(writable_extensions())}")
        files = self._read(FileOptions, mode, suffix)
        saved = [name for name in ("save_transform", "save_aligned") if getattr(files, name)]
        if saved and "align" not in [short_name(stage.name) for stage in stages_of(config, None)]:
            shown = f"`{saved[0]}={getattr(files, saved[0])}`"
            raise NoEffect(f"{shown} has no effect: nothing is aligned; add `align=affine`")
        engine, video = self._read(EngineOptions, mode, suffix), self._read(VideoOptions, mode, suffix)
        return RunOptions(files, result, engine, video)

    def _read(self, model: type[Model], mode: Mode, suffix: str) -> Model:
        """A model's options, all of which this kind of run and this format of results read."""
        options = self.options(model)
        refuse_ignored(options, mode, suffix, READ[model])
        return options

    def method(
        self, task: str | None, preset: str | None, values: Sequence[str], stages: Sequence[str] = ()
    ) -> PipelineConfig:
        """The configuration that the options make, over task and preset. values: KEY=VALUE of --set."""
        return choose(task, preset, self.choices(values, stages))

    def choices(self, values: Sequence[str], stages: Sequence[str] = ()) -> dict[str, Any]:
        """The choices of a method that were given. values: KEY=VALUE of --set."""
        known = {**configuration().model_fields, **SamplerOptions.model_fields}
        by_key = key_values(values, "--set", nest=False, example="prior.lit=0.5")
        for key, value in by_key.items():
            name = key.removeprefix("sampler.")
            by_key[key] = from_text(value, known[name].annotation if name in known else None, name)
        choices = self._table(configuration())
        for key, kind in METHOD.items():
            given, example = self._values.get(f"{key}_opt", []), "lit=0.5" if key == "prior" else "key=value"
            if options := key_values(given, f"{kind.flag}-opt", example=example):
                choices[f"{key}_options"] = options
        if sampler := self._table(SamplerOptions):
            choices["sampler"] = sampler
        if stages:
            choices["stages"] = [named(text, "--stage") for text in stages]
        return merge_choices(placed(by_key), choices)

    def common(self, values: Sequence[str]) -> dict[str, Any]:
        """The choices that all compared priors have in common; a wrong one is told now, not once a prior."""
        choices = self.choices(values)
        if getattr(choices.get("prior"), "name", ""):
            raise NoEffect("`prior` has no effect where priors are compared; choose them by --priors")
        make_config(choices)
        return choices

    def _table(self, model: type[BaseModel]) -> dict[str, Any]:
        """The fields of a model that were set."""
        fields = model.model_fields
        return {k: from_text(v, fields[k].annotation, f"`{k}`") for k, v in self._values.items() if k in fields}
