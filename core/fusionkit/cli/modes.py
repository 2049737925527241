"""What a run reads: the options of its files, workers and results, refused where this kind of run ignores them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from ..batch.options import FileOptions, For, ResultOptions
from ..engines.options import EngineOptions
from ..errors import NoEffect, OptionError
from ..method.config import PipelineConfig
from ..method.flags import stages_of
from ..options import validate_options
from ..registry.loading import short_name
from ..video.options import VideoOptions
from .fields import chosen

__all__ = ["Mode", "RunOptions", "options_of"]

Mode = Literal["single", "folders", "shards", "video"]
WORDS = {"single": "a single result", "folders": "`pairs` or `group`", "shards": "`shards`", "video": "video"}
# the kinds of runs that read a model; its fields may narrow them by `For`
READ: dict[type[BaseModel], tuple[str, ...]] = {
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


def options_of(given: Mapping[str, Any], mode: Mode, output: Path | None, config: PipelineConfig) -> RunOptions:
    """The options of a run of this kind; one that it does not read is refused."""
    from ..images.write import CONTAINERS

    result = _read(ResultOptions, given, mode, "result", "")
    suffix = result.ext if mode in ("folders", "shards") else output.suffix.lower() if output is not None else ""
    if suffix == result.ext and suffix not in CONTAINERS:
        raise OptionError(f"`ext={suffix}`: expected one of {', '.join(CONTAINERS)}")
    files = _read(FileOptions, given, mode, "files", suffix)
    if files.save_transform and "align" not in [short_name(stage.name) for stage in stages_of(config, None)]:
        raise NoEffect(f"`save_transform={files.save_transform}` has no effect: nothing is aligned; add `align=affine`")
    engine = _read(EngineOptions, given, mode, "engine", suffix)
    video = _read(VideoOptions, given, mode, "video", suffix)
    return RunOptions(files, result, engine, video)


def _read(model: type[Model], given: Mapping[str, Any], mode: Mode, owner: str, suffix: str) -> Model:
    """A model's options, all of which this kind of run and this format of results read."""
    options = validate_options(model, chosen(given, model), owner)
    for name, info in model.model_fields.items():
        value = getattr(options, name)
        if value == info.get_default():
            continue
        narrowed = next((mark for mark in info.metadata if isinstance(mark, For)), For())
        modes = [m for m in READ[model] if not narrowed.modes or m in narrowed.modes]
        shown = f"`{name}={str(value).lower() if isinstance(value, bool) else value}`"
        if mode not in modes:
            raise NoEffect(
                f"{shown} has no effect on {'results of ' if mode != 'single' else ''}{WORDS[mode]}; it is read with "
                f"{' or '.join(WORDS[m] for m in modes)}"
            )
        if narrowed.formats and suffix and suffix not in narrowed.formats:
            raise NoEffect(f"{shown} has no effect on {suffix} files; it is read for {', '.join(narrowed.formats)}")
    return options
