"""Options as pydantic models: strict, frozen, and explained in one line where a value is wrong."""

import difflib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import OptionError

__all__ = ["Options", "describe_field", "describe_limits", "describe_type", "explain", "validate_options"]

Model = TypeVar("Model", bound=BaseModel)


class Options(BaseModel):
    """Base of every options model: a key that does not exist is an error, and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def validate_options(model: type[Model], options: Mapping[str, Any], owner: str) -> Model:
    """Build an options model; an unknown key or a wrong value is one line that says what is possible."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise OptionError(f"{owner}: {explain(error, model)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """All that is wrong, on one line: key, value, expected type and range, default; or the nearest key that exists."""
    problems = []
    for item in error.errors():
        owner, known = _owner(model, item["loc"])
        key = ".".join(map(str, item["loc"]))
        last = str(item["loc"][-1]) if item["loc"] else ""
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(last, known, n=1)
            hint = f"; did you mean {owner + near[0]!r}?" if near else ""
            problems.append(f"no option {key!r}{hint} (options: {', '.join(known) or 'none'})")
        else:
            text = item["msg"][:1].lower() + item["msg"][1:]
            text = text.removeprefix("value error, ")
            if item["loc"]:
                described = f" ({describe_field(known[last])})" if last in known else ""
                text = f"{key}={item['input']!r}: {text}{described}"
            problems.append(text.removeprefix("value error, "))
    return "; ".join(problems)


def _owner(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, Mapping[str, Any]]:
    """The fields among which the last part of `loc` is looked up, and the path that leads to them."""
    path, fields = "", model.model_fields
    for part in loc[:-1]:
        inner = fields[str(part)].annotation if str(part) in fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return path, fields if str(part) not in fields else {str(loc[-1]): fields[str(part)]}
        path, fields = f"{path}{part}.", inner.model_fields
    return path, fields


def describe_field(info: Any) -> str:
    """Type, range and default of a pydantic field, as text."""
    default = info.get_default(call_default_factory=True)
    return ", ".join([describe_type(info.annotation), *describe_limits(info), f"default {_shown(default)}"])


def describe_limits(info: Any) -> list[str]:
    """The bounds of a numeric field: [">= 0", "< 1"]."""
    symbols = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [f"{symbols[k]} {getattr(m, k)}" for m in info.metadata for k in symbols if hasattr(m, k)]


def describe_type(annotation: Any) -> str:
    """A type as users read it: choices by name, optional values by what they may be."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(describe_type(a) for a in arguments if a is not type(None))
    if getattr(annotation, "__metadata__", None):  # Annotated
        return describe_type(arguments[0])
    if origin in (list, tuple) and arguments:
        inner = [describe_type(a) for a in arguments if a is not Ellipsis]
        return f"{origin.__name__} of {' and '.join(dict.fromkeys(inner))}"
    if origin is not None:
        return str(annotation).replace("typing.", "")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return str(annotation.model_config.get("title") or "table")
    named = {int: "whole number", float: "number", str: "text", bool: "yes or no"}
    return str(named.get(annotation) or getattr(annotation, "__name__", annotation))


def _shown(default: Any) -> str:
    if isinstance(default, BaseModel):
        return str(default) if type(default).__str__ is not BaseModel.__str__ else "its defaults"
    return repr(default)
