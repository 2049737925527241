"""One run's choices: which plug-ins with which options. Built from Python, a TOML preset or the command line."""

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, ValidationError, create_model, field_validator, model_validator

from ..errors import OptionError
from ..flow.schedule import Spacing
from ..options import Options, explain
from ..registry.kinds import DISTRIBUTION, METHOD, Kind
from ..registry.loading import short_name
from ..registry.shipped import shipped_folders
from ..storage.regular import check_regular

__all__ = [
    "Choice",
    "PipelineConfig",
    "SamplerOptions",
    "choose",
    "load_preset",
    "load_task",
    "make_config",
    "merge_choices",
    "preset_names",
    "task_names",
]

MOST_PIXELS = 150_000_000  # of a working size
MOST_BYTES = 1_000_000  # of a preset
HOT = 1.5  # times the contrast of what is hot in dim infrared sources, in the look of that name
_TASKS = resources.files("fusionkit") / "presets" / "tasks"


Precision = Literal["auto", "float32", "bfloat16"]


class SamplerOptions(Options):
    """How the flow is sampled."""

    steps: int = Field(
        1, ge=1, le=100_000, description="steps from strength to 0 (euler: one evaluation each; heun: two, last one)"
    )
    restore: str = Field(
        "auto",
        description="noise of the sources that the flow takes away first: auto estimates it and leaves clean sources "
        "alone; none; or LEVEL, or LEVEL,LEVEL for one a source, in levels of 255",
    )
    strength: float = Field(
        0.0,
        ge=0,
        le=1,
        description="t1, the share of noise that the start image is taken to; 0: nothing is added, the prior works on "
        "the sources as they are, restored",
    )
    spacing: Spacing = Field("uniform", description="how the times between strength and 0 are spread")
    start: Literal["noised", "reference"] = Field(
        "noised",
        description="noised: the flow starts from the reference with a share of noise; reference: from it as is",
    )
    solver: Literal["euler", "heun", "rk45", "additive"] = Field(
        "euler", description="how x advances; additive adds the corrected estimate to it, as the released RFfusion does"
    )
    gain: float = Field(1.0, gt=0, description="factor of what additive adds")
    eta: float = Field(0.0, ge=0, le=1, description="share of fresh noise in each posterior update (euler)")
    inject: Literal["x0", "velocity", "both", "none"] = Field(
        "x0", description="where the prior acts: on the clean estimate, on the velocity through its energy, both, none"
    )
    detail: Literal["keep", "drop"] = Field(
        "keep", description="keep: what the autoencoder loses of an image is added to the estimate made from it"
    )
    finish: Literal["prior", "decoder"] = Field(
        "prior",
        description="who has the last word: the prior, or the decoder, through which the fused image goes at the end",
    )
    guidance_scale: float = Field(1.0, ge=0, description="factor of the energy's gradient")
    guidance_range: tuple[float, float] = Field((0.0, 0.95), description="times t at which the velocity is guided")
    tolerance: float = Field(1e-5, ge=1e-7, description="relative and absolute tolerance of rk45")
    precision: Precision = Field(
        "auto",
        description="arithmetic of the networks; auto: bfloat16 where sources are cleaned and the processor has it, a "
        "level of 255 at most and twice as fast, else float32 by the fastest algorithm; float32: as defined",
    )

    @field_validator("restore", mode="before")
    @classmethod
    def _levels(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = f"{value:g}"
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        if not isinstance(value, str):
            return value
        if value not in ("auto", "none"):
            try:
                good = all(0 <= float(level) <= 255 for level in value.split(","))
            except ValueError:
                good = False
            if not good:
                raise ValueError("expected auto, none, or levels of 255 such as 12 or 8,20")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.eta > 0 and self.solver != "euler":
            raise ValueError(f"eta > 0 needs solver euler; {self.solver} follows the deterministic flow")
        low, high = self.guidance_range
        if not 0 <= low <= high < 1:
            raise ValueError("guidance_range must satisfy 0 <= low <= high < 1")
        return self

    @property
    def guided(self) -> bool:
        """Whether gradients of the prior's energy are needed."""
        return self.inject in ("velocity", "both")


class Choice(Options):
    """A plug-in: a name with options, or an object that keeps the contract.

    Taken from "NAME", from {"name": "NAME", OPTION: VALUE ...}, and from an object, `MyPrior(MyPrior.Options())`. A
    name may be "distribution:NAME".
    """

    model_config = ConfigDict(title="plug-in")

    name: str = Field("", description="as in `fusionkit plugins list`; empty: whatever is the default")
    options: dict[str, Any] = Field({}, description="its options")
    instance: object = Field(None, description="the object itself, where one was given", exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _take(cls, value: Any) -> Any:
        match value:
            case str():
                return {"name": value}
            case Choice():
                return {"name": value.name, "options": value.options, "instance": value.instance}
            case Mapping() if value.get("instance") is not None:
                return {"name": type(value["instance"]).__name__, "instance": value["instance"]}
            case Mapping() if set(value) == {"options"}:
                return value
            case Mapping():
                name, options = split_choice(value)
                return {"name": name, "options": options}
            case None:
                raise ValueError("expected a name or an object, got None")
            case _:
                return {"name": type(value).__name__, "instance": value}

    def __str__(self) -> str:
        return short_name(self.name)


def split_choice(table: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """{"name": NAME, OPTION: VALUE ...}, or with the options in a table `options`: the name and the options."""
    rest = {k: v for k, v in table.items() if k not in ("name", "instance")}
    inner = rest.pop("options") if isinstance(rest.get("options"), Mapping) else {}
    if "name" not in table:
        raise ValueError(f"a plug-in needs a name: {dict(table)!r}")
    return table["name"], {**inner, **rest}


def _field(kind: Kind) -> tuple[Any, Any]:
    default = None if kind.default is None else Choice(name=f"{DISTRIBUTION}:{kind.default}")
    return (Choice | None if default is None else Choice), Field(default, description=kind.help)


# prior, backbone, decoder, color: one field for each kind of which a method has exactly one
_FIELDS: dict[str, Any] = {key: _field(kind) for key, kind in METHOD.items()}


class PipelineConfig(create_model("_Parts", __base__=Options, **_FIELDS)):  # type: ignore[misc]
    """Everything that decides the pixels of a result, apart from the sources.

    `prior`, `backbone`, `decoder` and `color` are each a `Choice`; options may also be given beside it, as
    `prior_options={"lit": 0.3}`. A value that is wrong raises OptionError.
    """

    stages: tuple[Choice, ...] = Field(
        (), description="stages around the fusion, the first one outermost: after those that the fields below stand for"
    )
    sampler: SamplerOptions = Field(SamplerOptions(), description="how the flow is sampled")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the sampler's noise")
    reference: int = Field(
        0,
        ge=0,
        le=10_000,
        description="number of the reference source, from 1; 0: the only one with colour, else the last",
    )
    resize: Literal["error", "reference"] = Field(
        "error", description="reference: sources of another size are resized to the reference (the stage resize)"
    )
    align: Literal["check", "none", "translation", "rigid", "affine"] = Field(
        "check",
        description="what is done about sources that do not lie where the reference does: check: it is said; none: "
        "nothing; translation, rigid, affine: they are found and moved by such a transform (the stage align)",
    )
    transform: str = Field(
        "", description="file of transforms, as `save_transform` writes, by which sources are moved instead"
    )
    luma: Literal["exact", "rounded"] = Field(
        "exact",
        description="rounded: the sources' luma is BT.601 in whole 8-bit levels, as OpenCV reads a grey image "
        "(the stage rounded_luma)",
    )
    working_size: tuple[PositiveInt, PositiveInt] | None = Field(
        None,
        description="height and width, as in 768x1024, that sources are resized to and the result back from, bicubic "
        "(the stage working_size)",
    )
    stretch: Literal["none", "minmax"] = Field(
        "none", description="minmax: the result's luma is stretched to the full range (the stage stretch)"
    )
    look: Literal["auto", "faithful", "vivid", "hot"] = Field(
        "auto",
        description="vivid: the contrast of a flat result is raised, beyond the range of the sources (the stage "
        "vivid); hot: before that, the contrast of what is hot in dim infrared sources, too; auto: as the prior wants "
        "it, where a source shows heat",
    )
    levels: Literal["all", "truncated"] = Field(
        "all",
        description="truncated: the result is cut down to whole 8-bit levels instead of being rounded when written "
        "(the stage truncate)",
    )
    tile: int = Field(
        0,
        ge=0,
        le=65_536,
        description="side of the networks' tiles in pixels; 0: 512 for images over 1.5 megapixels, else none",
    )

    if TYPE_CHECKING:  # the fields made from the table of kinds

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **choices: object) -> None:
        try:
            super().__init__(**choices)
        except ValidationError as error:
            raise OptionError(explain(error, type(self))) from None

    @model_validator(mode="before")
    @classmethod
    def _options_beside(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`prior_options` join `prior`."""
        values = dict(values)
        for key in METHOD:
            options = values.pop(f"{key}_options", None)
            if options:
                if not isinstance(options, Mapping):
                    raise ValueError(f"{key}_options must be a table, not {options!r}")
                choice = Choice.model_validate(values.get(key) or cls.model_fields[key].default or "")
                if choice.instance is not None:
                    raise ValueError(f"{key}_options: {key} is an object, which has its options already")
                values[key] = choice.model_copy(update={"options": {**choice.options, **options}})
        return values

    @field_validator("working_size", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        size = re.fullmatch(r"(\d+)x(\d+)", value)
        if size is None:
            raise ValueError("expected HEIGHTxWIDTH, as in 768x1024")
        return size.groups()

    @field_validator("working_size")
    @classmethod
    def _not_too_large(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] * value[1] > MOST_PIXELS:
            raise ValueError(f"{value[0]}x{value[1]} has more than {MOST_PIXELS} pixels")
        return value

    @model_validator(mode="after")
    def _tile_size(self) -> Self:
        if self.tile and self.tile < 128:
            raise ValueError("tile must be 0 or at least 128")
        return self

    def all_stages(self, look: str = "faithful") -> tuple[Choice, ...]:
        """Every stage in its order, the first one outermost: those that fields stand for, then `stages`.

        look: what the prior wants, for `look=auto`.
        """
        size = self.working_size
        built_in = {
            "resize": self.resize == "reference",
            "align": bool(self.transform) or self.align not in ("check", "none"),
            "truncate": self.levels == "truncated",
            "stretch": self.stretch == "minmax",
            "rounded_luma": self.luma == "rounded",
            "working_size": size is not None,
            "vivid": (look if self.look == "auto" else self.look) != "faithful",
        }
        options: dict[str, dict[str, Any]] = {"working_size": {"size": size}}
        options["align"] = {"transform": self.transform} if self.transform else {"model": self.align}
        if self.look in ("auto", "hot"):
            options["vivid"] = {"scenes": "heat"} if self.look == "auto" else {"hot": HOT}
        return (
            *(
                Choice(name=f"{DISTRIBUTION}:{name}", options=options.get(name, {}))
                for name, on in built_in.items()
                if on
            ),
            *self.stages,
        )


def preset_names() -> list[str]:
    """Names of the presets that packages ship."""
    return sorted(_shipped_presets())


def task_names() -> list[str]:
    """Names of the tasks."""
    return _names(_TASKS)


def _names(folder: Any) -> list[str]:
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


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


def choose(task: str | None, preset: str | Path | None, choices: dict[str, Any]) -> PipelineConfig:
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
    return make_config(merge_choices(merged, choices))


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


def merge_choices(base: dict[str, Any], choices: dict[str, Any]) -> dict[str, Any]:
    """`choices` over `base`: options are merged key by key, those of a plug-in that is replaced are dropped."""
    base, choices = _beside(base), _beside(choices)
    stale = {
        f"{key}_options"
        for key, kind in METHOD.items()
        if key in choices and not _same(choices[key], base.get(key, kind.default))
    }
    base = {k: v for k, v in base.items() if k not in stale}
    merged = {**base, **choices}
    for name in base.keys() & choices.keys():
        if isinstance(choices[name], dict):
            if not isinstance(base[name], dict):
                raise OptionError(f"preset: {name} must be a table, not {base[name]!r}")
            merged[name] = {**base[name], **choices[name]}
    return merged


def _beside(choices: dict[str, Any]) -> dict[str, Any]:
    """prior = {name = "em_tv", lit = 0.3} as prior = "em_tv", prior_options = {lit = 0.3}."""
    choices = dict(choices)
    if isinstance(choices.get("sampler"), SamplerOptions):
        choices["sampler"] = choices["sampler"].model_dump(exclude_unset=True)
    for key in METHOD:
        value = choices.get(key)
        if isinstance(value, Choice) and value.instance is None:
            value = {"name": value.name, "options": value.options}
        if isinstance(value, Mapping):
            try:
                choices[key], options = split_choice(value)
            except ValueError as error:
                raise OptionError(f"{key}: {error}") from None
            choices[f"{key}_options"] = {**options, **choices.get(f"{key}_options", {})}
    return choices


def _same(a: Any, b: Any) -> bool:
    """Whether two choices are one plug-in, as far as their names tell."""
    if not (isinstance(a, str) and isinstance(b, str)):
        return a is b
    return short_name(a) == short_name(b) and (a == b or ":" not in a or ":" not in b)


def make_config(choices: dict[str, Any]) -> PipelineConfig:
    """Validate choices; a wrong one is an OptionError of one line."""
    return PipelineConfig(**choices)
