"""Files of several folders that belong together: matched by name, without extension."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from .read import readable_extensions

__all__ = ["Matching", "bare_name", "match_folders"]


@dataclass
class Matching:
    """One file of each folder a group, sorted; the rest: without a partner, or of one name in one folder."""

    groups: list[tuple[Path, ...]] = field(default_factory=list)
    unmatched: list[Path] = field(default_factory=list)
    ambiguous: list[tuple[Path, Path]] = field(default_factory=list)


def match_folders(folders: Sequence[Path]) -> Matching:
    """Groups for every stem that all folders have, whatever extension and case; the rest is listed."""
    if len({f.resolve() for f in folders}) < len(folders):
        raise InputError("one folder is named twice")
    matching, tables, extensions = Matching(), [], readable_extensions()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: not a folder; folders are matched by file name, `pairs` takes no single images"
            )
        table: dict[str, Path] = {}
        for path in sorted(p for p in folder.iterdir() if p.name.lower().endswith(extensions) and p.is_file()):
            if path.name.startswith("."):
                continue
            other = table.setdefault(_stem(path), path)
            if other != path:
                matching.ambiguous.append((other, path))
        tables.append(table)
    for first, _second in matching.ambiguous:
        for table in tables:
            table.pop(_stem(first), None)
    common = set.intersection(*(set(t) for t in tables))
    matching.groups = [tuple(t[stem] for t in tables) for stem in sorted(common)]
    matching.unmatched = sorted(p for t in tables for s, p in t.items() if s not in common)
    return matching


def _stem(path: Path) -> str:
    """The name that files are matched by: composed and decomposed accents and both cases are one."""
    return unicodedata.normalize("NFC", bare_name(path)).casefold()


def bare_name(path: Path) -> str:
    """The file's name without its extension, be it of two parts, as in .nii.gz."""
    parts = [e for e in readable_extensions() if path.name.lower().endswith(e)]
    return path.name[: -max(map(len, parts))] if parts and len(path.name) > max(map(len, parts)) else path.stem
