"""What the page offers: tasks, priors with their options, fields of the method, each as its model describes it."""

from typing import Any

from pydantic import BaseModel

from ..method.config import SamplerOptions, configuration
from ..method.presets import task_names, task_text
from ..options import describe_field, opens
from ..registry.kinds import DISTRIBUTION
from ..registry.loading import Registered, get_registry, load_class
from .choices import FIELDS, SAMPLING, weights_names

__all__ = ["catalog"]

FIRST = ("em_tv", "laplacian", "learned", "gradient", "focus", "mertens")  # priors at the top of the list


def catalog() -> dict[str, Any]:
    """Everything that can be chosen, with names, JSON schemas and descriptions."""
    priors = [_prior(plugin) for plugin in get_registry().of_kind("prior")]
    priors.sort(key=lambda row: FIRST.index(row["name"]) if row["name"] in FIRST else len(FIRST))
    return {
        "tasks": [{"name": name, "text": task_text(name)} for name in task_names()],
        "priors": priors,
        "fields": _fields(configuration(), FIELDS),
        "sampling": _fields(SamplerOptions, SAMPLING),
        "colors": [plugin.record.name for plugin in get_registry().of_kind("color-space")],
    }


def _prior(plugin: Registered) -> dict[str, Any]:
    """A prior with its options; one that does not load, with the reason."""
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
    except Exception as error:  # a plug-in's; the others are still offered
        row["broken"] = str(error)
    return row


def _fields(model: type[BaseModel], only: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Fields as a form needs them: name, JSON schema of the value, description. None that can name a file."""
    schema = model.model_json_schema(by_alias=False)
    rows = []
    for name in only or model.model_fields:
        info = model.model_fields[name]
        opened = opens(info)
        if opened == "file":
            continue
        shape, described = schema["properties"][name], describe_field(info)
        if opened == "weights" and info.annotation is str:
            shape, described = {"enum": weights_names("prior"), "default": info.default}, "name of listed weights"
        elif "$ref" in shape or "allOf" in shape:
            shape = {"default": None}
        rows.append({"name": name, "schema": shape, "description": info.description or "", "type": described})
    return rows
