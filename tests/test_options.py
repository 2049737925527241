"""Options as pydantic models: what they refuse, what their fields say of themselves."""

from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import pydantic
import pytest
from pydantic import BaseModel, Field

from fusionkit.errors import NoEffect, OptionError
from fusionkit.options import (
    FilePath,
    Options,
    WeightsName,
    When,
    describe_field,
    describe_type,
    effective,
    opens,
    validate_options,
)


class Flow(Options):
    strength: float = Field(0.0, ge=0)
    steps: Annotated[int, When("strength", above=0)] = Field(1, ge=1)
    solver: Annotated[Literal["euler", "heun"], When("strength", above=0)] = "euler"
    eta: Annotated[float, When("solver", "euler")] = 0.0


class Named(Options):
    file: FilePath = ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 4}, "x: `steps=4` is read only with `strength` above 0; here `strength` is 0"),
        (
            {"strength": 0.1, "solver": "heun", "eta": 0.5},
            "x: `eta=0.5` is read only with `solver` euler; here `solver` is heun",
        ),
        ({"eta": 0.5}, "x: `eta=0.5` is read only with `strength` above 0; here `strength` is 0"),
    ],
)
def test_a_value_that_is_not_read_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NoEffect) as error:
        validate_options(Flow, options, "x")
    assert str(error.value) == message


def test_what_is_read_and_what_equals_the_default_passes() -> None:
    assert validate_options(Flow, {"strength": 0.1, "steps": 4, "eta": 0.5}, "x").eta == 0.5
    assert validate_options(Flow, {"steps": 1, "eta": 0}, "x") == Flow()


def test_an_inner_model_is_refused_in_the_same_words() -> None:
    class Outer(Options):
        flow: Flow = Flow()

    with pytest.raises(NoEffect, match=r"^x: `steps=2` is read"):
        validate_options(Outer, {"flow": {"steps": 2}}, "x")


def test_effective_options_are_those_that_are_read() -> None:
    assert effective(Flow, {"strength": 0, "steps": 4, "eta": 0.5}) == {"strength": 0}
    assert effective(Flow, {"strength": 0.1, "solver": "heun", "steps": 4, "eta": 0.5}) == {
        "strength": 0.1,
        "solver": "heun",
        "steps": 4,
    }


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        (str, ""),
        (Literal["file", "weights"], ""),
        (FilePath, "file"),
        (WeightsName, "weights"),
        (WeightsName | None, "weights"),
        (Optional[FilePath], "file"),  # noqa: UP045
        (Union[int, list[FilePath]], "file"),  # noqa: UP007
        (tuple[WeightsName, ...], "weights"),
        (dict[str, Named], "file"),
        (Annotated[FilePath, Field(max_length=9)], "file"),
        (Path, "file"),
        (Path | None, "file"),
        (pydantic.FilePath, "file"),
        (list[pydantic.DirectoryPath], "file"),
        (pydantic.NewPath, "file"),
        (WeightsName | FilePath, "file"),
    ],
)
def test_what_a_field_can_open_is_found_in_its_type(annotation: Any, what: str) -> None:
    model = pydantic.create_model("M", field=(annotation, ...))
    assert opens(annotation) == what
    assert opens(model.model_fields["field"]) == what


def test_a_model_that_holds_itself_is_walked_once() -> None:
    class Node(BaseModel):
        children: "list[Node]" = []
        weights: WeightsName = ""

    Node.model_rebuild(_types_namespace={"Node": Node})
    assert opens(Node) == "weights"


def test_types_and_conditions_are_described() -> None:
    assert describe_type(FilePath) == describe_type(Named.model_fields["file"]) == "file"
    assert describe_type(WeightsName | None) == "name of weights, or a file"
    assert describe_field(Flow.model_fields["eta"]) == "number, default 0.0, read with solver euler"
    assert describe_field(Flow.model_fields["steps"]) == "whole number, >= 1, default 1, read with strength above 0"
    assert describe_type(tuple[float, float] | None) == "number,number"
    assert describe_type(tuple[str, ...]) == "list of text"
    assert (
        describe_type(tuple[tuple[float, float] | Literal["auto", "full"], ...])
        == "list of number,number | auto | full"
    )


class Sized(Options):
    size: tuple[int, int] | None = None
    jobs: int = Field(0, ge=0)
    share: float = Field(0.5, gt=0, lt=1)
    engine: Literal["processes", "ray"] = "processes"
    flow: Flow = Flow()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": "two"}, "`jobs=two`: expected a whole number >= 0"),
        ({"share": 1}, "`share=1`: expected a number > 0 and < 1"),
        ({"share": float("inf")}, "`share=inf`: input should be a finite number"),
        ({"engine": "dask"}, "`engine=dask`: expected processes or ray"),
        ({"size": ["a", "b"]}, "`size=a`: expected whole number,whole number"),
        ({"flow": {"strength": "x"}}, "`flow.strength=x`: expected a number >= 0"),
        (
            {"flow": {"stren": 1}},
            "no option 'flow.stren'; did you mean 'flow.strength'?",
        ),
        ({"strenght": 1}, "no option 'strenght'; did you mean 'flow.strength'?"),
        ({"jobs": -1, "engine": 1}, "`jobs=-1`: expected a whole number >= 0; `engine=1`: expected processes or ray"),
    ],
)
def test_a_wrong_value_says_in_plain_words_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as error:
        validate_options(Sized, options, "")
    assert str(error.value) == message
    with pytest.raises(OptionError) as error:
        validate_options(Sized, options, "mine")
    assert str(error.value) == f"mine: {message.replace('`', '')}"
