"""Pictures that were enlarged after noise and lines came in: both are undone in the pixels that the picture had before.

    y = U(x + r),  x̂ = y + U(r's correction at every so many pixels of y)      U: enlargement

In y noise is neither white nor as fine as the flow knows it, and lines are broad, as the scene's are. In every third or
fourth pixel noise is white again, while y hardly changes between these: fine texture, which looks like noise in every
fourth pixel, does.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from fusionkit.contracts import Degradation, Options
from fusionkit.flow.restoring import Restoration
from fusionkit.numerics.noise import SIZE, estimate_noise
from fusionkit.numerics.noise import Noise as Model

DEAD_ZONE = 1.5 / 255  # estimates of noise below count as none: no clean photograph measured reaches it
SCALES = 3, 4  # at which enlarged noise is sought
LINES = 24  # about the number of rows, and of columns, that tell how rough a picture is
# largest typical distance of a pixel from the mean of two neighbours, in deviations of the noise: 0.17 to 0.25 where it
# was enlarged; 0.34 and more in clean pictures whose texture looks like noise at a scale
SMOOTH = 0.28


class EnlargedOptions(Options):
    """Options of degradations that may have been enlarged with the picture."""

    scale: int = Field(1, ge=1, le=8, description="how many times the picture was enlarged after it came in")


class Enlarged(Degradation):
    """A degradation that is undone in every `scale`th pixel each way; the difference is enlarged."""

    Options = EnlargedOptions
    manner = frozenset({"steps", "scale"})

    @abstractmethod
    def degraded(self, x: Tensor, generator: Generator | None) -> Tensor:
        """`forward` where nothing was enlarged."""

    @abstractmethod
    def undone(self, y: Tensor, noise: float) -> Restoration:
        """`undo` where nothing was enlarged."""

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """x with what the camera added, enlarged."""
        seen = _sampled(x, self.options.scale)
        return self._changed(x, seen, self.degraded(seen, generator))

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """Undo it in the pixels that the picture had."""
        seen = _sampled(y, self.options.scale)
        return self._changed(y, seen, (yield from self.undone(seen, noise)))

    @property
    def coarse(self) -> bool:  # type: ignore[override]
        """Where the picture was enlarged."""
        return self.options.scale > 1

    @property
    def enlarged(self) -> str:
        """For the user's notes."""
        return f", enlarged {self.options.scale} times" if self.coarse else ""

    def _changed(self, x: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """x, changed as its samples were."""
        if not self.coarse:
            return after
        change = F.interpolate(after - before, scale_factor=self.options.scale, mode="bicubic")
        return x + change[..., : x.shape[-2], : x.shape[-1]]


def enlarged_noise(y: Tensor) -> tuple[Model, int]:
    """The noise of y (1, 1, H, W) at the scale at which it is white, if y was enlarged; and that scale, 1 if not."""
    if min(y.shape[-2:]) < SIZE * max(SCALES):
        return Model(), 1
    rough = _roughness(y)
    for scale in SCALES:
        if rough < SMOOTH * _roughness(y, scale):  # as is noise by far: most pictures need no estimate of it
            (found,) = estimate_noise(_sampled(y, scale))
            if found.level >= DEAD_ZONE and rough < SMOOTH * found.level:
                return found, scale
    return Model(), 1


def _roughness(y: Tensor, scale: int = 1) -> float:
    """Median distance of pixels that are not clipped from the mean of two neighbours, of both axes the larger one.

    As the deviation of a normal distribution; in some `LINES` rows and columns of the samples. NaN: all are clipped.
    """
    found = []
    for pixels in (y, y.mT):
        apart = max(1, pixels.shape[-2] // (scale * LINES))
        few = pixels.unfold(-2, scale, scale * apart).mT.flatten(-3, -2)
        lines = _sampled(few, scale)
        middle = lines[..., 1:-1]
        clipped = (middle - 0.5).abs() >= 0.5 - 1 / 255
        distance = (lines[..., 2:] + lines[..., :-2] - 2 * middle).abs_().masked_fill_(clipped, torch.nan)
        found.append(distance.nanmedian())
    return float(torch.stack(found).max()) / (2 * 0.6745)


def _sampled(y: Tensor, scale: int) -> Tensor:
    """The middle of each square of y (1, 1, H, W), its pixel or the mean of the four there; ends are repeated."""
    if scale == 1:
        return y
    first, side = (scale - 1) // 2, 2 - scale % 2
    whole = F.pad(y, (0, -y.shape[-1] % scale, 0, -y.shape[-2] % scale), mode="replicate")
    return F.avg_pool2d(whole[..., first:, first:], side, scale)
