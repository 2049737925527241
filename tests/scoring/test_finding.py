"""Whether fusion helps a detector: misses and false finds against labels, on sources, results and both together."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionkit.contracts import Detection
from fusionkit.errors import InputError
from fusionkit.reading.boxes import read_boxes
from fusionkit.reading.ranges import Reading
from fusionkit.scoring.evaluation import Pair
from fusionkit.scoring.finding import TOGETHER, find_objects
from fusionkit.writing import write_image
from harness import blob_detector, run_cli

SIDE, SIZE = 8, (40, 60)  # of an object; height and width of a picture
PLACES = [(4, 4), (4, 40), (24, 20)]  # upper left corners, (top, left)


class Bright:
    """Finds each place above a half grey, wherever an object may be: what tests can compute by hand."""

    definition = "means of squares"

    def __call__(self, image):
        spots = [(top, left) for top in range(0, 33, 4) for left in range(0, 53, 4)]
        means = {(t, x): float(image[0, 0, t : t + SIDE, x : x + SIDE].mean()) for t, x in spots}
        return [Detection((x, t, x + SIDE, t + SIDE), mean, "thing") for (t, x), mean in means.items() if mean > 0.9]


def picture(*shown):
    image = np.zeros((*SIZE, 1), np.float32)
    for top, left in shown:
        image[top : top + SIDE, left : left + SIDE] = 1
    return image


@pytest.fixture
def pairs(tmp_path):
    """Six scenes: infrared shows the first object, visible the second and a false one, fusion some of them."""
    made = {"ir": [PLACES[0]], "vis": [PLACES[1], (28, 44)], "good": PLACES[:2], "bad": [], "all": PLACES}
    for scene in range(6):
        for folder, shown in made.items():
            write_image(tmp_path / folder / f"{scene}.png", picture(*shown), "8")
        rows = [
            f"0 {(x + SIDE / 2) / SIZE[1]} {(t + SIDE / 2) / SIZE[0]} {SIDE / SIZE[1]} {SIDE / SIZE[0]}"
            for t, x in PLACES
        ]
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{scene}.txt").write_text("\n".join(rows))
    (tmp_path / "labels" / "classes.txt").write_text("thing\n")
    return tmp_path


def pairs_of(pairs, *methods):
    sources = [(pairs / "ir" / f"{i}.png", pairs / "vis" / f"{i}.png") for i in range(6)]
    results = [{name: pairs / name / f"{i}.png" for name in methods} for i in range(6)]
    return [Pair(str(i), sources[i], results[i], Reading(("auto", "auto"))) for i in range(6)]


def findings(pairs, *methods, labels="labels"):
    return find_objects(pairs_of(pairs, *methods), read_boxes(pairs / labels), Bright())


def test_misses_and_false_finds_of_each_and_of_both_together(pairs):
    found = findings(pairs, "good", "bad", "all")
    rates = {name: round(found.miss_rate(name).mean, 3) for name in found.missed}
    assert rates == {"ir": 0.667, "vis": 0.667, TOGETHER: 0.333, "good": 0.333, "bad": 1.0, "all": 0.0}
    false = {name: found.false_finds(name).mean for name in found.false}
    assert false == {"ir": 0, "vis": 1, TOGETHER: 1, "good": 0, "bad": 0, "all": 0}
    assert found.labelled == [3] * 6


def test_a_result_behind_its_better_source_is_told_and_no_other(pairs):
    (warning,) = findings(pairs, "good", "bad").behind()
    assert warning.startswith("bad misses 33.3% more of the labelled objects than ir alone")
    assert "chance" not in warning
    one = find_objects(pairs_of(pairs, "bad")[:1], read_boxes(pairs / "labels"), Bright())
    assert np.isnan([one.miss_rate("bad").low, one.miss_rate("bad").high]).all()
    assert "(one picture, which may be chance)" in next(one.behind())


def test_intervals_are_over_pairs(pairs):
    for scene in range(3):
        write_image(pairs / "good" / f"{scene}.png", picture(*PLACES), "8")
    rate = findings(pairs, "good").miss_rate("good")
    assert rate.low < rate.mean < rate.high
    assert rate.mean == pytest.approx(1 / 6)
    write_image(pairs / "bad" / "0.png", picture(PLACES[0]), "8")
    for scene in range(1, 6):
        write_image(pairs / "bad" / f"{scene}.png", picture(PLACES[0]), "8")
    write_image(pairs / "bad" / "5.png", picture(), "8")
    (warning,) = findings(pairs, "bad").behind()
    assert "may be chance" in warning


def test_coco_and_voc_say_the_same_as_yolo(pairs):
    yolo = read_boxes(pairs / "labels")
    images = [{"id": i, "file_name": f"x/{i}.png", "width": SIZE[1], "height": SIZE[0]} for i in range(6)]
    boxes = [
        {"id": 10 * i + k, "image_id": i, "category_id": 7, "bbox": [left, top, SIDE, SIDE]}
        for i in range(6)
        for k, (top, left) in enumerate(PLACES)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "thing"}]}
    (pairs / "coco.json").write_text(json.dumps(content))
    (pairs / "voc").mkdir()
    objects = "".join(
        f"<object><name>thing</name><bndbox><xmin>{x + 1}</xmin><ymin>{t + 1}</ymin><xmax>{x + SIDE}</xmax>"
        f"<ymax>{t + SIDE}</ymax></bndbox></object>"
        for t, x in PLACES
    )
    text = f"<annotation><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>{objects}</annotation>"
    for i in range(6):
        (pairs / "voc" / f"{i}.xml").write_text(text)
    for other in (read_boxes(pairs / "coco.json"), read_boxes(pairs / "voc")):
        assert other.keys() == yolo.keys()
        for name, own in yolo.items():
            assert [label for label, _ in other[name]] == [label for label, _ in own]
            np.testing.assert_allclose([b for _, b in other[name]], [b for _, b in own], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("0.txt", "0 1 2 3", "line 1 has 4 values"),
        ("0.txt", "0 1 2 3 nan", "no box of four numbers"),
        ("0.json", "{}", "'images' is missing"),
        ("0.json", "[" * 5000, "no labels"),
        ("0.xml", "<annotation/>", "size/width"),
        ("0.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "document type"),
        ("0.png", "", "holds no labels"),
    ],
)
def test_what_is_no_labels_is_refused_in_a_line(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_boxes(tmp_path)


def test_labels_that_the_detector_does_not_know_are_refused(pairs):
    (pairs / "labels" / "classes.txt").write_text("car\n")
    with pytest.raises(InputError, match="names car; the detector finds thing"):
        findings(pairs, "good")


def test_a_class_that_is_never_found_is_told(pairs):
    (pairs / "labels" / "classes.txt").write_text("thing\ncar\n")
    with (pairs / "labels" / "0.txt").open("a") as stream:
        stream.write("\n1 0.5 0.5 0.1 0.1")
    found = findings(pairs, "all")
    assert found.never == ("car",)
    assert sum(found.missed["all"]) == 1


def test_labels_of_other_pictures_and_empty_ones_are_refused(pairs):
    (pairs / "others").mkdir()
    (pairs / "others" / "elsewhere.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(InputError, match="labels of none of these pictures"):
        findings(pairs, "good", labels="others")
    (pairs / "others" / "3.txt").write_text("")
    with pytest.raises(InputError, match="none of these pictures has a labelled object"):
        findings(pairs, "good", labels="others")


def test_grey_pictures_are_three_equal_channels_to_a_detector(pairs):
    seen = []

    class Shapes(Bright):
        def __call__(self, image):
            seen.append(tuple(image.shape))
            return super().__call__(image)

    find_objects(pairs_of(pairs, "good"), read_boxes(pairs / "labels"), Shapes())
    assert set(seen) == {(1, 3, *SIZE)}
    assert torch.is_inference_mode_enabled() is False


def test_sources_are_read_as_the_scores_read_them_and_resized_if_asked(pairs):
    for scene in range(6):
        small = picture(PLACES[0])[::2, ::2].astype(np.float32)
        write_image(pairs / "ir" / f"{scene}.tif", small * 1000 / 65535, "16")
    given = [
        replace(
            pair,
            sources=(pair.sources[0].with_suffix(".tif"), pair.sources[1]),
            reading=Reading(((0.0, 1000.0), "auto")),
        )
        for pair in pairs_of(pairs, "good")
    ]
    found = find_objects(given, read_boxes(pairs / "labels"), Bright(), resize=True)
    assert found.missed["ir"] == [2] * 6  # dark and a quarter as large, it would show none of the three


def test_the_command_tells_who_misses_and_warns(tmp_path):
    pytest.importorskip("onnx", reason="making a detector needs onnx")
    pytest.importorskip("onnxruntime", reason="running it needs the extra onnx")
    shown = {"ir": [(32, 64)], "vis": [(0, 0)], "lost": [], "both": [(32, 64), (0, 0)]}
    for scene in range(3):
        for name, places in shown.items():
            image = np.zeros((96, 128, 1), np.float32)
            for top, left in places:
                image[top : top + 32, left : left + 32] = 1
            write_image(tmp_path / name / f"{scene}.png", image, "8")
    for scene in range(3):
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{scene}.txt").write_text(
            "0 0.625 0.5 0.25 0.3333333\n0 0.125 0.1666667 0.25 0.3333333\n"
        )
    (tmp_path / "labels" / "classes.txt").write_text("blob\ncar\n")
    methods = [x for name in ("lost", "both") for x in ("--fused", tmp_path / name)]
    detector = ("--detector", "onnx", "--detector-opt", f"file={blob_detector()}", "--labels", tmp_path / "labels")
    pairs, report = ("--pairs", tmp_path / "ir", tmp_path / "vis"), tmp_path / "report.json"
    ran = run_cli("evaluate", *methods, *pairs, *detector, "--metrics", "EN", "-o", report)
    assert ran.returncode == 0, ran.stderr
    assert "6 labelled objects in 3 pictures" in ran.stdout
    assert "lost misses 50.0% more of the labelled objects than ir alone" in ran.stderr
    assert "both misses" not in ran.stderr
    assert json.loads(report.read_text())["objects"]["methods"]["both"]["miss_rate"]["mean"] == 0
    (tmp_path / "labels" / "0.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    told = run_cli("evaluate", *methods, *pairs, *detector, "--metrics", "EN")
    assert "nothing was found of car; all of these count as missed" in told.stderr
    refused = run_cli("evaluate", *methods, *pairs, "--labels", tmp_path / "labels")
    assert refused.returncode == 2
    assert "no detector is chosen" in refused.stderr
