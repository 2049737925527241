"""A study: pairs of results beside their sources, sides shuffled, and a key that lies apart."""

import csv
import itertools
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.ndimage import gaussian_filter

from ..errors import FusionkitError, InputError, NoEffect, OptionError, OutputError
from ..images.convert import to_array, to_tensor
from ..images.picture import Array, Picture
from ..images.sheet import contact_sheet, sized, smaller
from ..numerics.luma import luma
from ..options import first_of
from ..reading import read_image
from ..reading.matching import match_folders
from ..scoring.evaluation import read_result
from ..storage.atomic import write_text
from ..storage.regular import check_regular, read_text
from ..writing import write_image

STUDY, VOTES = "study.json", "votes"
EVEN = "="
CHECKED = 10  # one sheet in so many, at least one, is a check: one side is the other, blurred and darkened
SMEAR, DARK = 0.012, 0.6  # of a check: width of the blur in image widths, share of the brightness
WIDE = 760  # pixels of a picture on a sheet to print or to send

Choice = Literal["A", "B", "="]
Viewer = Annotated[str, Field(pattern=r"^[\w .@+-]{1,60}$")]
Kind = TypeVar("Kind", bound="Record")


class Record(BaseModel):
    """What is kept in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sheet(Record):
    """One comparison as a viewer sees it: files in the study's folder."""

    number: str
    sources: tuple[str, ...]
    a: str
    b: str


class Study(Record):
    """All comparisons of a study, without a word of the methods."""

    question: str
    sheets: tuple[Sheet, ...]


class Sides(Record):
    """The methods of a sheet. check: the side that is spoilt, of a sheet that only tests whether viewers look."""

    scene: str
    a: str
    b: str
    check: Literal["", "A", "B"] = ""


class Key(Record):
    """Which method stands on which side, by number of the sheet."""

    methods: tuple[str, ...]
    sheets: dict[str, Sides]


class Vote(Record):
    """What a viewer said of a sheet: the better side, or `=`."""

    viewer: Viewer
    sheet: str
    choice: Choice
    reason: Annotated[str, Field(max_length=500)] = ""


class _Scene(NamedTuple):
    """Files of the sources, and of each method's result."""

    sources: tuple[Path, ...]
    results: dict[str, Path]


@dataclass(frozen=True)
class Made:
    """A study that was made: numbers of its sheets and checks, and what could not be compared, a line each."""

    sheets: int
    checks: int
    failures: tuple[str, ...]


def place_of_key(study: Path) -> Path:
    """Where the key of a study lies: beside its folder, so that the folder can be given away."""
    place = study if study.name else study.resolve()  # of `.`, from within
    return place.with_name(f"{place.name}.key.json")


def make_study(
    methods: Mapping[str, Path],
    sources: Sequence[Path],
    output: Path,
    *,
    seed: int = 0,
    against: str = "",
    most: int = 0,
    sheets: bool = False,
    question: str = "Which is the better fusion of the sources above?",
    report: Callable[[str, int, int], None] = lambda scene, done, total: None,
) -> Made:
    """Make a study in the folder `output` of methods' folders of results, files matched by name.

    Every two methods are compared on every scene; against: only with this one; most: on so many sheets, spread evenly
    over the methods' pairs and the scenes. Both results of a sheet are grey where one is. One sheet in ten shows a
    result beside a spoilt copy of itself, to see who looks. sheets: also one picture for each sheet, sources above A
    and B. seed: of the order and the sides. Raises InputError, OptionError, OutputError; scenes that cannot be read are
    left out, and told in the result.
    """
    key_place = _refused(methods, against, output)
    scenes, failures = _scenes(methods, sources)
    wanted = list(itertools.islice(_spread(scenes, methods, against, random.Random(seed)), most or None))
    if not wanted:
        raise InputError("no two methods have a result of the same scene" + "".join(f"; {f}" for f in failures[:1]))
    rng = random.Random(f"sides {seed}")
    made: list[tuple[Sheet, Sides]] = []
    work = output.with_name(f".{output.name}.part")
    shutil.rmtree(work, ignore_errors=True)  # of a run that was stopped
    (work / "images").mkdir(parents=True)
    for done, (scene, first, second) in enumerate(wanted, 1):
        try:
            pictures = [read_image(path) for path in scenes[scene].sources]
            pair = _alike([read_result(scenes[scene].results[name], pictures[-1]) for name in (first, second)])
        except FusionkitError as error:
            failures.append(f"{scene}: {error}")
            continue
        sides = [(first, pair[0]), (second, pair[1])]
        rng.shuffle(sides)
        made.append(_written(work, len(made) + 1, scene, pictures, sides, "", sheets))
        if done % CHECKED == CHECKED // 2 or (done == len(wanted) < CHECKED // 2):
            name, clean = rng.choice(sides)
            spoilt = [(name, clean), (name, _spoilt(clean))]
            rng.shuffle(spoilt)
            side: Literal["A", "B"] = "B" if spoilt[0][1] is clean else "A"
            made.append(_written(work, len(made) + 1, scene, pictures, spoilt, side, sheets))
        report(scene, done, len(wanted))
    if not made:
        shutil.rmtree(work)
        raise InputError(f"no scene could be compared: {failures[0]}")
    study = Study(question=question, sheets=tuple(sheet for sheet, _ in made))
    key = Key(methods=tuple(methods), sheets={sheet.number: sides for sheet, sides in made})
    for place, record in ((key_place, key), (work / STUDY, study)):
        write_text(place, record.model_dump_json(indent=1))
    work.rename(output)
    checks = sum(bool(sides.check) for sides in key.sheets.values())
    return Made(len(made) - checks, checks, tuple(failures))


def _refused(methods: Mapping[str, Path], against: str, output: Path) -> Path:
    """The place of the key; raises where nothing can be compared so, or something is in the way."""
    if len(methods) < 2:
        raise OptionError("a comparison needs two methods; give NAME=FOLDER for each")
    if against and against not in methods:
        raise OptionError(f"`against={against}`: is none of the methods {', '.join(methods)}")
    if against and len(methods) == 2:
        raise NoEffect(f"`against={against}` has no effect on two methods, which are compared anyway")
    if output.exists() or place_of_key(output).exists():
        place = output if output.exists() else place_of_key(output)
        raise OutputError(f"{place}: exists already; choose another name, or remove it")
    return place_of_key(output)


def _scenes(methods: Mapping[str, Path], sources: Sequence[Path]) -> tuple[dict[str, _Scene], list[str]]:
    """The files of each scene by its name, and a line for each file that belongs to none."""
    scenes, lines = dict[str, _Scene](), list[str]()
    for method, folder in methods.items():
        matching = match_folders([*sources, folder])
        for name, paths in zip(matching.names, matching.groups, strict=True):
            scenes.setdefault(name, _Scene(paths[:-1], {})).results[method] = paths[-1]
        lines += [*matching.left_out, *(f"{p}: of no scene" for p in matching.unmatched if p.parent == folder)]
    return scenes, list(dict.fromkeys(lines))


def _spread(
    scenes: Mapping[str, _Scene], methods: Iterable[str], against: str, rng: random.Random
) -> Iterator[tuple[str, str, str]]:
    """Scene and two methods, each pair of methods once on each scene; every beginning of the list is balanced."""
    pairs = [pair for pair in itertools.combinations(methods, 2) if not against or against in pair]
    rng.shuffle(pairs)
    orders = [[name for name, scene in scenes.items() if {*pair} <= scene.results.keys()] for pair in pairs]
    for order in orders:
        rng.shuffle(order)
    for turn in itertools.zip_longest(*orders):
        yield from ((name, *pair) for name, pair in zip(turn, pairs, strict=True) if name is not None)


def _alike(results: Sequence[Picture]) -> list[Array]:
    """Results in one size and both grey where one is: (H, W, 1 or 3) in [0, 1]."""
    if len({picture.size for picture in results}) > 1:
        sizes = " and ".join(f"{p.name} {p.size[0]}x{p.size[1]}" for p in results)
        raise InputError(f"results differ in size ({sizes}); nobody can compare them blind")
    images = [picture.pixels for picture in results]
    if not all(picture.has_color for picture in results):
        images = [to_array(luma(to_tensor(image))) for image in images]
    return images


def _spoilt(image: Array) -> Array:
    width = SMEAR * image.shape[1]
    return np.asarray(DARK * gaussian_filter(image, (width, width, 0)), np.float32)


def _written(
    output: Path,
    count: int,
    scene: str,
    pictures: Sequence[Picture],
    sides: Sequence[tuple[str, Array]],
    check: Literal["", "A", "B"],
    sheets: bool,
) -> tuple[Sheet, Sides]:
    """Write the pictures of a sheet; what viewers are told of it, and what they are not."""
    number = f"{count:04d}"
    names = [f"images/{number}-{i}.png" for i in range(1, len(pictures) + 1)]
    (left, a), (right, b) = sides
    for name, picture in zip(names, pictures, strict=True):
        write_image(output / name, picture.pixels, "8")
    for side, image in (("a", a), ("b", b)):
        write_image(output / f"images/{number}-{side}.png", image, "8")
    if sheets:
        shown = [*((picture.name, picture.pixels) for picture in pictures), ("A", a), ("B", b)]
        panels = [(name, to_array(smaller(sized(to_tensor(image), a.shape[:2]), WIDE))) for name, image in shown]
        write_image(output / "sheets" / f"{number}.png", contact_sheet(panels, max(2, len(pictures))), "8")
    sheet = Sheet(number=number, sources=tuple(names), a=f"images/{number}-a.png", b=f"images/{number}-b.png")
    return sheet, Sides(scene=scene, a=left, b=right, check=check)


def open_study(folder: Path) -> Study:
    """The study in a folder. Raises InputError."""
    return _opened(folder / STUDY, Study, f"{folder}: is no study; `fusionkit judge make` makes one")


def open_key(place: Path, study: Study) -> Key:
    """The key of a study. Raises InputError, also for a key of another one."""
    key = _opened(place, Key, f"{place}: no such key; it was written beside the study's folder, or say where it is")
    named = {name for sides in key.sheets.values() for name in (sides.a, sides.b)}
    if key.sheets.keys() != {sheet.number for sheet in study.sheets} or not named <= {*key.methods}:
        raise InputError(f"{place}: is the key of another study")
    return key


def _opened(place: Path, kind: type[Kind], missing: str) -> Kind:
    try:
        return kind.model_validate_json(read_text(place, InputError, most=100_000_000))
    except FileNotFoundError:
        raise InputError(missing) from None
    except ValidationError as error:
        raise InputError(f"{place}: {first_of(error)}") from None


def read_votes(place: Path) -> Iterator[Vote]:
    """Votes of a CSV with the columns viewer, sheet, choice and, if there are any, reason. Raises InputError."""
    check_regular(place, InputError)
    try:
        with place.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream, restkey="")
            columns, rows = {*(table.fieldnames or ())}, list(table)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{place}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    wanted = "expected viewer, sheet, choice (A, B or =), reason"
    if not {"viewer", "sheet", "choice"} <= columns:
        raise InputError(f"{place}, line 1: these columns are missing; {wanted}")
    for line, row in enumerate(rows, 2):
        if "" in row:
            raise InputError(f"{place}, line {line}: has too many columns; {wanted}, in quotes where it has commas")
        given = {name: (row.get(name) or "").strip() for name in Vote.model_fields}
        given["sheet"], given["choice"] = given["sheet"].zfill(4), given["choice"].upper()
        try:
            yield Vote.model_validate(given)
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            raise InputError(f"{place}, line {line}: {name} is {given.get(str(name), '')!r}; {wanted}") from None


def keep_vote(study: Path, vote: Vote) -> None:
    """Append a vote to the viewer's file in the study; the last one of a sheet counts."""
    place = study / VOTES / f"{vote.viewer.strip().replace(' ', '_')}.csv"
    place.parent.mkdir(exist_ok=True)
    begun = place.exists()
    with place.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if not begun:
            writer.writerow(Vote.model_fields)
        writer.writerow(vote.model_dump().values())


def all_votes(study: Path, others: Sequence[Path] = ()) -> list[Vote]:
    """Votes in the study's folder and in other files."""
    places = [*sorted((study / VOTES).glob("*.csv")), *others]
    return [vote for place in places for vote in read_votes(place)]
