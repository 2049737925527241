"""The page's catalog: tasks, priors with their options, fields of the method, each as its model describes it."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ..batch.options import FileOptions
from ..extras import DISTRIBUTION
from ..method.config import SamplerOptions, configuration
from ..method.presets import task_names, task_scene
from ..options import describe_field, opens
from ..registry.kinds import METHOD, SEVERAL
from ..registry.loading import Registered, get_registry, load_class
from ..registry.records import PriorRecord
from ..scenes import SCENES, Scene
from .choices import ASKED, SAMPLING, fields, weights_names


def catalog() -> dict[str, Any]:
    """All choices with names, JSON schemas and descriptions, and the plug-ins that a method takes by default."""
    priors = sorted(get_registry().of_kind("prior"), key=lambda plugin: plugin.record.rank or 999)
    rows = {
        row["name"]: row for row in (_task(), *_fields(FileOptions, ["range"]), *_fields(configuration(), fields()))
    }
    rows["range"]["schema"] = {"default": "auto"}  # in words, one for all sources or one a source
    return {
        "priors": [_prior(plugin) for plugin in priors],
        "samples": [{"name": name, "title": scene.shows, "choices": _sampled(scene)} for name, scene in SCENES.items()],
        "asked": [rows[name] for name in ASKED],
        "fields": [row for name, row in rows.items() if name not in ASKED],
        "sampling": _fields(SamplerOptions, SAMPLING),
        "colors": [plugin.record.name for plugin in get_registry().of_kind("color-space")],
        "defaults": {key: kind.default for key, kind in METHOD.items()},
    }


def labelled(text: str) -> str:
    """A text of the core with the page's labels in the place of fields: `resize=reference` is resize: reference."""

    def label(match: re.Match[str]) -> str:
        field, equals, value = match.groups()
        return field.replace("_", " ") + (": " if equals else "") + re.sub(r'[\["\]]', "", value)

    return re.sub(r"`(\w+)(=?)([^`]*)`", label, text)


def _sampled(scene: Scene) -> dict[str, str]:
    """The choices by which a sample is fused first: what undoes its cameras, which differ in size."""
    return {"resize": "reference", "restore": ",".join(("auto", *scene.restore))} if scene.degraded else {}


def _task() -> dict[str, Any]:
    """Describe the choice of a task, in the form of a field."""
    about = [f"{name}: {task_scene(name).title}" for name in task_names()]
    description = f"kind of scene; auto: recognised from the pictures; {'; '.join(about)}"
    return {
        "name": "task",
        "schema": {"enum": ["auto", *task_names()], "default": "auto"},
        "description": description,
        "type": "auto | " + " | ".join(task_names()),
    }


def _prior(plugin: Registered) -> dict[str, Any]:
    """Describe a prior with its options; one that does not load, with the reason."""
    own = plugin.distribution == DISTRIBUTION
    row: dict[str, Any] = {
        "name": plugin.name if own else f"{plugin.distribution}:{plugin.name}",
        "summary": plugin.summary,
        "distribution": plugin.distribution,
        "missing": list(plugin.missing),
    }
    try:
        if plugin.installed:
            prior = load_class(plugin)
            assert isinstance(plugin.record, PriorRecord)
            row["options"] = _fields(prior.Options)
            row["offered"] = prior.sampling.get("steps", 1) == 1 and not plugin.record.yardstick
    except Exception as error:  # raised by the plug-in; the others are still offered
        row["broken"] = str(error)
    return row


def _fields(model: type[BaseModel], only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """List the fields that cannot name a file, as a form needs them: name, JSON schema of the value, description."""
    schema = model.model_json_schema(by_alias=False)
    rows = []
    for name in only or model.model_fields:
        info = model.model_fields[name]
        opened = opens(info)
        if opened == "file":
            continue
        shape, described = schema["properties"][name], describe_field(info)
        if name in SEVERAL:  # one in words, or a list of them in JSON
            shape = {"type": "array", "default": " ".join(map(str, info.default))}
        elif opened == "weights" and info.annotation is str:
            shape, described = {"enum": weights_names("prior"), "default": info.default}, "name of listed weights"
        elif "$ref" in shape or "allOf" in shape:
            shape = {"default": None}
        rows.append({"name": name, "schema": shape, "description": labelled(info.description or ""), "type": described})
    return rows
