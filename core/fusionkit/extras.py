"""Optional dependencies: the extras of a distribution, as its metadata state them, and the command that installs one.

The command names the packages themselves, since that works for every installation: from an index, from a clone that has
moved, or from a wheel.
"""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from shlex import join

DISTRIBUTION = "imagefusionkit"  # of this project; `fusionkit` on the package index is another's


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
