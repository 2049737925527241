"""Extras: what the distribution's metadata state is what `doctor` lists and messages name."""

import tomllib
from pathlib import Path

import pytest

from fusionkit import extras
from harness import run_cli

ROOT = Path(__file__).parents[1]
STATED = [
    "numpy>=1.26",
    "pydicom>=3; extra == 'dicom'",
    'torch<3,>=2; platform_system != "Darwin" and extra == "flow"',
    "pydicom>=3; extra == 'dev'",
    "ruff; extra == 'dev'",
]


@pytest.fixture
def stated(monkeypatch):
    monkeypatch.setattr(extras, "requires", lambda name: STATED)
    extras.required.cache_clear()
    yield
    extras.required.cache_clear()


def test_requirements_by_extra(stated):
    assert extras.required("any") == {
        "": ["numpy>=1.26"],
        "dicom": ["pydicom>=3"],
        "flow": ["torch<3,>=2"],
        "dev": ["pydicom>=3", "ruff"],
    }
    assert list(extras.extras("any")) == ["dicom", "flow"], "dev holds all of dicom"
    assert extras.install("flow", "any") == "pip install 'torch<3,>=2'"
    assert extras.install("gone", "any") == "pip install 'any[gone]'"


def test_a_distribution_that_is_not_installed():
    assert extras.required("no-such-distribution") == {}
    assert (extras.package("pillow<14,>=12"), extras.installed("no-such-distribution>=1")) == ("pillow", "")


def test_doctor_lists_every_extra_of_users():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    users = {extra for extra in declared if extra not in ("test", "dev")}
    assert set(extras.extras()) == users
    said = run_cli("doctor").stdout
    for extra, needed in extras.extras().items():
        there = all(map(extras.installed, needed))
        assert (f" {extra} ({extras.package(needed[0])} " if there else f"{extra}: {extras.install(extra)}") in said


def test_no_message_names_the_package_index():
    """The distribution is on none: messages name the packages that an extra needs."""
    rooms = ("core", "priors", "backbones", "plugins", "reproductions")
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py") if path.name != "extras.py"):
        assert "pip install 'imagefusionkit" not in path.read_text(encoding="utf-8"), path
