"""Folders of data that packages ship beside their plug-ins: `weights`, `presets`."""

import re
from importlib.util import find_spec
from pathlib import Path

from .loading import get_registry


def package_folders(package: str, name: str) -> list[Path]:
    """Folders `name` inside a package, which is not imported for it; none for a module without a folder."""
    spec = find_spec(package)
    return [Path(place) / name for place in (spec.submodule_search_locations or [] if spec else [])]


def shipped_folders(name: str) -> dict[Path, str]:
    """Folders `name` of all packages that register plug-ins, each with the distribution that ships it."""
    packages = {re.split("[.:]", p.record.target)[0]: p.distribution for p in get_registry().plugins}
    return {f: owner for package, owner in packages.items() for f in package_folders(package, name) if f.is_dir()}
