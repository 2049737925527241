"""Choices from names: tasks, shipped presets and TOML files, and the choices that override them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..extras import DISTRIBUTION
from ..registry.kinds import METHOD
from ..registry.shipped import shipped_folders
from ..scene import SCENE_KINDS, SceneKind
from ..storage.regular import read_toml
from .choice import merge_choices
from .config import PipelineConfig


def preset_names() -> list[str]:
    """Names of the presets that packages ship."""
    return sorted(_shipped_presets())


def task_names() -> list[str]:
    """Names of the tasks, one for each kind of scene."""
    return sorted(kind.task for kind in SCENE_KINDS.values())


def task_scene(task: str) -> SceneKind:
    """The kind of scene that a task serves."""
    for kind in SCENE_KINDS.values():
        if kind.task == task:
            return kind
    raise OptionError(f"no task {task!r}; tasks: {', '.join(task_names())}")


def load_task(task: str) -> dict[str, Any]:
    """A task's choices: the default prior, told the kind of scene."""
    return {
        "prior": f"{DISTRIBUTION}:{METHOD['prior'].default}",
        "prior_options": {"evidence": task_scene(task).name},
    }


def task_text(task: str) -> str:
    """A task's choices as TOML, after a line that explains them."""
    kind = task_scene(task)
    return (
        f"# {kind.title[0].upper()}{kind.title[1:]}. {kind.about}.\n"
        f'prior = "{METHOD["prior"].default}"\n\n[prior_options]\nevidence = "{kind.name}"\n'
    )


def choose(task: str | None, preset: str | Path | None, choices: Mapping[str, Any]) -> PipelineConfig:
    """The configuration of a task, overridden by a preset, overridden by choices; any may be missing.

    A preset may name the task that it overrides; `task` takes the place of that name.
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

    A preset of this distribution names its own plug-ins; names in others are looked up as a user's are.
    """
    own = Path(name)
    if own.suffix or own.parent.name or not own.name or own.is_file():
        return _toml(own, str(name))
    shipped = _shipped_presets().get(str(name), {own.with_suffix(".toml"): ""})
    if len(shipped) > 1:
        files = " and ".join(f"{owner} ({path})" for path, owner in shipped.items())
        raise OptionError(f"preset {str(name)!r} is shipped by {files}: give the path of one")
    [(path, owner)] = shipped.items()
    choices = _toml(path, str(name))
    if owner == DISTRIBUTION:
        choices |= {key: f"{DISTRIBUTION}:{choices[key]}" for key in METHOD if isinstance(choices.get(key), str)}
    return choices


def _shipped_presets() -> dict[str, dict[Path, str]]:
    """Files of each preset that packages ship, with their distributions."""
    found: dict[str, dict[Path, str]] = {}
    for folder, owner in shipped_folders("presets").items():
        for path in folder.glob("*.toml"):
            found.setdefault(path.stem, {})[path] = owner
    return found


def _toml(path: Path, name: str) -> dict[str, Any]:
    known = ", ".join(preset_names())
    return read_toml(path, f"not found; shipped: {known}; or give a .toml file", f"preset {name!r}")
