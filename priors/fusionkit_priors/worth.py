"""What a source is worth at a place: the structure that it shows there, beyond its own noise."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from fusionkit.numerics.choice import order_statistics, with_data
from fusionkit.numerics.window import box_mean, enlarged_rows, reduced

# set by the audit and by eye on clean pairs and on pairs with stripes and noise (docs/decisions/em-tv.md)
FLATTEST, TIMES = 0.15, 3.0  # quantile of energies that noise is measured at, and factor below which they are noise
SHOWING = 0.7  # quantile of energies that tells whether a source shows more than noise
LOUDEST = 8 / 255  # deviation above which what lies over the whole picture alike is texture, unless noise is known
UNSEEN = 1 / 255  # deviation of a contrast that is not seen
ROWS, BAND = 200, 4  # least shorter side of the reduced copy; radius on it of the mean that contrast is measured from
STEP, WINDOW = 3, 2  # that copy's samples to one energy; radius of its mean, which is taken twice


class Worth(NamedTuple):
    """Structure of a source: energy of its local contrast, beyond the energy of its noise.

    Noise, stripes, rain and snow lie over the whole picture: the flattest parts have nearly as much as the middling
    ones. Texture does not, its flattest parts have little.

    energy: of the local contrast, beside what is not seen; structure: what is left of it without noise; (B, 1, h, w)
    each, of samples of `factor`² pixels. trust: 0 where 30 % of the source show no structure, 1 where they show half as
    much structure as noise counts for; noise: energy below which contrast is noise; veil: brightness that nearly all of
    the source exceeds; (B, 1, 1, 1) each.
    """

    energy: Tensor
    structure: Tensor
    trust: Tensor
    noise: Tensor
    veil: Tensor
    factor: int

    @classmethod
    def of(cls, y: Tensor, noise: Tensor, steady: Callable[[str, Tensor], Tensor], valid: Tensor | None = None) -> Self:
        """Structure of a source (B, 1, H, W) whose known noise has the deviation `noise`, (B, 1, 1, 1).

        steady: averages statistics over the frames of a video. valid: (B, 1, H, W) of bool, where the source has data,
        which alone tell its noise; elsewhere another source is shown.
        """
        factor = max(1, min(y.shape[-2:]) // ROWS)
        small = reduced(y, factor)
        energy = reduced((small - box_mean(small, BAND)).square_(), STEP)
        energy = box_mean(box_mean(energy, WINDOW), WINDOW)
        flattest, middling, showing = quantiles(energy, FLATTEST, 0.5, SHOWING, valid=valid)
        alike = (flattest.square() / middling.clamp_min(1e-12)).clamp_max(LOUDEST**2)
        floor = TIMES * torch.maximum(steady("noise", alike), noise.square() / factor**2)
        trust = steady("trust", (2 * (showing - floor) / (floor + UNSEEN**2)).clamp(0, 1))
        veil = steady("veil", quantiles(reduced(small, STEP), FLATTEST, valid=valid)[0])
        structure = (energy - floor).clamp_min_(0)
        return cls(energy.add_(UNSEEN**2), structure, trust, floor, veil, STEP * factor)

    def beside(self, other: Self) -> Tensor:
        """How far the source counts beside another: share of its structure in its contrast and the other's structure.

        At least its trust. (B, 1, h, w)
        """
        return torch.maximum(self.structure / (self.energy + other.structure), self.trust)

    def rows(self, x: Tensor, rows: slice, width: int) -> Tensor:
        """Rows of the source's pixels, `width` long, of a map (B, 1, h, w)."""
        return enlarged_rows(x, self.factor, rows, width)


def quantiles(x: Tensor, *shares: float, valid: Tensor | None = None) -> list[Tensor]:
    """Quantiles of each image's samples, (B, 1, 1, 1) each. valid: as in `with_data`."""
    rows = [row[None] for row in with_data(x, valid)]
    found = torch.cat(
        [order_statistics(row, [max(0, int(share * row.shape[1]) - 1) for share in shares]) for row in rows]
    )
    return [column.view(-1, 1, 1, 1) for column in found.unbind(1)]
