"""What metrics and detectors answer."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..sources import Sources
from .base import Plugin


class Metric(Plugin, ABC):
    """One number a pair: how well `fused` keeps what the sources show.

    definition, range and version say exactly which number this is: two metrics of one name and different
    definitions are the field's oldest complaint. color: True asks for the images as their files have them, one or
    three channels, instead of luma. shows: what `map` shows the place of; empty where there is none. ideal: the value
    of a perfect result where more is a fault, too, as 1 is of a share that is kept; None: the higher, or the lower, the
    better. scenes: kinds of scene that it is made for, as `fusionkit.scene.SCENE_KINDS` names them; empty: all. In an
    evaluation of others it is not ranked.
    """

    definition: str
    range: tuple[float, float] = (-math.inf, math.inf)
    higher_is_better: bool = True
    ideal: float | None = None
    scenes: tuple[str, ...] = ()
    version: str = "1"
    color: bool = False
    shows: Literal["", "lost", "invented"] = ""

    @abstractmethod
    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """fused (B, 1, H, W), luma in [0, 1], or (B, 3, H, W) where `color` is set -> (B,)."""

    def suits(self, scene: str) -> bool:
        """Whether it is made for this kind of scene; "" for one that is not known."""
        return not (self.scenes and scene) or scene in self.scenes

    @property
    def better(self) -> str:
        """Which values are better, for a heading: ↑, ↓, or the ideal as →1."""
        return ("↑" if self.higher_is_better else "↓") if self.ideal is None else f"→{self.ideal:g}"

    def merit(self, value: float) -> float:
        """Rank of a value among others of this metric: the larger, the better; nan stays nan."""
        if self.ideal is not None:
            return -abs(value - self.ideal)
        return value if self.higher_is_better else -value

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Where something was lost or invented, of the same inputs: (B, 1, H, W) in grey levels, 0 where nothing."""
        raise TypeError(f"{type(self).__name__} has no map (shows is empty)")


@dataclass(frozen=True)
class Detection:
    """One object: box (left, top, right, bottom) in pixels from the upper left corner; score grows with certainty."""

    box: tuple[float, float, float, float]
    score: float
    label: str


class Detector(Plugin, ABC):
    """Finds objects in an image; the evaluator compares what it finds in a result and in its sources.

    definition, version: which detector this is, so that its numbers can be made again.
    """

    definition: str
    version: str = "1"

    @abstractmethod
    def __call__(self, image: Tensor) -> Sequence[Detection]:
        """image (1, 3, H, W) in [0, 1], grey as three equal channels -> its objects, in any order."""
