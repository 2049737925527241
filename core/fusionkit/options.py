"""Options as pydantic models: strict, frozen, and explained in one line where a value is wrong.

Fields say more than their type: `FilePath` and `WeightsName` mark text that names a file, and `When` the value of
another field with which a field is read. Validation, help, documentation and the page read these marks.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from .errors import NoEffect, OptionError

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Opens:
    """Marks a text that names something on this machine's disk."""

    what: Literal["file", "weights"]
    described: str


FilePath = Annotated[str, _Opens("file", "file")]
WeightsName = Annotated[str, _Opens("weights", "name of weights, or a file")]


@dataclass(frozen=True, slots=True, init=False)
class When:
    """A field is read only while another field of its model has one of these values, or is above a number.

        eta: Annotated[float, When("solver", "euler")] = Field(0.0, ge=0, le=1)
        steps: Annotated[int, When("strength", above=0)] = Field(1, ge=1)

    A field that has several is read while all of them hold, and never where the other field is not read itself.
    """

    field: str
    values: tuple[Any, ...]
    above: float | None

    def __init__(self, field: str, *values: Any, above: float | None = None) -> None:
        if bool(values) == (above is not None):
            raise TypeError("When: give values of the other field, or a number that it must be above")
        for name, value in {"field": field, "values": values, "above": above}.items():
            object.__setattr__(self, name, value)

    def holds(self, value: Any) -> bool:
        """Whether the other field's value is one with which the field is read."""
        return bool(value in self.values if self.above is None else value > self.above)

    def __str__(self) -> str:
        """The condition in words: solver euler or heun; strength above 0."""
        return f"{self.field} {self._wanted}"

    def quoted(self) -> str:
        """The condition with the field in backquotes, as messages of the core have it."""
        return f"`{self.field}` {self._wanted}"

    @property
    def _wanted(self) -> str:
        if self.above is not None:
            return f"above {self.above:g}"
        *words, last = (word(value) or "left out" for value in self.values)
        return f"{', '.join(words)} or {last}" if words else last


@dataclass(frozen=True, slots=True)
class ByKey:
    """Marks a field that the command line takes by KEY=VALUE alone, without an option of its own."""


class Options(BaseModel):
    """Base of every options model: unknown keys and options without effect are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    checked_later: ClassVar[bool] = False  # whether `check_read` is called by whoever completes the options

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """A condition on a field that does not exist is the author's error."""
        for name, info in cls.model_fields.items():
            for when in conditions(info):
                if when.field not in cls.model_fields:
                    raise TypeError(f"{cls.__name__}.{name}: When names {when.field!r}, which is no field")

    @model_validator(mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            info = cls.model_fields.get(name) if isinstance(value, bool) else None
            kinds = {info.annotation, *get_args(info.annotation)} if info is not None else set()
            if info is not None and kinds & {int, float} and bool not in kinds:
                raise ValueError(f"`{name}={str(value).lower()}`: {_expected(info)}")
        return values

    @model_validator(mode="after")
    def _all_read(self) -> Self:
        if not self.checked_later:
            self.check_read()
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Fields that differ from their default, for `repr`."""
        for name, info in type(self).model_fields.items():
            if (value := getattr(self, name)) != info.get_default(call_default_factory=True):
                yield name, value

    def check_read(self) -> None:
        """Refuse a value that differs from its default where the other options leave it unread."""
        for name, info in type(self).model_fields.items():
            failed, value = _unread(self, name), getattr(self, name)
            if failed is not None and value != info.get_default(call_default_factory=True):
                raise NoEffect(
                    f"`{name}={word(value)}` is read only with {failed.quoted()}; here `{failed.field}` is "
                    f"{word(getattr(self, failed.field))}"
                )


def conditions(info: FieldInfo) -> list[When]:
    """Conditions under which a field is read; empty: always."""
    return [mark for mark in info.metadata if isinstance(mark, When)]


def _unread(model: BaseModel, name: str) -> When | None:
    """The condition that keeps a field from being read, its own or one of the fields it depends on; None: it is."""
    for when in conditions(type(model).model_fields[name]):
        if not when.holds(getattr(model, when.field)):
            return when
        if (above := _unread(model, when.field)) is not None:
            return above
    return None


def effective(model: type[Model], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options, of valid values, that are read when they are given together."""
    given = model.model_construct(**options)
    return {k: v for k, v in options.items() if k not in model.model_fields or _unread(given, k) is None}


def opens(field: Any) -> Literal["", "file", "weights"]:
    """What on this machine's disk a field, or a value of an annotation, can name: nothing, any file, or weights.

    Looks into Annotated, unions, containers and nested models; `pathlib.Path` and pydantic's path types are files.
    """
    found = set(_opened(field, set()))
    return "file" if "file" in found else "weights" if "weights" in found else ""


def _opened(annotation: Any, seen: set[Any]) -> Iterator[Literal["file", "weights"]]:
    if isinstance(annotation, FieldInfo):
        yield from (mark.what for mark in annotation.metadata if isinstance(mark, _Opens))
        annotation = annotation.annotation
    if get_origin(annotation) is Literal:
        return
    for part in (*getattr(annotation, "__metadata__", ()), getattr(annotation, "__value__", None)):
        if isinstance(part, _Opens):
            yield part.what
        elif part is not None and part is not annotation:  # the meaning of `type Name = ...`
            yield from _opened(part, seen)
    for part in get_args(annotation):
        yield from _opened(part, seen)
    if not isinstance(annotation, type) or annotation in seen:
        return
    seen.add(annotation)
    if issubclass(annotation, os.PathLike):
        yield "file"
    elif issubclass(annotation, BaseModel):
        for info in annotation.model_fields.values():
            yield from _opened(info, seen)


def validate_options(model: type[Model], options: Mapping[str, Any], owner: str) -> Model:
    """Build an options model; an unknown key or a wrong value is one line that says what is possible."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise explained(error, model, owner) from None
    except NoEffect as error:
        raise NoEffect(f"{owner}: {error}" if owner else str(error)) from None


def split_texts(model: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with texts such as "0.1,0.9" split at commas where a field holds several values."""
    texts = {name: value for name, value in options.items() if isinstance(value, str) and name in model.model_fields}
    several = {}
    for name, text in texts.items():
        annotation = model.model_fields[name].annotation
        any_number = get_origin(annotation) is list or Ellipsis in get_args(annotation)
        if text and get_origin(annotation) in (tuple, list) and ("," in text or any_number):
            several[name] = text.split(",")
    return {**options, **several}


def explained(error: ValidationError, model: type[BaseModel], owner: str = "") -> OptionError:
    """The error of one line for what pydantic found."""
    return OptionError(explain(error, model, owner))


def first_of(error: ValidationError) -> str:
    """The first thing that pydantic found: where, and what; for files, which no user has typed key by key."""
    first = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))


def explain(error: ValidationError, model: type[BaseModel], owner: str = "") -> str:
    """All that is wrong, on one line: each key with its value and what was expected, or the nearest key that exists.

    owner: whose options they are, stated first; without one they are fields of the core, in backquotes.
    """
    problems: dict[str, str] = {}
    for item in error.errors():
        path, fields = _field(model, item["loc"])
        key, last = ".".join(path), path[-1] if path else ""
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden" and len(path) == len(item["loc"]):
            known = _with_tables(fields)
            near = [".".join([*path[:-1], known[name]]) for name in difflib.get_close_matches(last, known, n=1)]
            hint = f"; did you mean {near[0]!r}?" if near else f" (options: {', '.join(fields) or 'none'})"
            problems[key] = f"no option {key!r}{hint}"
        elif not path:
            problems[key] = message
        else:
            given = key if item["type"] == "missing" else f"{key}={word(item['input'])}"
            own = item["type"] in ("value_error", "finite_number", "missing", "extra_forbidden") or last not in fields
            plain = message[:1].lower() + message[1:] if own else _expected(fields[last])
            problems.setdefault(key, f"{given if owner else f'`{given}`'}: {plain}")
    return ": ".join(filter(None, (owner, "; ".join(problems.values()))))


def _field(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], Mapping[str, FieldInfo]]:
    """The path of an error's innermost key of options models, and the fields among which that key is looked up."""
    path: list[str] = []
    fields: Mapping[str, FieldInfo] = {}
    inner: Any = model
    for part in map(str, loc):
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        path, fields = [*path, part], inner.model_fields
        inner = fields[part].annotation if part in fields else None
    return path, fields


def _with_tables(fields: Mapping[str, FieldInfo]) -> dict[str, str]:
    """What can be meant among fields: each one, and those of tables by their own name, as `sampler.strength`."""
    tables = {name: info.annotation for name, info in fields.items()}
    inner = {
        own: f"{name}.{own}"
        for name, table in tables.items()
        if isinstance(table, type) and issubclass(table, BaseModel)
        for own in table.model_fields
    }
    return {**inner, **{name: name for name in fields}}


def _expected(info: FieldInfo) -> str:
    """The type and range of a field, as the end of an error message."""
    described = describe_type(info)
    if " | " in described:
        *words, last = described.split(" | ")
        return f"expected {', '.join(words)} or {last}"
    article = "a " if described in ("whole number", "number", "file", "table") else ""
    return " ".join([f"expected {article}{described}", " and ".join(describe_limits(info))]).rstrip()


def describe_field(info: Any) -> str:
    """Type, range, default of a pydantic field, and the other options that it is read with, as text."""
    default = info.get_default(call_default_factory=True)
    read = [f"read with {' and '.join(map(str, whens))}"] if (whens := conditions(info)) else []
    return ", ".join([describe_type(info), *describe_limits(info), f"default {_shown(default)}", *read])


def describe_limits(info: Any) -> list[str]:
    """The bounds of a numeric field: [">= 0", "< 1"]."""
    symbols = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [f"{symbols[k]} {getattr(m, k)}" for m in info.metadata for k in symbols if hasattr(m, k)]


def describe_type(annotation: Any) -> str:
    """The type of a field, or an annotation, as users read it: choices by name, pairs as number,number."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    marks = annotation.metadata if isinstance(annotation, FieldInfo) else getattr(annotation, "__metadata__", ())
    for mark in marks:
        if isinstance(mark, _Opens):
            return mark.described
    if isinstance(annotation, FieldInfo):
        return describe_type(annotation.annotation)
    if origin is Annotated or hasattr(annotation, "__metadata__"):
        return describe_type(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        inner = [describe_type(a) for a in arguments if a is not type(None)]
        return (" | " if any(" | " in text for text in inner) else " or ").join(inner)
    if origin in (list, tuple) and arguments:
        inner = [describe_type(a) for a in arguments if a is not Ellipsis]
        return ",".join(inner) if origin is tuple and Ellipsis not in arguments else f"list of {inner[0]}"
    if origin is not None:
        return str(annotation).replace("typing.", "")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return str(annotation.model_config.get("title") or "table")
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    named = {int: "whole number", float: "number", str: "text", bool: "yes or no"}
    return str(named.get(annotation) or getattr(annotation, "__name__", annotation))


def _shown(default: Any) -> str:
    if isinstance(default, BaseModel):
        return str(default) if type(default).__str__ is not BaseModel.__str__ else "its defaults"
    if isinstance(default, tuple) and default and all(isinstance(item, BaseModel) for item in default):
        return " ".join(map(_shown, default))
    return repr(default)


def word(value: Any) -> str:
    """A value as users write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ",".join(map(word, value))
    if isinstance(value, BaseModel):
        return ",".join(f"{name}={word(getattr(value, name))}" for name in value.model_fields_set)
    return f"{value:g}" if isinstance(value, float) else str(value)
