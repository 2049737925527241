"""Detectors that are brought: pictures are fitted into their input, and their boxes come back in the picture's pixels."""

import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkit.errors import OptionError, PluginError, WeightsError
from fusionkit_plugins.detectors.onnx import OnnxDetector, OnnxDetectorCard, OnnxDetectorOptions

onnx = pytest.importorskip("onnx", reason="making detectors needs onnx")
pytest.importorskip("onnxruntime", reason="running them needs the extra onnx")
from harness import blob_detector  # noqa: E402


@pytest.fixture
def file(tmp_path):
    """A copy of the detector of blobs, whose card may be changed."""
    for suffix in (".onnx", ".toml"):
        shutil.copy(Path(blob_detector()).with_suffix(suffix), tmp_path)
    return tmp_path / "blobs.onnx"


def detector(file, card=None, **options):
    if card is not None:
        file.with_suffix(".toml").write_text(card)
    return OnnxDetector(OnnxDetectorOptions(file=str(file), **options))


def with_blob(height, width, top, left, side):
    image = torch.zeros(1, 3, height, width)
    image[..., top : top + side, left : left + side] = 1
    return image


@pytest.mark.parametrize("zoom", [1, 2, 3])
def test_boxes_are_in_the_pictures_pixels(file, zoom):
    image = with_blob(96 * zoom, 128 * zoom, 32 * zoom, 64 * zoom, 32 * zoom)
    (found,) = detector(file)(image)
    assert found.label == "blob"
    assert found.box == pytest.approx((64 * zoom, 32 * zoom, 96 * zoom, 64 * zoom))
    assert found.score > 0.9


def test_it_travels_to_other_processes_after_its_first_use(file):
    own, image = detector(file), with_blob(96, 128, 32, 64, 32)
    assert pickle.loads(pickle.dumps((own, own(image))))[0](image) == own(image)


def test_another_aspect_is_fitted_and_nothing_is_found_in_the_grey_beside(file):
    (found,) = detector(file, threshold=0.45)(with_blob(64, 256, 0, 64, 64))  # half as large inside
    assert found.box == pytest.approx((64, 0, 128, 64), abs=1e-3)


def test_threshold_and_range_act(file):
    image = 0.5 * with_blob(96, 128, 32, 64, 32)
    assert detector(file, threshold=0.4)(image)
    assert not detector(file, threshold=0.6)(image)
    card = 'size = [96, 128]\nlabels = ["blob"]\nrange = [0, 2]'
    assert detector(file, card, threshold=0.6)(image)


def test_order_mean_and_std_are_the_cards(file):
    image = with_blob(96, 128, 32, 64, 32)
    image[:, 0] = 0  # nothing in red, which the detector looks at
    assert not detector(file)(image)
    assert detector(file, 'size = [96, 128]\nlabels = ["blob"]\norder = "bgr"')(image)
    shifted = 'size = [96, 128]\nlabels = ["blob"]\nmean = [-0.5, 0, 0]\nstd = [0.5, 1, 1]'
    assert len(detector(file, shifted, threshold=0.9)(torch.zeros(1, 3, 96, 128))) == 12


def answering(tmp_path, **outputs):
    """A detector that gives the same outputs for every picture."""
    nodes, made = [], []
    for name, values in outputs.items():
        tensor = onnx.numpy_helper.from_array(values, name=f"{name}_value")
        nodes.append(onnx.helper.make_node("Constant", [], [name], value=tensor))
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        made.append(onnx.helper.make_tensor_value_info(name, kind, values.shape))
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
    graph = onnx.helper.make_graph(nodes, "fixed", [given], made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    place = tmp_path / "fixed.onnx"
    onnx.save(model, place)
    return place


def test_corners_scores_and_classes_of_three_outputs(tmp_path):
    place = answering(
        tmp_path,
        det=np.array([[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]], np.float32),
        conf=np.array([0.9, 0.8, 0.7], np.float32),
        cls=np.array([1, 2, 3], np.int64),
    )
    card = (
        'size = [64, 64]\nlabels = ["a", "b"]\ndecoder = "boxes"\noutputs = ["det", "conf", "cls"]\nrelative = true\n'
    )
    found = detector(place, card + "first_class = 1")(torch.zeros(1, 3, 128, 128))
    assert [(f.label, f.box) for f in found] == [("a", (0, 0, 64, 64)), ("b", (64, 64, 128, 128))]


def test_objectness_times_class_and_overlaps_once(tmp_path):
    rows = [[20, 20, 10, 10, 0.8, 0.1, 1.0], [21, 20, 10, 10, 0.9, 0.0, 0.7], [50, 50, 8, 8, 0.2, 1.0, 0.0]]
    place = answering(tmp_path, y=np.array([rows], np.float32))
    card = 'size = [64, 64]\nlabels = ["a", "b"]\ndecoder = "yolo-objectness"'
    (found,) = detector(place, card)(torch.zeros(1, 3, 64, 64))
    assert (found.label, found.box) == ("b", (15, 15, 25, 25))
    assert found.score == pytest.approx(0.8)


def test_corners_score_and_class_of_one_output(tmp_path):
    rows = [[0, 0, 20, 20, 0.9, 1], [40, 40, 60, 60, 0.8, 0], [40, 41, 60, 60, 0.7, 0], [0, 0, 0, 0, 0, 0]]
    place = answering(tmp_path, y=np.array([rows], np.float32))
    card = 'size = [64, 64]\nlabels = ["a", "b"]\ndecoder = "yolo-end2end"'
    found = detector(place, card)(torch.zeros(1, 3, 64, 64))
    assert [(f.label, f.box) for f in found] == [("b", (0, 0, 20, 20)), ("a", (40, 40, 60, 60))]


class OfPublishedForm(torch.nn.Module):
    """One box over the left half, its score the mean of the picture, as torchvision or RT-DETR give it."""

    def forward(self, image, size=None):
        size = torch.tensor([[image.shape[-1], image.shape[-2]]]) if size is None else size
        box = torch.cat([0 * size, size], 1) * torch.tensor([[1.0, 1.0, 0.5, 1.0]])
        return box, image.mean().reshape(1), (0 * size[0, :1]).long()


@pytest.mark.parametrize("given", [(torch.ones(3, 64, 96),), (torch.ones(1, 3, 64, 96), torch.tensor([[96, 64]]))])
def test_one_picture_without_batch_and_pictures_with_their_size(tmp_path, given):
    place = tmp_path / "published.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["x", "size"][: len(given)], "output_names": ["boxes", "scores", "labels"]}
        torch.onnx.export(OfPublishedForm(), given, place, dynamo=False, **names)
    (found,) = detector(place, 'size = [64, 96]\nlabels = ["a"]\ndecoder = "boxes"')(torch.ones(1, 3, 128, 192))
    assert found.box == pytest.approx((0, 0, 96, 128))
    assert found.score == pytest.approx(1)


@pytest.mark.parametrize(
    ("card", "error", "words"),
    [
        ('labels = ["a"]', OptionError, "size"),
        ("size = [64, 64]\nlabels = []", OptionError, "labels"),
        ('size = [64, 64]\nlabels = ["a"]\ndecoder = "ssd"', OptionError, "decoder"),
        ('size = [64, 64]\nlabels = ["a"]\nstd = [0, 1, 1]', OptionError, "above 0"),
        ('size = [64, 64]\nlabels = ["a"]\nrange = [0, inf]', OptionError, "finite"),
        ('size = [64, 64]\nlabels = ["a"]\nfirst_class = 1', OptionError, "only with `decoder` boxes"),
        ('size = [64, 64]\nlabels = ["a"]\noutputs = ["a", "b", "c"]', OptionError, "only with `decoder` boxes"),
    ],
)
def test_a_card_that_says_nothing_is_refused(file, card, error, words):
    with pytest.raises(error, match=words):
        detector(file, card)


def test_answers_that_the_card_does_not_describe_are_refused(file, tmp_path):
    with pytest.raises(PluginError, match=r"names 2"):
        detector(file, 'size = [96, 128]\nlabels = ["a", "b"]')(torch.zeros(1, 3, 96, 128))
    with pytest.raises(PluginError, match="otherwise than its card says"):
        detector(file, 'size = [64, 64]\nlabels = ["a"]\ndecoder = "boxes"')(torch.zeros(1, 3, 64, 64))
    place = answering(tmp_path, y=np.full((1, 5, 2), np.nan, np.float32))
    with pytest.raises(PluginError, match="NaN"):
        detector(place, 'size = [64, 64]\nlabels = ["a"]')(torch.zeros(1, 3, 64, 64))
    with pytest.raises(OptionError, match="needs `file`"):
        OnnxDetector(OnnxDetectorOptions())
    with pytest.raises(WeightsError, match="does not exist"):
        detector(tmp_path / "missing.onnx")


def test_the_fields_of_a_card_are_described():
    assert all(field.description for field in OnnxDetectorCard.model_fields.values())
