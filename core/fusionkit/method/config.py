"""The configuration of a method: plug-ins with their options, stages, and how the flow is sampled."""

import difflib
from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from ..errors import OptionError
from ..extras import DISTRIBUTION
from ..flow.schedule import Spacing
from ..options import ByKey, Options, When, effective, explained, validate_options
from ..registry.kinds import KINDS, METHOD
from ..registry.loading import Registry, get_registry, short_name
from .choice import Choice, Restoring, gathered
from .flags import flag_field, stage_flags
from .words import several

Precision = Literal["auto", "float32", "bfloat16"]
MOVES = When("strength", above=0)
GUIDED = When("inject", "velocity", "both")


class SamplerOptions(Options):
    """How the flow is sampled.

    Most options are read at a `strength` above 0 only. A prior may have its own defaults, so `check_read` is called
    after `sampling_of` has merged these.
    """

    checked_later = True

    strength: float = Field(
        0.0,
        ge=0,
        le=1,
        description="t1, the share of noise added to the start image; 0: nothing is added and nothing sampled, the "
        "prior works on the restored sources",
    )
    steps: Annotated[int, MOVES, When("solver", "euler", "heun", "additive")] = Field(
        1,
        ge=1,
        le=100_000,
        description="steps from strength to 0; euler: one evaluation per step; heun: two, but one in the last step",
    )
    spacing: Annotated[Spacing, ByKey(), When("steps", above=1)] = Field(
        "uniform", description="spacing of the times between strength and 0"
    )
    start: Annotated[Literal["noised", "reference"], ByKey(), MOVES] = Field(
        "noised", description="noised: the flow starts from the reference with noise; reference: without"
    )
    solver: Annotated[Literal["euler", "heun", "rk45", "additive"], MOVES] = Field(
        "euler", description="how x advances; additive adds the corrected estimate to it, as the released RFfusion does"
    )
    gain: Annotated[float, ByKey(), When("solver", "additive")] = Field(
        1.0, gt=0, description="factor of what additive adds"
    )
    eta: Annotated[float, When("solver", "euler"), When("steps", above=1)] = Field(
        0.0, ge=0, le=1, description="share of fresh noise in each posterior update"
    )
    inject: Literal["x0", "velocity", "both", "none"] = Field(
        "x0", description="where the prior acts: on the clean estimate, on the velocity through its energy, both, none"
    )
    detail: Annotated[Literal["keep", "drop"], ByKey(), MOVES] = Field(
        "keep", description="keep: detail that the autoencoder loses is added back to the estimate"
    )
    finish: Annotated[Literal["prior", "decoder"], ByKey()] = Field(
        "prior", description="decoder: the fused image goes through encoder and decoder once more at the end"
    )
    guidance_scale: Annotated[float, ByKey(), GUIDED] = Field(1.0, ge=0, description="factor of the energy's gradient")
    guidance_range: Annotated[tuple[float, float], ByKey(), GUIDED] = Field(
        (0.0, 0.95), description="times t at which the velocity is guided"
    )
    tolerance: Annotated[float, ByKey(), When("solver", "rk45")] = Field(
        1e-5, ge=1e-7, description="relative and absolute tolerance of rk45"
    )
    precision: Precision = Field(
        "auto",
        description="arithmetic of the networks; auto: bfloat16 where sources are cleaned and the processor has it, a "
        "level of 255 at most and twice as fast, else float32 by the fastest algorithm; float32: as defined",
    )

    @field_validator("guidance_range")
    @classmethod
    def _within_time(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] < 1:
            raise ValueError("must satisfy 0 <= low <= high < 1")
        return value

    @property
    def guided(self) -> bool:
        """Whether gradients of the prior's energy are needed."""
        return self.inject in ("velocity", "both")


def sampling_of(
    chosen: SamplerOptions, wanted: Mapping[str, Any], *, most: float = 1.0, lossless: bool = False
) -> SamplerOptions:
    """Merge the user's options over a prior's defaults, of which those are kept that are read beside the user's.

    most: the largest strength that the prior may choose. lossless: whether the decoder is, so that no detail is lost.
    """
    given = {name: getattr(chosen, name) for name in chosen.model_fields_set}
    own = {name: value for name, value in wanted.items() if not (lossless and name == "detail")}
    if "strength" in own:
        own["strength"] = min(own["strength"], most)
    read = effective(SamplerOptions, {**own, **given})
    return validate_options(SamplerOptions, {**{k: v for k, v in own.items() if k in read}, **given}, "sampler")


def _default(key: str) -> Choice:
    return Choice(name=f"{DISTRIBUTION}:{METHOD[key].default}")


class PipelineConfig(Options):
    """Everything that decides the pixels of a result, apart from the sources.

    The options of a plug-in may also be given beside it, as `prior_options={"lit": 0.3}`. Instances have the
    fields that stages state, too (`resize`, `align`, `look` ...). A wrong value raises OptionError.
    """

    prior: Choice = Field(_default("prior"), description=METHOD["prior"].help)
    backbone: Choice = Field(_default("backbone"), description=METHOD["backbone"].help)
    decoder: Choice | None = Field(None, description=METHOD["decoder"].help)
    color: Choice = Field(_default("color"), description=METHOD["color"].help)
    stages: tuple[Choice, ...] = Field(
        (), description="stages around the fusion, the first one outermost; inside those that other fields add"
    )
    restore: tuple[Restoring, ...] = Field(
        (Restoring(degradation=Choice(name="auto")),), description=KINDS["degradation"].help
    )
    sampler: SamplerOptions = Field(SamplerOptions(), description="how the flow is sampled")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the sampler's noise")
    reference: int = Field(
        0,
        ge=0,
        le=10_000,
        description="number of the reference source, from 1; 0: the only one with colour, a bracket's middle exposure, "
        "or the last",
    )
    tile: int = Field(
        0,
        ge=0,
        le=65_536,
        description="side of the networks' tiles in pixels, at least 256; 0: 768 for images over 1.5 megapixels, else "
        "none",
    )

    if TYPE_CHECKING:  # fields that stages state

        def __getattr__(self, name: str) -> Any: ...

    def __new__(cls, *_: object, **__: object) -> Self:
        """An instance of `configuration()`, which has the stages' fields."""
        return cast(Self, super().__new__(configuration() if cls is PipelineConfig else cls))

    def __init__(self, **choices: object) -> None:
        try:
            super().__init__(**choices)
        except ValidationError as error:
            raise explained(error, type(self)) from None

    def __reduce__(self) -> Any:
        """Pickle the fields that were set; unpickling makes the class with the stages' fields again."""
        return partial(PipelineConfig, **{name: getattr(self, name) for name in self.model_fields_set}), ()

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Join plug-ins with the options beside them, and name the default where no name was given."""
        values = gathered(values)
        for key, kind in METHOD.items():
            choice = values.get(key)
            if choice is not None and not choice.name and kind.default:
                values[key] = choice.over(_default(key))
        return values

    @field_validator("restore", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        given = value if isinstance(value, list | tuple) else (value,)
        return [one for item in given for one in (several(item) if isinstance(item, str) else (item,))]

    @field_validator("restore")
    @classmethod
    def _apart(cls, value: tuple[Restoring, ...]) -> tuple[Restoring, ...]:
        words = [(r.source, short_name(r.degradation.name)) for r in value]
        if not value or (words != [(0, "none")] and any(name == "none" for _, name in words)):
            raise ValueError("expected auto, none, or degradations; none stands alone")
        if any(word.degradation.options for word in value if word.degradation.name in ("auto", "none")):
            raise ValueError("auto and none take no options")
        if twice := next((w for i, w in enumerate(words) if w in words[:i]), None):
            raise ValueError(f"{twice[1]} is named twice for one source")
        return value

    @field_validator("tile")
    @classmethod
    def _tile_size(cls, value: int) -> int:
        if 0 < value < 256:
            raise ValueError("must be 0 or at least 256")
        return value


def configuration() -> type[PipelineConfig]:
    """`PipelineConfig` with the fields that the installed stages state."""
    return _with_fields(get_registry())


@cache
def _with_fields(registry: Registry) -> type[PipelineConfig]:
    fields: dict[str, Any] = {flag.name: flag_field(flag) for flag in stage_flags(registry)}
    return create_model("PipelineConfig", __base__=PipelineConfig, __module__=__name__, **fields)


def placed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sort values into choices; keys are fields, options of the sampler (`steps`) or of a plug-in (`prior.lit`)."""
    choices: dict[str, Any] = {}
    for key, value in values.items():
        head, _, rest = key.partition(".")
        if key in SamplerOptions.model_fields or (head == "sampler" and rest):
            choices.setdefault("sampler", {})[rest or key] = value
        elif head in METHOD and rest:
            choices.setdefault(f"{head}_options", {})[rest] = value
        elif key in configuration().model_fields and key != "sampler":
            choices[key] = value
        else:
            known = [*configuration().model_fields, *SamplerOptions.model_fields]
            near = difflib.get_close_matches(key, known, n=1)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f"there are {', '.join(known)}, and KIND.OPTION, as in prior.lit"
            )
            raise OptionError(f"{key}: no such choice; {hint}")
    return choices


def make_config(choices: Mapping[str, Any]) -> PipelineConfig:
    """Validate choices; a wrong one raises OptionError."""
    return PipelineConfig(**choices)
