"""Any detector in an ONNX file, by a card that says how its boxes are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from fusionkit.contracts import Detection, Detector, Options
from fusionkit.errors import OptionError, PluginError, one_line
from fusionkit.images.picture import Array
from fusionkit.options import FilePath, When
from fusionkit.scoring.detection import union
from fusionkit.storage.manifest import sha256
from fusionkit.weights.foreign import OnnxModel, read_card

CARD = 'size = [640, 640], decoder = "yolo", labels = ["person"]'
GREY = 114 / 255  # beside a picture that does not fill the input, as YOLO's code pads
Triple = tuple[float, float, float]


class OnnxDetectorCard(Options):
    """How a detector is used: the TOML beside its file."""

    size: tuple[Annotated[int, Field(ge=16, le=8192)], Annotated[int, Field(ge=16, le=8192)]] = Field(
        description="height and width of the input; pictures are fitted in, the rest is grey"
    )
    labels: tuple[str, ...] = Field(min_length=1, description="names of the classes, in the network's order")
    decoder: Literal["yolo", "yolo-objectness", "yolo-end2end", "boxes"] = Field(
        "yolo",
        description="yolo: (1, 4 + classes, boxes), centre, width, height (YOLOv8 to 11); yolo-objectness: (1, boxes, "
        "5 + classes) (YOLOv5, 7); yolo-end2end: (1, boxes, 6), corners, score, class (YOLOv10, exports with nms); "
        "boxes: three outputs, corners, scores and classes (torchvision, RT-DETR)",
    )
    outputs: Annotated[tuple[str, str, str], When("decoder", "boxes")] = Field(
        ("boxes", "scores", "labels"), description="names of the outputs"
    )
    relative: bool = Field(False, description="coordinates are shares of the input's sides")
    first_class: Annotated[int, When("decoder", "boxes")] = Field(
        0, ge=0, le=1, description="number of the first class"
    )
    range: tuple[float, float] = Field((0.0, 1.0), description="black and white of the input")
    order: Literal["rgb", "bgr"] = Field("rgb", description="order of the input's channels")
    mean: Triple = Field((0.0, 0.0, 0.0), description="subtracted from the channels")
    std: Triple = Field((1.0, 1.0, 1.0), description="then divided by")

    @model_validator(mode="after")
    def _fits(self) -> "OnnxDetectorCard":
        if not self.range[1] > self.range[0]:
            raise ValueError("range: white must be above black")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        return self


class OnnxDetectorOptions(Options):
    """Options of the detector `onnx`."""

    file: FilePath = Field("", description="the .onnx file, with a .toml beside it")
    threshold: float = Field(0.25, ge=0, le=1, description="least score")


class OnnxDetector(Detector):
    """What the network finds, overlaps of one class suppressed. Raises OptionError, WeightsError, PluginError."""

    Options = OnnxDetectorOptions
    options: OnnxDetectorOptions

    def __init__(self, options: OnnxDetectorOptions) -> None:
        super().__init__(options)
        if not options.file:
            raise OptionError("detector onnx needs `file`, an .onnx file with its card beside it")
        self._place = Path(options.file)
        self.card = read_card(self._place, OnnxDetectorCard, CARD)
        outputs = self.card.outputs if self.card.decoder == "boxes" else None
        self._model = OnnxModel(self._place.read_bytes, str(self._place), outputs)
        digest = sha256(self._place)
        self.definition = f"{self._place.name} ({digest[:12]}), its boxes as {self.card.decoder}"
        self.version = f"{digest}, {self.card.model_dump()}, {options.threshold}"
        self.provenance = {"weights": self._place.name, "sha256": digest}

    def prepare(self) -> None:
        """Load the network now."""
        _ = self._model.inputs

    def __call__(self, image: Tensor) -> Sequence[Detection]:
        """Find objects in an image (1, 3, H, W), the surest first."""
        given, scale = self._fitted(image)
        try:
            first, *others = self._model.inputs
            image_only = given[0] if len(first.shape) == 3 else given  # torchvision's take one picture
            sizes = [np.array([self.card.size[::-1]]) for _ in others]  # RT-DETR's also take width and height
            answers = self._model(image_only, *sizes)
            boxes, scores, classes = self._decoded([np.asarray(a, np.float32) for a in answers])
        except Exception as error:  # of onnxruntime, and of answers in another shape
            raise PluginError(
                f"{self._place.name} fails, or answers otherwise than its card says: {one_line(error)[:200]}"
            ) from None
        height, width = image.shape[-2:]
        found = []
        for box, score, number in zip(boxes / scale, scores, classes, strict=True):
            left, top, right, bottom = np.clip(box, 0, [width, height, width, height]).tolist()
            if score >= self.options.threshold and right > left and bottom > top:
                found.append(Detection((left, top, right, bottom), float(score), self.card.labels[int(number)]))
        return union([found])

    def _fitted(self, image: Tensor) -> tuple[Array, float]:
        """The picture, fitted into the input's upper left corner, as the network takes it; and its scale."""
        height, width = self.card.size
        scale = min(height / image.shape[-2], width / image.shape[-1])
        size = [max(1, round(side * scale)) for side in image.shape[-2:]]
        x = F.interpolate(image.float().cpu(), size, mode="bilinear", antialias=True)
        x = F.pad(x, (0, width - size[1], 0, height - size[0]), value=GREY)
        low, high = self.card.range
        x = low + (high - low) * (x if self.card.order == "rgb" else x.flip(1))
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.card.mean, self.card.std))
        return ((x - mean) / std).numpy(), scale

    def _decoded(self, answers: Sequence[Array]) -> tuple[Array, Array, Array]:
        """Corners (N, 4) in pixels of the input, scores and classes (N,)."""
        if self.card.decoder == "boxes":
            boxes, scores, classes = (a.reshape(-1, 4) if i == 0 else a.ravel() for i, a in enumerate(answers))
            classes = classes - self.card.first_class
        elif self.card.decoder == "yolo-end2end":
            (rows,) = answers[0]
            boxes, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5]
        else:
            (rows,) = answers[0]
            rows = rows.T if self.card.decoder == "yolo" else rows
            middle, half = rows[:, :2], rows[:, 2:4] / 2
            boxes = np.concatenate([middle - half, middle + half], axis=1)
            shares = rows[:, 4:] if self.card.decoder == "yolo" else rows[:, 5:] * rows[:, 4:5]
            if shares.shape[1] != len(self.card.labels):
                raise ValueError(f"{shares.shape[1]} classes, labels names {len(self.card.labels)}")
            scores, classes = shares.max(axis=1), shares.argmax(axis=1)
        if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
            raise ValueError("NaN or infinite values")
        known = (classes >= 0) & (classes < len(self.card.labels))
        sides = np.array([*self.card.size[::-1]] * 2) if self.card.relative else 1.0
        return (boxes * sides)[known], scores[known], classes[known]
