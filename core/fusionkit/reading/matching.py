"""Files that belong together: by name in several folders, by patterns, in a table, or as consecutive shots."""

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO, TypeVar

from ..errors import InputError
from ..images.metadata import settings_in
from ..storage.regular import check_regular
from .read import images_among, readable_extensions
from .slices import series_in

TABLES = (".csv", ".parquet")
LEDGERS = ".jsonl"  # extension of the records that runs and ablations leave beside their results
NAMED = 10  # files without a partner that are named
Item = TypeVar("Item")
MOST_BYTES = 2_000_000_000
MOST_LINE = 100_000  # characters of a table's line


@dataclass
class Matching:
    """Sorted groups of files with their names; files without a partner; files of one folder with the same name.

    left_out: files of folders that were not taken for images, counted, a line for each folder. lost: how many of them
    are images.
    """

    groups: list[tuple[Path, ...]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    unmatched: list[Path] = field(default_factory=list)
    ambiguous: list[tuple[Path, Path]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    lost: int = 0

    def refuse_empty(self, sources: Sequence[Path]) -> "Matching":
        """Itself. Raises InputError where no files belong together."""
        if not self.groups:
            names = ", ".join(map(str, sources))
            raise InputError("; ".join([f"no file name is in all of {names}", *self.reasons]))
        return self

    @property
    def alone(self) -> list[str]:
        """A line that names the first files without a partner, if there are any, and those of `left_out`."""
        more = f" and {len(self.unmatched) - NAMED} more" if len(self.unmatched) > NAMED else ""
        line = f"without a partner: {', '.join(map(str, self.unmatched[:NAMED]))}{more}"
        return [line] * bool(self.unmatched) + self.left_out

    @property
    def reasons(self) -> list[str]:
        """Lines on why too little belongs together: the first two files of one name, and `alone`."""
        return [*(f"{a} and {b} have one name" for a, b in self.ambiguous[:1]), *self.alone]

    def in_folder(self, folder: Path) -> list[Path]:
        """Images in a folder, sorted; the others are counted here. Hidden files and ledgers of runs are passed over."""
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder")
        passed = (p for p in sorted(folder.iterdir()) if not (p.name.startswith(".") or p.name.endswith(LEDGERS)))
        images, others = images_among(p for p in passed if not p.is_dir())
        if text := str(others):
            self.left_out.append(f"{folder}: {text}")
        self.lost += others.lost
        return images


def spread(items: Sequence[Item], most: int | None) -> Sequence[Item]:
    """At most so many of the items, spread evenly; None: all."""
    count = len(items) if most is None else min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def match(sources: Sequence[Path], group: int = 0, reference: int = 0) -> Matching:
    """Group the files that folders, patterns or a table name.

    Folders: files of one name, or slices of one position where each folder holds a series of them (DICOM). Patterns
    ("shots/*_ir.tiff", "shots/*_vis.jpg"): files where the wildcards stand for the same. A table (.csv, .parquet): a
    row each, see `match_table`. group: number of shots in each group of one folder or pattern, see `match_shots`. One
    folder alone: each file by itself, for cameras that store several pictures in one. reference: number of the folder
    whose slices are fused, from 1; 0: the last.
    """
    patterns = [any(c in str(source) for c in "*?") and not source.exists() for source in sources]
    table = len(sources) == 1 and sources[0].suffix.lower() in TABLES
    if group:
        if len(sources) != 1 or table:
            raise InputError("`group` takes one folder or one pattern, whose files are taken in turn")
        matching = Matching()
        files = _in_pattern(sources[0]) if patterns[0] else matching.in_folder(sources[0])
        if not 1 < group <= len(files):
            raise InputError(
                f"`group={group}`: a group has two files or more, and {sources[0]} holds {len(files) or 'none'}"
            )
        return match_shots(files, group, matching)
    if table:
        return match_table(sources[0])
    if any(patterns) and not all(patterns):
        raise InputError("give folders or patterns with *, not both")
    if any(patterns):
        return match_patterns(sources)
    for folder in sources:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: not a folder; `pairs` takes folders, patterns such as 'shots/*_ir.png', or one table .csv"
            )
    if len(sources) == 1:
        matching = Matching()
        matching.groups = [(path,) for path in matching.in_folder(sources[0])]
        matching.names = [bare_name(path) for (path,) in matching.groups]
        return matching
    return match_slices(sources, reference) or match_folders(sources)


def match_slices(folders: Sequence[Path], reference: int = 0) -> Matching | None:
    """Group files of one slice each by position in the space of their series, all others by name; None without series.

    reference: number of the folder whose slices the groups are made for, from 1; 0: the last. Series without a common
    space are matched in the order of their positions, if they have equally many slices. Raises InputError where they
    have not, or where no slice lies where the others have any.
    """
    if len({f.resolve() for f in folders}) < len(folders):
        return None  # refused by name
    matching = Matching()
    files = [matching.in_folder(folder) for folder in folders]
    sets = series_in(files)
    if not sets:
        return None
    index = min(reference, len(folders)) - 1
    taken = {path for series in sets for s in series for path in s.files}
    _matched([[(_stem(path), path) for path in own if path not in taken] for own in files], matching)
    matching.notes += ["slices of series matched by their positions"]
    alone = list[Path]()
    for series in sets:
        main = series[index]
        columns = [
            [*range(len(main.files))] if s is main else main.partners(s, (str(folders[index]), str(folder)))
            for s, folder in zip(series, folders, strict=True)
        ]
        for k, row in enumerate(zip(*columns, strict=True)):
            if None in row:
                alone.append(main.files[k])
            else:
                matching.groups.append(tuple(s.files[i] for s, i in zip(series, row, strict=True) if i is not None))
                file = main.files[k]  # without a known extension, its whole name counts: it may be a UID
                matching.names.append(
                    bare_name(file) if file.name.lower().endswith(readable_extensions()) else file.name
                )
        if len({s.space for s in series}) > 1:
            places = "; ".join(f"{folder} in {s.space}" for s, folder in zip(series, folders, strict=True))
            matching.notes = [f"slices matched in the order of their positions, since their spaces differ: {places}"]
    if not matching.groups:
        raise InputError(f"{folders[index]}: no slice lies where the other folders have any, in {sets[0][index].space}")
    matching.unmatched = sorted([*matching.unmatched, *alone])
    return matching


def match_folders(folders: Sequence[Path]) -> Matching:
    """Group files by stem, without regard to extension and case; files that not all folders have are listed.

    Raises InputError where the folders have no name in common.
    """
    if len({f.resolve() for f in folders}) < len(folders):
        raise InputError("one folder is named twice")
    matching = Matching()
    found = [matching.in_folder(folder) for folder in folders]
    for folder, images in zip(folders, found, strict=True):
        if not images:
            raise InputError("; ".join([f"{folder}: holds no images", *matching.left_out]))
    _matched([[(_stem(path), path) for path in images] for images in found], matching)
    return matching.refuse_empty(folders)


def match_names(files: Sequence[Path], patterns: Sequence[Path] = (), group: int = 0) -> Matching:
    """Group files by their names alone; none is opened, and none needs to be there.

    By patterns; or `group` at a time in the order of their names; or by equal names in all folders; see `match`.
    """
    if patterns:
        return match_patterns(patterns, files)
    if group:
        return match_shots(files, group, opened=False)
    folders = sorted({path.parent for path in files})
    return _matched([[(_stem(p), p) for p in files if p.parent == folder] for folder in folders], Matching())


def match_patterns(patterns: Sequence[Path], files: Sequence[Path] | None = None) -> Matching:
    """Group files where the wildcards (* and ?) of all patterns stand for the same text, the group's name.

    files: those among which they are sought; by default the patterns' folders are listed.
    """
    for pattern in patterns:
        if any(c in str(pattern.parent) for c in "*?"):
            raise InputError(f"{pattern}: wildcards can stand in the file's name alone, not in its folder")
    counts = {len(re.findall(r"[*?]", pattern.name)) for pattern in patterns}
    if len(counts) > 1:
        raise InputError(
            f"{' and '.join(p.name for p in patterns)}: have different numbers of wildcards, so nothing can be the same"
        )
    named = [[(_filled(pattern, path), path) for path in _in_pattern(pattern, files)] for pattern in patterns]
    matching = _matched(named, Matching())
    matching.names = [_filled(patterns[-1], group[-1]) for group in matching.groups]
    return matching


def match_table(path: Path) -> Matching:
    """Group the paths in each row of a CSV file, or of a Parquet file where pyarrow is installed.

    Paths are relative to the table's folder. The first row names the columns; the column `name` names the results, by
    default the last path does.
    """
    check_regular(path, InputError, MOST_BYTES)
    rows = _table(path)
    columns = [column for column in rows[0] if column not in ("name", "")] if rows else []
    if not columns:
        raise InputError(f"{path}: no rows; expected a first row of column names, such as ir,vis, and a path in each")
    if odd := [c for c in columns if c.lower().endswith(readable_extensions()) or ";" in c or "\t" in c]:
        raise InputError(f"{path}: expected a first row of column names, with commas, such as ir,vis; not {odd[0]!r}")
    matching = Matching()
    taken: dict[str, Path] = {}
    for number, row in enumerate(rows, 2):
        if any(not row.get(column) for column in columns):
            raise InputError(f"{path}: row {number} has no path in {', '.join(c for c in columns if not row.get(c))}")
        if any("\0" in str(row[column]) for column in columns):
            raise InputError(f"{path}: row {number} has a NUL byte in a name, which no file can have")
        group = tuple(path.parent / str(row[column]) for column in columns)
        name = str(row.get("name") or bare_name(group[-1]))
        if Path(name).name != name or "\0" in name:
            raise InputError(f"{path}: row {number}: the name {name!r} is no file name")
        other = taken.setdefault(name.casefold(), group[-1])
        if other is not group[-1]:
            matching.ambiguous.append((other, group[-1]))
            continue
        matching.groups.append(group)
        matching.names.append(name)
    return matching


def match_shots(
    files: Sequence[Path], count: int, matching: Matching | None = None, *, opened: bool = True
) -> Matching:
    """Group `count` consecutive files (brackets, focus stacks), by EXIF time where all have one, else by name.

    Each group is named after its first file. Files left at the end are without a partner. opened: files are read.
    """
    ordered, how = in_turn(files, opened=opened)
    whole = len(ordered) // count * count
    groups = [tuple(ordered[i : i + count]) for i in range(0, whole, count)]
    names, notes = [bare_name(g[0]) for g in groups], [f"groups of {count}, {how}"]
    return replace(matching or Matching(), groups=groups, names=names, unmatched=ordered[whole:], notes=notes)


def in_turn(files: Sequence[Path], *, opened: bool = True) -> tuple[list[Path], str]:
    """Shots in the order in which they were taken, by EXIF time where all have one, else by name; how, for a note.

    opened: files are read.
    """
    times = {path: settings_in(path).time if opened else "" for path in files}
    timed = bool(files) and all(times.values())
    ordered = sorted(files, key=lambda path: (times[path] if timed else "", _natural(path)))
    return ordered, f"in the order of their {'EXIF times' if timed else 'names: not all have an EXIF time'}"


def _matched(tables: Iterable[Iterable[tuple[str, Path]]], matching: Matching) -> Matching:
    """Group files by the keys that all tables have."""
    unique, doubled = [], set[str]()
    for files in tables:
        table: dict[str, Path] = {}
        for key, path in files:
            other = table.setdefault(key, path)
            if other != path:
                matching.ambiguous.append((other, path))
                doubled.add(key)
        unique.append(table)
    common = set.intersection(*map(set, unique)) - doubled
    kept = common | doubled
    matching.groups = [tuple(t[key] for t in unique) for key in sorted(common)]
    matching.names = [bare_name(group[-1]) for group in matching.groups]
    matching.unmatched = sorted(p for t in unique for key, p in t.items() if key not in kept)
    return matching


def _in_pattern(pattern: Path, files: Sequence[Path] | None = None) -> list[Path]:
    """Files that match a pattern, sorted; only the last part of the path has wildcards.

    files: those that there are, among which a pattern's folder may be the end of theirs; by default it is listed.
    """
    if files is not None:
        parts = pattern.parent.parts
        among = [p for p in files if p.parent.parts[len(p.parent.parts) - len(parts) :] == parts]
    elif pattern.parent.is_dir():
        among = [p for p in pattern.parent.iterdir() if p.is_file()]
    else:
        raise InputError(f"{pattern.parent}: not a folder")
    found = sorted(p for p in among if _pattern(pattern).fullmatch(p.name))
    if not found:
        raise InputError(f"{pattern}: no such files")
    return found


def _pattern(pattern: Path) -> re.Pattern[str]:
    parts = re.split(r"([*?])", pattern.name)
    return re.compile("".join({"*": "(.+)", "?": "(.)"}.get(part, re.escape(part)) for part in parts), re.IGNORECASE)


def _filled(pattern: Path, path: Path) -> str:
    """Text that the wildcards of a pattern stand for in a file's name."""
    found = _pattern(pattern).fullmatch(path.name)
    return "_".join(found.groups()) if found else ""


def _natural(path: Path) -> list[tuple[int, str]]:
    """Key that sorts names with numbers by their numbers."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]


def _table(path: Path) -> list[dict[str, object]]:
    if path.suffix.lower() == ".parquet":
        try:
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError:
            raise InputError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or save it as CSV") from None
        try:
            table = parquet.ParquetFile(path)
            groups = (table.metadata.row_group(i) for i in range(table.metadata.num_row_groups))
            if max(sum(group.total_byte_size for group in groups), 10 * table.metadata.num_rows) > MOST_BYTES:
                raise ValueError(f"unpacks to more than {MOST_BYTES} bytes")
            return list(table.read().to_pylist())
        except Exception as error:  # pyarrow's own kinds
            raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [dict(row) for row in csv.DictReader(_lines(stream), restkey="", strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', '') or error}") from None


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines of a table. Raises ValueError at one that is no line of a table."""
    while line := stream.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise ValueError(f"a line of more than {MOST_LINE} characters")
        yield line


def _stem(path: Path) -> str:
    """Name that files are matched by: composed and decomposed accents are the same, and so are both cases."""
    return unicodedata.normalize("NFC", bare_name(path)).casefold()


def bare_name(path: Path) -> str:
    """The file's name without its extension, which may have two parts, as in .nii.gz."""
    known, name = readable_extensions(), path.name.lower()
    dots = (i for i, letter in enumerate(name) if letter == "." and i)
    if at := next((i for i in dots if name[i:] in known), 0):
        return path.name[: at - len(name)]
    return path.name if path.suffix[1:].isdigit() else path.stem  # IM.0001, and 1.2.840.1 as scanners name files
