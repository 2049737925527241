"""Choices of plug-ins: a name, a table or an object becomes a `Choice` at once, and choices are merged."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from ..errors import OptionError
from ..options import Options, explain
from ..registry.kinds import METHOD
from ..registry.loading import short_name
from .words import as_text, named


class Choice(Options):
    """A plug-in: a name with options, or an object that keeps the contract.

    Taken from "NAME", from {"name": "NAME", OPTION: VALUE ...}, and from an object, `MyPrior(MyPrior.Options())`. A
    name may be "distribution:NAME"; without a name the options are those of the default.
    """

    model_config = ConfigDict(title="plug-in")

    name: str = Field("", description="as in `fusionkit plugins list`; empty: the default")
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
            case Mapping():
                beside = {k: v for k, v in value.items() if k not in ("name", "instance")}
                inner = beside.pop("options") if isinstance(beside.get("options"), Mapping) else {}
                if beside and "name" not in value:
                    raise ValueError(f"a plug-in needs a name: {dict(value)!r}")
                return {"name": value.get("name", ""), "options": {**inner, **beside}}
            case None:
                raise ValueError("expected a name or an object, got None")
            case _:
                return {"name": type(value).__name__, "instance": value}

    def __str__(self) -> str:
        return short_name(self.name)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({str(self)!r}{options})"

    def over(self, base: "Choice | None", default: str | None = None) -> "Choice":
        """Merge this choice into an earlier one: options are joined if both name one plug-in.

        default: the name that an empty one stands for.
        """
        if base is None or self.instance is not None or (base.instance is not None and self.name):
            return self
        if base.instance is not None:
            raise OptionError(f"{base.name} is an object, which has its options already")
        a, b = (choice.name or default or "" for choice in (self, base))
        same = short_name(a) == short_name(b) and (a == b or ":" not in a or ":" not in b)
        if not (same or not self.name):
            return self
        return Choice(name=self.name or base.name, options={**base.options, **self.options})


class Restoring(Options):
    """What is undone in one source or in all: a degradation, or "auto" or "none" in place of its name.

    Taken from "[NUMBER=]NAME[:KEY=VALUE,...]", from {"source": 1, "name": "NAME", OPTION: VALUE ...}, from an object.
    """

    model_config = ConfigDict(title="[NUMBER=]NAME[:KEY=VALUE,...]")

    source: int = Field(0, ge=0, le=10_000, description="number of the source, from 1; 0: all")
    degradation: Choice = Field(description="the degradation, auto or none")

    @model_validator(mode="before")
    @classmethod
    def _take(cls, value: Any) -> Any:
        match value:
            case str():
                number, alone, text = value.partition("=")
                if ":" in number or not alone:
                    return {"degradation": named(value, "`restore`")}
                if not number.strip().isdecimal():
                    raise OptionError(
                        f"`restore={value}`: before = stands the number of a source, from 1, or 0 for all"
                    )
                return {"source": int(number), "degradation": named(text.strip(), "`restore`")}
            case Restoring():
                return {"source": value.source, "degradation": value.degradation}
            case Mapping() if "degradation" in value:
                return value
            case Mapping():
                choice = {k: v for k, v in value.items() if k != "source"}
                return {"source": value.get("source", 0), "degradation": choice}
            case _:
                return {"degradation": value}

    @model_serializer
    def __str__(self) -> str:
        """The restoring in words, which are taken back."""
        choice, source = self.degradation, f"{self.source}=" if self.source else ""
        options = ",".join(f"{k}={as_text(v)}" for k, v in choice.options.items())
        return f"{source}{choice.name}" + (f":{options}" if options else "")


def gathered(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Join each plug-in with the options beside it (`prior_options`) into one `Choice`."""
    result = dict(choices)
    for key in METHOD:
        beside = result.pop(f"{key}_options", None)
        if result.get(key) is not None:
            try:
                result[key] = Choice.model_validate(result[key])
            except ValidationError as error:
                raise OptionError(explain(error, Choice, key)) from None
        if beside:
            if not isinstance(beside, Mapping):
                raise OptionError(f"{key}_options must be a table, not {beside!r}")
            try:
                result[key] = Choice(options=dict(beside)).over(result.get(key))
            except OptionError as error:
                raise OptionError(f"{key}_options: {error}") from None
    return result


def merge_choices(base: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `choices` over `base`: tables key by key; a plug-in that is replaced takes its options with it."""
    before, after = gathered(base), gathered(choices)
    merged = {**before, **after}
    for key in before.keys() & after.keys():
        old, new = _table(before[key]), _table(after[key])
        if isinstance(new, Choice):
            merged[key] = new.over(old, METHOD[key].default)
        elif isinstance(new, dict):
            if not isinstance(old, dict):
                raise OptionError(f"preset: {key} must be a table, not {old!r}")
            merged[key] = {**old, **new}
    return merged


def _table(value: Any) -> Any:
    """The values that were set in an options model; a choice or anything else as it is."""
    plain = isinstance(value, Choice) or not isinstance(value, BaseModel)
    return value if plain else value.model_dump(exclude_unset=True)
