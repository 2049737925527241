"""Boxes of objects moved from one picture of a pair to the other: YOLO, COCO and VOC files.

A box says nothing of its object's shape, which a turn needs: the box around the four moved corners is right for
rectangles and too large for all else, that around the moved inscribed ellipse (Kalra et al., "Towards Rotation
Invariance in Object Detection", ICCV 2021) is too small for rectangles. The mean of both is at most half as wrong.

Boxes count from the picture's upper left corner, the first pixel's centre lies at (1/2, 1/2); VOC's own from 1, with
the last pixel inside, as in PASCAL VOC's development kit.
"""

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError, OutputError
from ..images.transforms import Matrix, Transforms
from ..reading.boxes import SUFFIXES, Corners, child, four_numbers, labels_in, text_of, voc_root, yolo_rows
from ..storage.atomic import check_place, write_text

ANGLES = np.arange(64) * (2 * np.pi / 64)  # of the points of an ellipse
CORNERS = np.array([[-1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, 1.0]])
ELLIPSE = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
NEAR = 1e-6  # depth below which a corner lies behind the camera
Size = tuple[int, int]  # width, height


@dataclass
class Moved:
    """Files written; boxes kept, of those cut at the frame, and dropped because too little of them is seen."""

    files: int = 0
    kept: int = 0
    cut: int = 0
    dropped: int = 0
    others: list[Path] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Mover:
    """Moves boxes by `matrix`, (3, 3), from pixels of a picture of `size` to those of one of `goal`, (width, height).

    Pixels count from the centre of the upper left one. visible: least share of a moved box that must lie in the frame.
    """

    matrix: Matrix
    size: Size
    goal: Size
    visible: float

    def box(self, box: Corners, moved: Moved) -> Corners | None:
        """A moved box, cut at the frame; None where too little of it is seen."""
        middle, half = np.add(box[:2], box[2:]) / 2 - 0.5, np.subtract(box[2:], box[:2]) / 2
        around = []
        for outline in (CORNERS, ELLIPSE):
            x, y, depth = self.matrix @ np.vstack(
                [middle[:, None] + half[:, None] * outline, np.ones(outline.shape[1])]
            )
            if depth.min() <= NEAR:  # a part lies behind the camera
                moved.dropped += 1
                return None
            x, y = x / depth + 0.5, y / depth + 0.5
            around.append((x.min(), y.min(), x.max(), y.max()))
        whole = tuple(np.mean(around, 0).tolist())
        inside = tuple(min(max(v, 0.0), float(n)) for v, n in zip(whole, self.goal * 2, strict=True))
        area, seen = ((b[2] - b[0]) * (b[3] - b[1]) for b in (whole, inside))
        if not seen or seen < self.visible * area:
            moved.dropped += 1
            return None
        moved.kept += 1
        moved.cut += seen < area * (1 - 1e-9)
        return inside[0], inside[1], inside[2], inside[3]


def mover(transforms: Transforms, source: int, visible: float, *, inverse: bool = False) -> Mover:
    """What moves boxes from a source (its number, from 1; 0: the only one) to the reference, or back with `inverse`."""
    if transforms.size is None or any(one.size is None for one in transforms.transforms):
        raise InputError("the file of transforms states no sizes of images; take one that `save_transform` wrote")
    every = {one.source: one for one in transforms.transforms}
    if not source and len(every) > 1:
        raise InputError(f"the file moves sources {', '.join(map(str, every))}; name the labelled one with `source`")
    number = source or next(iter(every), 0)
    if number not in every:
        raise InputError(f"the file of transforms moves no source {number}, but {', '.join(map(str, every))}")
    given = every[number].size
    assert given is not None
    matrix = np.array(every[number].matrix, float)
    matrix = matrix if len(matrix) == 3 else np.vstack([matrix, [0.0, 0.0, 1.0]])
    if inverse:
        return Mover(matrix, transforms.size, given, visible)
    back = np.linalg.inv(matrix)
    # the depth must be positive where the picture is: the sign of an inverse is free
    middle = back @ [(given[0] - 1) / 2, (given[1] - 1) / 2, 1.0]
    return Mover(back * math.copysign(1.0, middle[2]), given, transforms.size, visible)


def move_labels(source: Path, output: Path, by: Mover, *, force: bool = False) -> Moved:
    """Move the boxes of a file, or of all files of a folder and those below it, to a file or a folder.

    Raises InputError for a file that is no such labels, before anything is written, and OutputError.
    """
    folder, moved = source.is_dir(), Moved()
    files = sorted(p for p in source.rglob("*") if p.is_file()) if folder else [source]
    labels = [path for path in files if path.suffix.lower() in SUFFIXES and path.name != "classes.txt"]
    moved.others = [path for path in files if path not in set(labels)]
    if not labels:
        raise InputError(f"{source}: holds no labels: {', '.join(SUFFIXES)}")
    if output.resolve() == source.resolve():
        raise OutputError(f"{output}: is the labels' own place; choose another")
    results = [(output / path.relative_to(source) if folder else output, _READ[path.suffix.lower()]) for path in labels]
    for goal, _ in results:
        check_place(goal, replaceable=force)
    texts = [_moved(path, read, by, moved) for path, (_, read) in zip(labels, results, strict=True)]
    for (goal, _), text in zip(results, texts, strict=True):
        goal.parent.mkdir(parents=True, exist_ok=True)
        write_text(goal, text)
        moved.files += 1
    return moved


def _moved(path: Path, read: "Callable[[str, Mover, Moved], str]", by: Mover, moved: Moved) -> str:
    """The text of a file with its boxes moved."""
    with labels_in(path) as text:
        return read(text, by, moved)


def _yolo(text: str, by: Mover, moved: Moved) -> str:
    """Class, centre, width and height, relative to the picture; a sixth value, the confidence, is kept."""
    lines = []
    wide, high = by.size
    for words, corners in yolo_rows(text):
        box = by.box((corners[0] * wide, corners[1] * high, corners[2] * wide, corners[3] * high), moved)
        if box is not None:
            left, top, right, bottom = (v / n for v, n in zip(box, by.goal * 2, strict=True))
            values = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
            lines.append(" ".join([words[0], *(f"{v:.6f}" for v in values), *words[5:]]))
    return "".join(f"{line}\n" for line in lines)


def _coco(text: str, by: Mover, moved: Moved) -> str:
    """`bbox`: left, top, width and height in pixels. Masks and key points, which are no boxes, are refused."""
    content = json.loads(text)
    images = {image["id"]: image for image in content["images"]}
    for image in images.values():
        _check_size((image["width"], image["height"]), by, f"image {image['id']}")
        image["width"], image["height"] = by.goal
    kept = []
    for one in content["annotations"]:
        if one.get("segmentation") or one.get("keypoints"):
            raise ValueError(
                f"annotation {one.get('id')} has a mask or key points, which are not moved; leave them out"
            )
        left, top, wide, high = four_numbers(one["bbox"])
        box = by.box((left, top, left + wide, top + high), moved)
        if box is not None:
            bbox = [round(v, 3) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
            kept.append({**one, "bbox": bbox} | ({"area": round(bbox[2] * bbox[3], 3)} if "area" in one else {}))
    return json.dumps({**content, "annotations": kept}) + "\n"


def _voc(text: str, by: Mover, moved: Moved) -> str:
    """`bndbox` from 1 to the last pixel inside; `truncated` is set where a box was cut."""
    root = voc_root(text)
    names = ("width", "height")
    size = root.find("size")
    if size is not None:
        _check_size([int(float(text_of(size, name))) for name in names], by, "its picture")
        for name, goal in zip(names, by.goal, strict=True):
            child(size, name).text = str(goal)
    for one in root.findall("object"):
        if one.find("part") is not None:
            raise ValueError("an object has parts, which are not moved; leave them out")
        box, cut = child(one, "bndbox"), moved.cut
        left, top, right, bottom = four_numbers([text_of(box, name) for name in ("xmin", "ymin", "xmax", "ymax")])
        found = by.box((left - 1, top - 1, right, bottom), moved)
        if found is None:
            root.remove(one)
            continue
        values = found[0] + 1, found[1] + 1, found[2], found[3]
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True):
            child(box, name).text = f"{value:.2f}".rstrip("0").rstrip(".")
        truncated = one.find("truncated")
        if moved.cut > cut and truncated is not None:
            truncated.text = "1"
    return ET.tostring(root, encoding="unicode") + "\n"


_READ: dict[str, "Callable[[str, Mover, Moved], str]"] = {".txt": _yolo, ".json": _coco, ".xml": _voc}


def _check_size(size: Sequence[float], by: Mover, what: str) -> None:
    """Refuse labels of pictures in another size than that of the transform."""
    if tuple(size) != by.size:
        shown = "x".join(f"{n:g}" for n in size)
        raise ValueError(
            f"{what} is {shown}, the transform is for {by.size[0]}x{by.size[1]}; boxes of the other picture go by "
            "`inverse`"
        )
