"""Noise: white, or growing with light, or along rows, or enlarged with its picture. The flow cleans it at once."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from scipy.signal import lfilter
from torch import Generator, Tensor

from fusionkit.flow.restoring import Restoration
from fusionkit.numerics.noise import Noise as Model
from fusionkit.numerics.noise import estimate_noise, stabilise, unstabilise
from fusionkit.numerics.strips import in_strips
from fusionkit.options import When

from .enlarged import DEAD_ZONE, Enlarged, EnlargedOptions, enlarged_noise
from .recursion import over_time


class NoiseOptions(EnlargedOptions):
    """Options of `noise`: one level, or variance(x) = slope x + offset."""

    level: float = Field(
        0.0, ge=0, le=255, description="deviation of the luma's noise, in levels of 255; 0: by slope, at mid-grey"
    )
    slope: float = Field(0.0, ge=0, description="growth of the variance from black to white, in units of [0, 1]²")
    offset: Annotated[float, When("slope", above=0)] = Field(
        0.0, ge=0, description="variance at black, in units of [0, 1]²"
    )
    correlation: float = Field(0.0, ge=0, lt=1, description="of neighbours in a row, as the noise of line scanners has")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if "level" in self.model_fields_set and not self.level and not self.slope:
            raise ValueError("`level=0` is no noise; leave it out to have it estimated, or give `slope`")
        return self


class Noise(Enlarged):
    """y = x + s ε, which is (1 - t) y on the flow's path with t = s / (1 + s): a point of the path itself.

    Noise that grows with light is made uniform first (`fusionkit.numerics.noise.stabilise`).
    """

    Options = NoiseOptions
    decisive = frozenset({"level", "slope"})
    manner = Enlarged.manner | {"correlation"}

    @property
    def deviation(self) -> float:  # type: ignore[override]
        """Of the noise, in units of [0, 1]."""
        return self._model.level

    @property
    def _model(self) -> Model:
        o = self.options
        level = o.level / 255 or math.sqrt(o.slope / 2 + o.offset)
        return Model(level, o.slope, o.offset if o.slope else level**2, o.correlation)

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The options of the noise, where its level is above the dead zone."""
        (found,), scale = estimate_noise(y), 1
        if found.level < DEAD_ZONE:
            found, scale = enlarged_noise(y)
        if found.level < DEAD_ZONE:
            return None
        grows = {"slope": found.slope, "offset": found.offset} if found.slope else {}
        return {"level": 255 * found.level, "correlation": max(0.0, found.correlation), "scale": scale, **grows}

    @classmethod
    def estimate_chroma(cls, y: Tensor) -> Mapping[str, Any] | None:
        """The level alone, above the dead zone."""
        level = estimate_noise(y.clamp(0, 1))[0].level
        return {"level": 255 * level} if level >= DEAD_ZONE else None

    def degraded(self, x: Tensor, generator: Generator | None) -> Tensor:
        """x with noise."""
        model = self._model
        white = torch.randn(x.shape, generator=generator)
        if model.correlation:
            r = model.correlation
            rows = lfilter([math.sqrt(1 - r**2)], [1.0, -r], white.numpy(), axis=-1)
            white = torch.from_numpy(rows)
        return x + model.variance(x).clamp_min(0).sqrt() * white.to(x)

    def undone(self, y: Tensor, noise: float) -> Restoration:
        """One evaluation at the noise's own t; of a video's frames at the t that an average over time has left."""
        if not self._model.level:
            return y
        stable, deviation = stabilise(y, self._model)
        x0 = yield from over_time(stable, deviation, self.memory)
        del stable
        return in_strips(partial(unstabilise, noise=self._model), x0, reach=0)

    def describe(self) -> str:
        """Kind and level."""
        o = self.options
        kind = "noise along rows" if o.correlation else "noise that grows with light" if o.slope else "noise"
        return f"{kind} of {255 * self.deviation:.1f} levels{self.enlarged}"
