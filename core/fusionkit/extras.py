"""Distributions: their extras, as metadata state them, the command that installs one, and the culprit of an error.

The command names the packages themselves, since that works for every installation: from an index, from a clone that has
moved, or from a wheel.
"""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from shlex import join
from traceback import walk_tb

DISTRIBUTION = "imagefusionkit"  # of this project; `fusionkit` on the package index is another's
OWNERS: dict[str, str] = {}  # of modules with plug-ins that were found: distribution and version, by top package


@cache
def required(distribution: str = DISTRIBUTION) -> dict[str, list[str]]:
    """Requirements such as "pydicom>=3" by extra; those of "" are always installed. Empty without metadata."""
    try:
        stated = requires(distribution) or []
    except PackageNotFoundError:
        stated = []
    found: dict[str, list[str]] = {}
    for text in stated:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra == ['\"](.+?)['\"]", marker)
        found.setdefault(extra[1] if extra else "", []).append(requirement.strip())
    return found


def extras(distribution: str = DISTRIBUTION) -> dict[str, list[str]]:
    """Requirements by extra, without extras that hold all of another one, as those for developers do."""
    found = {extra: needed for extra, needed in required(distribution).items() if extra}
    return {e: n for e, n in found.items() if not any(set(other) < set(n) for other in found.values())}


def package(requirement: str) -> str:
    """The name of the package that a requirement is for."""
    return re.split(r"[^\w.-]", requirement)[0]


def installed(requirement: str) -> str:
    """The version of a required package, "" where it is not installed."""
    try:
        return version(package(requirement))
    except PackageNotFoundError:
        return ""


def install(extra: str, distribution: str = DISTRIBUTION) -> str:
    """The command that installs an extra: pip install 'pydicom>=3'."""
    return join(["pip", "install", *required(distribution).get(extra, [f"{distribution}[{extra}]"])])


def culprit(error: BaseException) -> str:
    """An exception in a line that begins with the third party's package in whose code it was raised; "" for others."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        owner = OWNERS.get(frame.f_globals.get("__name__", "").partition(".")[0], DISTRIBUTION)
        if owner.partition(" ")[0] != DISTRIBUTION:
            text = " ".join(str(error).split())[:500]
            return f"{owner}: {type(error).__name__}: {text} ({Path(frame.f_code.co_filename).name}, line {line})"
    return ""
