"""What can be chosen on the page, with what its models say of it; and whether a choice may be made there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..errors import FusionkitError, OptionError
from ..method.config import PipelineConfig, SamplerOptions, task_names, task_text
from ..options import describe_field
from ..registry.kinds import DISTRIBUTION
from ..registry.loading import get_registry, load_class
from .work import pipeline_of

__all__ = ["catalog", "checked"]

# what a page may choose: nothing that names a file of this machine
FIELDS, SAMPLING = ("look", "align", "resize", "color", "seed"), ("restore", "strength", "steps", "precision")
FIRST = ("em_tv", "laplacian", "learned", "gradient", "focus", "mertens")  # of the priors that are offered


def catalog() -> dict[str, Any]:
    """Everything that can be chosen, with what its models say of it."""
    priors = []
    for plugin in get_registry().of_kind("prior"):
        own = plugin.distribution == DISTRIBUTION
        row: dict[str, Any] = {
            "name": plugin.record.name if own else f"{plugin.distribution}:{plugin.record.name}",
            "summary": plugin.record.summary,
            "distribution": plugin.distribution,
            "missing": list(plugin.missing),
        }
        try:
            if not plugin.missing:
                prior = load_class(plugin)
                row["options"] = _fields(prior.Options)
                row["quick"] = prior.sampling.get("steps", 1) == 1
        except FusionkitError as error:
            row["broken"] = str(error)
        priors.append(row)
    priors.sort(key=lambda row: FIRST.index(row["name"]) if row["name"] in FIRST else len(FIRST))
    return {
        "tasks": [{"name": name, "text": task_text(name)} for name in task_names()],
        "priors": priors,
        "fields": _fields(PipelineConfig, FIELDS),
        "sampling": _fields(SamplerOptions, SAMPLING),
        "colors": [plugin.record.name for plugin in get_registry().of_kind("color-space")],
    }


def _fields(model: type[BaseModel], only: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Fields as a form needs them: name, JSON schema of the value, description."""
    schema = model.model_json_schema()
    rows = []
    for name in only or model.model_fields:
        info = model.model_fields[name]
        if not _harmless(name, info.annotation):
            continue
        shape = schema["properties"][name]
        if "$ref" in shape or "allOf" in shape:
            shape = {"default": None}
        rows.append(
            {"name": name, "schema": shape, "description": info.description or "", "type": describe_field(info)}
        )
    return rows


def _harmless(name: str, annotation: Any) -> bool:
    """Whether a field cannot name a file of this machine."""
    return annotation is not Path and name not in ("weights", "transform")


def checked(choices: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Choices that may be made here, valid, those that are empty left out."""
    known = {"task", "prior", "prior_options", "sampler", *FIELDS}
    if unknown := set(choices) - known:
        raise OptionError(f"cannot be chosen here: {', '.join(sorted(unknown))}")
    chosen = {key: value for key, value in choices.items() if value not in (None, "", {})}
    for key in ("prior_options", "sampler"):
        if not isinstance(chosen.get(key, {}), dict):
            raise OptionError(f"{key}: expected a table")
    if wrong := set(chosen.get("sampler", {})) - set(SAMPLING):
        raise OptionError(f"cannot be chosen here: {', '.join(sorted(wrong))}")
    if files := [name for name in chosen.get("prior_options", {}) if not _harmless(name, None)]:
        raise OptionError(f"cannot be chosen here: {', '.join(files)}")
    pipeline_of(chosen, device)  # raises what is wrong with it
    return chosen
