"""Which of the files that somebody dropped belong together, by their names, before any is sent."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..reading import readable_extensions
from ..reading.matching import Matching, bare_name, match_names

MOST = 20_000  # names at once
SCENES, SHARE = 2, 0.8  # patterns are guessed where they make so many scenes, of so many of the files


def scenes_of(names: Sequence[str], patterns: str = "", group: int = 0) -> dict[str, Any]:
    """Group names of files, with their folders where they have any, to scenes; each a name and numbers of files.

    patterns: two or more, as `run --pairs` takes them. group: number of shots in a scene. By default files of equal
    names in several folders belong together, or those whose names differ in what is no number; else all are one scene.
    Raises InputError.
    """
    if len(names) > MOST:
        raise InputError(f"{len(names)} files are too many for a page; `fusionkit run --pairs` takes any number")
    files = dict[Path, int]()
    for number, path in enumerate(map(Path, names)):
        if _image(path):  # a browser may tell files of two folders by their names alone
            files[path if path not in files else Path(f"{number + 1}") / path] = number
    if not files:
        raise InputError(f"No picture is among {names[0] if len(names) == 1 else f'these {len(names)} files'}.")
    try:
        given = [Path(word) for word in shlex.split(patterns)]
    except ValueError as error:
        raise InputError(f"patterns: {error}") from None
    if len(given) == 1:
        raise InputError("give a pattern for each kind of source, such as *_T.tiff *_V.jpg")
    if given or group:
        matching = match_names(list(files), given, group)
        matching.refuse_empty(given)
    else:
        given, matching = _guessed(list(files))
    return {
        "scenes": [
            {"name": name, "files": [files[path] for path in paths]}
            for name, paths in zip(matching.names, matching.groups, strict=True)
        ],
        "patterns": " ".join(f"'{p}'" if " " in str(p) else str(p) for p in given),
        "left": len(names) - sum(map(len, matching.groups)),
        "many": _words(list(files), given, group) if len(matching.groups) > 1 else [],
    }


def _words(files: Sequence[Path], patterns: Sequence[Path], group: int) -> list[str]:
    """The words by which `fusionkit run` finds the same scenes."""
    folders = sorted({path.parent for path in files})
    if group:
        return ["--group", str(group), str(folders[0])] if len(folders) == 1 else []
    if patterns and len(folders) == 1:
        patterns = [folders[0] / pattern.name for pattern in patterns]
    return ["--pairs", *map(str, patterns or folders)]


def _guessed(files: list[Path]) -> tuple[list[Path], Matching]:
    """The likely grouping, and the patterns that make it, if any do."""
    if len({path.parent for path in files}) > 1:
        matching = match_names(files)
        if matching.groups:
            return [], matching
    shapes = [Path(shape) for shape in sorted({re.sub(r"\d+", "*", path.name) for path in files})]
    if len(shapes) > 1 and len({shape.name.count("*") for shape in shapes}) == 1 and "*" in shapes[0].name:
        matching = match_names(files, shapes)
        if len(matching.groups) >= SCENES and len(matching.groups) * len(shapes) >= SHARE * len(files):
            return shapes, matching
    [whole] = match_names(files, group=len(files)).groups
    first, *others, last = map(bare_name, (whole[0], *whole[1:-1], whole[-1]))
    return [], Matching([whole], [f"{first} to {last}" if others else f"{first} + {last}"])


def _image(path: Path) -> bool:
    """Whether a name may be that of a picture: a known ending, or none, as scanners name files."""
    ending = path.suffix.lower()
    known = not ending or ending[1:].isdigit() or path.name.lower().endswith(readable_extensions())
    return known and not path.name.startswith(".")
