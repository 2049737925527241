"""Labels of objects: boxes of YOLO (.txt), COCO (.json) and VOC (.xml) files, by the names of pictures."""

import json
import math
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.regular import read_text
from .matching import bare_name

SUFFIXES = (".txt", ".json", ".xml")  # YOLO, COCO, VOC
MOST_BYTES = 2_000_000_000
Corners = tuple[float, float, float, float]  # left, top, right, bottom
Box = tuple[str, Corners]  # with its label; in shares of the picture's sides


def read_boxes(place: Path) -> dict[str, list[Box]]:
    """Boxes by the bare name of their picture; a picture with an empty list has no objects.

    place: a COCO file, or a folder of YOLO files (with classes.txt, else classes are called by their numbers), of VOC
    files, or of COCO files. Raises InputError for what is no such labels.
    """
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    classes = place / "classes.txt"
    names = read_text(classes, InputError).split("\n") if classes.is_file() else []
    boxes = defaultdict[str, list[Box]](list)
    for path in files:
        if (kind := path.suffix.lower()) not in SUFFIXES or path.name == "classes.txt":
            continue
        with labels_in(path) as text:
            if kind == ".json":
                for name, found in _coco(json.loads(text)).items():
                    boxes[name] += found
            else:
                boxes[bare_name(path)] += _yolo(text, names) if kind == ".txt" else _voc(text)
    if not boxes:
        raise InputError(f"{place}: holds no labels: {', '.join(SUFFIXES)}")
    return dict(boxes)


@contextmanager
def labels_in(path: Path) -> Iterator[str]:
    """The text of a file of labels; errors in the block become an InputError of one line about the file."""
    try:
        yield read_text(path, InputError, MOST_BYTES)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ET.ParseError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: no labels: {said}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist") from None


def _yolo(text: str, names: Sequence[str]) -> list[Box]:
    rows = yolo_rows(text)
    return [(names[int(words[0])].strip() if names else words[0], corners) for words, corners in rows]


def yolo_rows(text: str) -> Iterator[tuple[list[str], Corners]]:
    """The words of each line of a YOLO file, and its box. Raises ValueError."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in (5, 6):
            raise ValueError(f"line {number} has {len(words)} values, expected class, x, y, width and height")
        x, y, w, h = four_numbers(words[1:5])
        yield words, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def _coco(content: Any) -> dict[str, list[Box]]:
    images = {image["id"]: image for image in content["images"]}
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    found: dict[str, list[Box]] = {bare_name(Path(image["file_name"])): [] for image in images.values()}
    for one in content["annotations"]:
        image = images[one["image_id"]]
        (left, top, w, h), (wide, high) = four_numbers(one["bbox"]), (float(image["width"]), float(image["height"]))
        box = (left / wide, top / high, (left + w) / wide, (top + h) / high)
        found[bare_name(Path(image["file_name"]))].append((names[one["category_id"]], box))
    return found


def _voc(text: str) -> list[Box]:
    root = voc_root(text)
    wide, high = (float(text_of(root, f"size/{name}")) for name in ("width", "height"))
    found = []
    for one in root.findall("object"):
        left, top, right, bottom = four_numbers([text_of(one, f"bndbox/{n}") for n in ("xmin", "ymin", "xmax", "ymax")])
        found.append((text_of(one, "name"), ((left - 1) / wide, (top - 1) / high, right / wide, bottom / high)))
    return found


def four_numbers(values: Sequence[Any]) -> Corners:
    """Four finite numbers of a box. Raises ValueError."""
    numbers = [float(v) for v in values]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{list(values)} is no box of four numbers")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def voc_root(text: str) -> ET.Element:
    """The element that a VOC file consists of. Raises ValueError."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a document type, which labels do not have")
    return ET.fromstring(text)


def child(element: ET.Element, name: str) -> ET.Element:
    """The element of this name, or path, inside another. Raises KeyError."""
    found = element.find(name)
    if found is None:
        raise KeyError(f"<{name}>")
    return found


def text_of(element: ET.Element, name: str) -> str:
    """The text of the element of this name, or path, inside another. Raises KeyError."""
    if text := child(element, name).text:
        return text
    raise KeyError(f"<{name}>")
