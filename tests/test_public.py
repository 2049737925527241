"""What `import fusionkit` offers: names, types, and nothing heavy before it is used."""

import doctest
import inspect
import subprocess
import sys
import typing

import pytest

import fusionkit
from fusionkit import api
from fusionkit.errors import UnknownPlugin
from fusionkit.method.config import configuration
from fusionkit.method.keywords import AllChoices, Choices
from fusionkit.registry.kinds import METHOD

# what a plug-in defines for itself: its state is any value
OWN = {"Prior.start return", "Prior.correct state", "Prior.follow state", "Prior.follow return"}
OWN |= {"Prior.begin state", "Prior.begin return", "Prior.accumulate state", "Prior.accumulate return"}
OWN |= {"Prior.conclude state"}
OWN |= {text.replace("Prior.", "Streaming.") for text in OWN}


def test_every_public_name_is_there():
    wanted = (
        "fuse Pipeline read_image write_image Picture Fused Prior Stage Metric Backbone Options Sources list_plugins"
    )
    assert set(wanted.split()) <= set(fusionkit.__all__)
    for name in fusionkit.__all__:
        assert getattr(fusionkit, name) is not None
    assert len(set(fusionkit.__all__)) == len(fusionkit.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'write_imag'") as error:
        fusionkit.write_imag  # noqa: B018
    assert (error.value.name, error.value.obj) == ("write_imag", fusionkit)  # Python suggests write_image


def test_listing_plug_ins_imports_no_torch():
    code = (
        "import sys, fusionkit; found = fusionkit.list_plugins('prior'); assert 'torch' not in sys.modules;"
        "print(*(f'{p.name}|{p.summary}|{p.distribution}|{p.missing}' for p in found), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = dict(row.split("|", 1) for row in done.stdout.splitlines())
    assert rows["average"].endswith("|imagefusionkit|[]")


def test_plug_ins_of_one_kind_or_all():
    priors, every = fusionkit.list_plugins("prior"), fusionkit.list_plugins()
    assert {p.kind for p in priors} == {"prior"}
    assert set(priors) < set(every)
    assert all(p.summary for p in every)
    with pytest.raises(UnknownPlugin, match="no kind 'priors'; kinds: backbone"):
        fusionkit.list_plugins("priors")


def _functions(owner):
    """Public functions of a class, and its constructor."""
    for name, member in vars(owner).items():
        if not name.startswith("_") or name in ("__init__", "__call__"):
            function = getattr(member, "__func__", member)  # of a class method
            function = getattr(function, "fget", getattr(function, "func", function))  # of a property
            if inspect.isfunction(function):
                yield function


def _bare(label, owner):
    return {f"{label} {name}" for name, hint in typing.get_type_hints(owner).items() if hint is typing.Any}


def bare_any(public):
    """Parameters, results and attributes that are annotated as nothing but Any."""
    if inspect.isfunction(public):
        return _bare(public.__name__, public)
    if not inspect.isclass(public):
        return set()
    owners = [c for c in public.__mro__ if c.__module__.startswith("fusionkit")]
    found = set().union(*(_bare(f.__qualname__, f) for owner in owners for f in _functions(owner)))
    own = {name for owner in owners for name in vars(owner).get("__annotations__", {}) if not name.startswith("_")}
    return found | {f"{public.__name__} {name}" for name in own if typing.get_type_hints(public)[name] is typing.Any}


@pytest.mark.parametrize("name", [n for n in fusionkit.__all__ if n != "hookimpl"])  # pluggy's
def test_public_signatures_say_their_types(name):
    assert bare_any(getattr(fusionkit, name)) <= OWN


def test_a_bare_any_would_be_found():
    class Vague:
        __module__ = "fusionkit.somewhere"
        what: typing.Any

        def say(self, word: typing.Any) -> None: ...

    assert {found.rpartition(".")[2] for found in bare_any(Vague)} == {"Vague what", "say word"}


def test_keywords_are_the_fields_of_the_configuration():
    fields = set(configuration().model_fields)
    assert set(typing.get_type_hints(Choices)) == fields | {f"{key}_options" for key in METHOD}
    keywords = set(inspect.signature(fusionkit.fuse).parameters) - {"images", "choices"}
    assert set(typing.get_type_hints(AllChoices)) == set(typing.get_type_hints(Choices)) | keywords


def test_the_example_of_fuse_runs():
    result = doctest.testmod(api)
    assert (result.failed, result.attempted >= 6) == (0, True)
