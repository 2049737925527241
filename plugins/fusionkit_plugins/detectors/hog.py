"""People by histograms of oriented gradients. Needs OpenCV 4."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Detection, Detector, Options
from fusionkit.errors import BrokenPlugin
from fusionkit.extras import install
from fusionkit.scoring.detection import union

WINDOW = (64, 128)  # width and height that the shipped classifier of OpenCV was trained on


class HOGPeopleOptions(Options):
    """Options of the detector `hog_people`."""

    threshold: float = Field(0.3, description="least score; 0 keeps all that the classifier accepts")
    enlarge: float = Field(
        1.0, ge=1, le=4, description="factor that enlarges the image; people under 100 pixels need 2"
    )
    step: float = Field(1.05, gt=1, le=2, description="ratio between neighbouring scales of the search")


class HOGPeople(Detector):
    """Standing people (Dalal & Triggs, CVPR 2005) by OpenCV's linear classifier, overlaps suppressed.

    Weaker than trained networks, but equal on any CPU and without a download: for comparing methods on the same pairs,
    not for counting people.
    """

    Options = HOGPeopleOptions
    definition = "OpenCV's HOGDescriptor with its default people detector, stride 8, padding 8, 8-bit colour"
    options: HOGPeopleOptions

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._cv2: Any = import_module("cv2")
        if not hasattr(self._cv2, "HOGDescriptor"):
            raise BrokenPlugin(
                f"detector hog_people needs OpenCV 4, which has HOG, not {self._cv2.__version__}: {install('detect')}"
            )
        self._hog = self._cv2.HOGDescriptor()
        self._hog.setSVMDetector(self._cv2.HOGDescriptor_getDefaultPeopleDetector())
        self.version = f"OpenCV {self._cv2.__version__}, {options.model_dump()}"

    def __call__(self, image: Tensor) -> Sequence[Detection]:
        """Find people in an image (1, 3, H, W), the surest first."""
        o = self.options
        pixels = (image[0] * 255).round().byte().permute(1, 2, 0).flip(-1).contiguous().cpu().numpy()
        if o.enlarge > 1:
            size = [round(side * o.enlarge) for side in (pixels.shape[1], pixels.shape[0])]
            pixels = self._cv2.resize(pixels, size, interpolation=self._cv2.INTER_CUBIC)
        if pixels.shape[1] < WINDOW[0] or pixels.shape[0] < WINDOW[1]:
            return []
        boxes, scores = self._hog.detectMultiScale(pixels, winStride=(8, 8), padding=(8, 8), scale=o.step)
        found = [
            Detection((x / o.enlarge, y / o.enlarge, (x + w) / o.enlarge, (y + h) / o.enlarge), float(score), "person")
            for (x, y, w, h), score in zip(boxes, np.ravel(scores), strict=True)
            if score >= o.threshold
        ]
        return union([found])
