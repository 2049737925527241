"""Choices from names: shipped tasks and presets, TOML files, and what is chosen on top of them."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..registry.kinds import DISTRIBUTION, METHOD
from ..registry.shipped import shipped_folders
from ..storage.regular import check_regular
from .choice import merge_choices
from .config import PipelineConfig

__all__ = ["choose", "load_preset", "load_task", "preset_names", "task_names", "task_text"]

MOST_BYTES = 1_000_000  # of a preset
_TASKS = resources.files("fusionkit") / "presets" / "tasks"


def preset_names() -> list[str]:
    """Names of the presets that packages ship."""
    return sorted(_shipped_presets())


def task_names() -> list[str]:
    """Names of the tasks."""
    return sorted(p.name.removesuffix(".toml") for p in _TASKS.iterdir() if p.name.endswith(".toml"))


def load_task(task: str) -> dict[str, Any]:
    """The prior and options that were measured to be the best for a task: ivif, mef, mff or medical."""
    if task not in task_names():
        raise OptionError(f"no task {task!r}; tasks: {', '.join(task_names())}")
    return _built_in(_toml(_TASKS / f"{task}.toml", task))


def task_text(task: str) -> str:
    """A task's TOML, comments and all."""
    load_task(task)  # an unknown one is an error
    text: str = (_TASKS / f"{task}.toml").read_text(encoding="utf-8")
    return text


def choose(task: str | None, preset: str | Path | None, choices: Mapping[str, Any]) -> PipelineConfig:
    """The configuration of a task, changed by a preset, changed by choices; any may be missing.

    A preset may name the task that it changes; one that is given beside it takes its place.
    """
    merged = load_task(task) if task else {}
    if preset is not None:
        chosen = dict(load_preset(preset))
        of_preset = chosen.pop("task", None)
        if isinstance(of_preset, str) and not task:
            merged = load_task(of_preset)
        elif of_preset is not None and not isinstance(of_preset, str):
            raise OptionError(f"preset {preset}: task must be one of {', '.join(task_names())}, not {of_preset!r}")
        merged = merge_choices(merged, chosen)
    return PipelineConfig(**merge_choices(merged, choices))


def load_preset(name: str | Path) -> dict[str, Any]:
    """The choices in a TOML file, or in the shipped preset of that name: the fields of `PipelineConfig`.

    A preset of this distribution means its own plug-ins; names in others are looked up as a user's are.
    """
    own = Path(name)
    if own.suffix or own.parent.name or own.is_file():
        return _toml(own, str(name))
    shipped = _shipped_presets().get(str(name), {own.with_suffix(".toml"): ""})
    if len(shipped) > 1:
        files = " and ".join(f"{owner} ({path})" for path, owner in shipped.items())
        raise OptionError(f"preset {str(name)!r} is shipped by {files}: give the path of one")
    [(path, owner)] = shipped.items()
    choices = _toml(path, str(name))
    return _built_in(choices) if owner == DISTRIBUTION else choices


def _shipped_presets() -> dict[str, dict[Path, str]]:
    """Files of each preset that packages ship, with their distributions."""
    found: dict[str, dict[Path, str]] = {}
    for folder, owner in shipped_folders("presets").items():
        for path in folder.glob("*.toml"):
            found.setdefault(path.stem, {})[path] = owner
    return found


def _toml(path: Any, name: str) -> dict[str, Any]:
    if isinstance(path, Path):
        check_regular(path, OptionError, MOST_BYTES)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise OptionError(f"preset {name}: nests too deeply") from None
    except FileNotFoundError:
        known = ", ".join(preset_names())
        raise OptionError(f"preset {name!r}: not found; shipped: {known}; or give a .toml file") from None
    except OSError as error:
        raise OptionError(f"preset {name}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise OptionError(f"preset {name}: not valid TOML: {error}") from None


def _built_in(choices: dict[str, Any]) -> dict[str, Any]:
    """What this distribution ships means its own plug-ins, whatever else is installed."""
    qualified = {key: f"{DISTRIBUTION}:{choices[key]}" for key in METHOD if isinstance(choices.get(key), str)}
    return {**choices, **qualified}
