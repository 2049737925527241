"""Boxes that follow a transform from one picture of a pair to the other."""

import json
import math
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from fusionkit.batch.labels import Moved, Mover, move_labels, mover
from fusionkit.errors import InputError, OutputError
from fusionkit.images.transforms import Transforms, about_centre
from fusionkit.numerics.homography import warp
from harness import run_cli

SIZE, GIVEN = (320, 240), (200, 150)  # of the reference and the source


def turned(degrees, scale=0.8 * 200 / 320, right=6.0, down=-4.0, tilt=0.0):
    """A matrix from the reference to the source about their upper left pixels."""
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[cos, -sin, 20 + right], [sin, cos, 20 + down], [tilt, 0, 1]])


def transforms(matrix):
    one = {"source": 1, "size": GIVEN, "matrix": matrix.tolist()}
    return Transforms.model_validate({"reference": 2, "size": SIZE, "transforms": [one]})


def shapes():
    """Masks in the source, (150, 200), with a rectangle or an ellipse each."""
    y, x = np.mgrid[:150, :200]
    for cx, cy, half_wide, half_high in ((70, 50, 16, 16), (120, 80, 10, 25), (100, 100, 40, 18), (60, 90, 12, 20)):
        yield (abs(x - cx) <= half_wide) & (abs(y - cy) <= half_high)
        yield ((x - cx) / (half_wide + 0.5)) ** 2 + ((y - cy) / (half_high + 0.5)) ** 2 <= 1


def around(mask):
    rows, columns = (np.flatnonzero(mask.any(i)) for i in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def overlap(one, other):
    area = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    wide, high = (max(0.0, min(one[i + 2], other[i + 2]) - max(one[i], other[i])) for i in (0, 1))
    return wide * high / (sum(area) - wide * high)


def rendered(mask, matrix):
    """The box of a mask of the source where the reference sees it, rendered at four times its size."""
    fine = np.diag([0.25, 0.25, 1.0]) @ np.eye(3)
    fine[:2, 2] = -0.375
    size = SIZE[1] * 4, SIZE[0] * 4
    centred = about_centre(matrix @ fine, size, mask.shape)
    moved, _ = warp(torch.from_numpy(mask).float()[None, None], torch.from_numpy(centred), size)
    return tuple(v / 4 for v in around(moved[0, 0].numpy() > 0.5))


@pytest.mark.parametrize(("degrees", "tilt", "least"), [(0, 0, 0.97), (2, 0, 0.94), (2, 2e-4, 0.94)])
def test_moved_boxes_are_those_of_the_rendered_objects(degrees, tilt, least):
    matrix = turned(degrees, tilt=tilt)
    by, there = mover(transforms(matrix), 0, 0.3), mover(transforms(matrix), 1, 0.3, inverse=True)
    scores = []
    for mask in shapes():
        own = around(mask)
        found = by.box(own, Moved())
        scores.append(overlap(found, rendered(mask, matrix)))
        assert overlap(there.box(found, Moved()), own) > (0.999 if not degrees else 0.85)
    assert min(scores) > least
    assert np.mean(scores) > 0.955


def test_boxes_are_cut_at_the_frame_or_dropped():
    by, moved = Mover(np.array([[1.0, 0, -10], [0, 1, 0], [0, 0, 1]]), (100, 50), (100, 50), 0.3), Moved()
    assert by.box((0, 0, 20, 10), moved) == pytest.approx((0, 0, 10, 10))
    assert by.box((0, 0, 12, 10), moved) is None
    assert by.box((-30, 0, 5, 10), moved) is None
    assert by.box((50, 5, 60, 10), moved) == pytest.approx((40, 5, 50, 10))
    assert (moved.kept, moved.cut, moved.dropped) == (2, 1, 2)


def test_a_box_behind_the_camera_is_dropped():
    by, moved = Mover(np.array([[1.0, 0, 0], [0, 1, 0], [-0.02, 0, 1]]), (100, 50), (100, 50), 0.3), Moved()
    assert by.box((40, 5, 60, 10), moved) is None
    assert moved.dropped == 1


@pytest.fixture
def folder(tmp_path):
    """The same two boxes of the source, one of them outside of the reference, in three formats."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name, text in {
        "in/classes.txt": "person\ncar\n",
        "in/a/one.txt": "1 0.5 0.5 0.1 0.2 0.9\n0 0.005 0.5 0.01 0.02\n\n",
        "in/coco.json": json.dumps(
            {
                "images": [{"id": 7, "width": 200, "height": 150, "file_name": "x.png"}],
                "annotations": [
                    {
                        "id": 1,
                        "image_id": 7,
                        "category_id": 3,
                        "bbox": [90, 60, 20, 30],
                        "area": 600,
                        "segmentation": [],
                    },
                    {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 73.5, 2, 3], "area": 6},
                ],
                "categories": [{"id": 3, "name": "car"}],
            }
        ),
        "in/a/voc.xml": "<annotation><size><width>200</width><height>150</height><depth>1</depth></size>"
        + "".join(
            f"<object><name>car</name><truncated>0</truncated><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
            f"<ymax>{d}</ymax></bndbox></object>"
            for a, b, c, d in ((91, 61, 110, 90), (1, 74.5, 2, 76.5))
        )
        + "</annotation>",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_three_formats_hold_the_same_moved_boxes(folder):
    matrix = np.array([[0.5, 0, 20], [0, 0.5, 10], [0, 0, 1]])  # the source's left end lies outside the reference
    moved = move_labels(folder / "in", folder / "out", mover(transforms(matrix), 0, 0.3))
    assert (moved.files, moved.kept, moved.dropped, moved.others) == (3, 3, 3, [folder / "in" / "classes.txt"])
    left, top = ((v - 0.5 - t) / 0.5 + 0.5 for v, t in ((90, 20), (60, 10)))
    coco = json.loads((folder / "out" / "coco.json").read_text())
    (one,) = coco["annotations"]
    assert one["bbox"] == pytest.approx([left, top, 40, 60])
    assert one["area"] == pytest.approx(2400)
    assert (one["category_id"], coco["images"][0]["width"], coco["images"][0]["height"]) == (3, 320, 240)
    (line,) = (folder / "out" / "a" / "one.txt").read_text().splitlines()
    label, x, y, wide, high, sure = line.split()
    assert (label, sure) == ("1", "0.9")
    assert [float(v) for v in (x, y, wide, high)] == pytest.approx(
        [(left + 20) / 320, (top + 30) / 240, 40 / 320, 60 / 240], abs=1e-6
    )
    root = ET.parse(folder / "out" / "a" / "voc.xml").getroot()
    box = [float(root.findtext(f"object/bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
    assert box == pytest.approx([left + 1, top + 1, left + 40, top + 60], abs=0.01)
    assert root.findtext("size/width") == "320"
    back = move_labels(folder / "out", folder / "back", mover(transforms(matrix), 0, 0.3, inverse=True))
    assert (back.kept, back.dropped) == (3, 0)
    (one,) = json.loads((folder / "back" / "coco.json").read_text())["annotations"]
    assert one["bbox"] == pytest.approx([90, 60, 20, 30], abs=0.01)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.txt", "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8", "line 1 has 9 values"),
        ("x.txt", "0 0.1 nan 0.3 0.4", "no box of four numbers"),
        ("x.json", "[1, 2]", "no labels"),
        ("x.json", '{"images": [{"id": 1, "width": 9, "height": 9}], "annotations": []}', "is 9x9, .* for 200x150"),
        ("x.json", '{"images": [], "annotations": [{"bbox": [1,2,3,4], "segmentation": [[1]]}]}', "mask or key points"),
        ("x.xml", "<annotation><object/></annotation>", "<bndbox>"),
        ("x.xml", "<!DOCTYPE a><annotation/>", "document type"),
        ("x.xml", "<annotation>", "no labels"),
    ],
)
def test_what_is_no_labels_is_refused_before_anything_is_written(tmp_path, name, text, said):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "in" / name).write_text(text)
    with pytest.raises(InputError, match=said):
        move_labels(tmp_path / "in", tmp_path / "out", mover(transforms(turned(1)), 0, 0.3))
    assert not (tmp_path / "out").exists()


def test_places_that_would_be_overwritten_are_refused(folder):
    by = mover(transforms(turned(1)), 0, 0.3)
    with pytest.raises(OutputError, match="own place"):
        move_labels(folder / "in", folder / "in", by)
    move_labels(folder / "in", folder / "out", by)
    with pytest.raises(OutputError, match="exists already"):
        move_labels(folder / "in", folder / "out", by)
    move_labels(folder / "in", folder / "out", by, force=True)


def test_a_matrix_without_sizes_and_an_unknown_source_are_refused():
    with pytest.raises(InputError, match="states no sizes"):
        mover(Transforms.model_validate({"transforms": [{"source": 1, "matrix": turned(0).tolist()}]}), 0, 0.3)
    with pytest.raises(InputError, match="moves no source 3, but 1"):
        mover(transforms(turned(0)), 3, 0.3)


def test_the_command_says_what_it_did(folder):
    matrix = np.array([[0.5, 0, 20], [0, 0.5, 10], [0, 0, 1]])
    (folder / "rig.json").write_text(transforms(matrix).model_dump_json())
    done = run_cli("align", "labels", "--transform", folder / "rig.json", folder / "in", folder / "out")
    assert done.returncode == 0, done.stderr
    assert "3 boxes in 3 files, 0 of them cut at the frame; 3 dropped, of which less than 30% is seen" in done.stdout
    assert "1 files are no labels" in done.stderr
    done = run_cli("align", "labels", "--transform", folder / "rig.json", "--inverse", folder / "in", folder / "back")
    assert done.returncode == 2
    assert "the transform is for 320x240; boxes of the other picture go by --inverse" in done.stderr
