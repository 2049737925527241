"""JPEG: the file's quantisation table tells in which cell each coefficient of the clean picture lies.

    c = DCT(255 y - 128),  q = round(c / Q),  DCT(255 x - 128) in [(q - 1/2) Q, (q + 1/2) Q]

for each 8x8 block and the table Q (ITU-T T.81, A.3.3 and A.3.4). The flow's estimate x̂₀ is a guess of the coefficients
with errors of its own, taken as normal: the proximal step is the mean of that normal distribution cut off at the
cell's ends. For a certain estimate this is the projection onto the cell (Zakhor, "Iterative procedures for reduction of
blocking effects in transform image coding", IEEE TCSVT 1992), for an uncertain one the cell's centre, which is y.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Generator, Tensor

from fusionkit.contracts import Splitting, SplittingOptions
from fusionkit.flow.restoring import LEAST, Restoration, falling
from fusionkit.options import When

SIZE = 8  # side of a block, pixels
# luma, quality 50 (ITU-T T.81, table K.1)
STANDARD = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
MIDDLE = 50  # quality of the standard's own table
WORST = 60  # best quality that is undone unasked
LOW = 4  # sum of the frequencies up to which a table tells its quality: encoders differ in the others
SHIFTS = tuple((row, (3 * row + turn) % SIZE) for row in range(SIZE) for turn in (0, 4))  # of the grid, to begin
FIRST, LAST = 1.2, 0.35  # deviations that the flow is asked at, in that of y's errors
ALONE = 0.6  # likewise, of a single evaluation
BEGUN, CLEANED = 2.0, 1.0  # deviation of the errors of the first estimate and of the flow's, in that of y's
FLATNESS = 1.5  # exponent of the fall of coefficients over frequencies, where a table leaves none
ROUNDING = 1.0  # levels, rms: blocks further from the lattice were clipped, or are cut by the frame
ON_LATTICE = 0.15  # median distance of coefficients from the lattice, in its steps; a quarter in any other picture
SEEN = 2000  # blocks that are looked at for it
STRIP = 2**16  # pixels that are transformed at once: a dozen planes stay in a processor's cache
VAGUE = 20.0  # deviation of an estimate, in cells, that tells nothing
TAIL = 6.0  # deviations beyond which a normal distribution counts as zero
RARE = 1e-4  # probability of a cell below which the estimate is projected onto it


def standard_table(quality: int) -> tuple[int, ...]:
    """The luma table of a quality from 1 to 100, in rows: 64 steps, scaled as by the Independent JPEG Group."""
    scale = 5000 // quality if quality < MIDDLE else 200 - 2 * quality
    return tuple(min(max((step * scale + 50) // 100, 1), 255) for step in STANDARD)


def quality_of(table: tuple[int, ...]) -> int:
    """The quality, from 1 to 100, whose standard table has the same mean of the low frequencies."""
    low = [i for i in range(SIZE**2) if i // SIZE + i % SIZE <= LOW]

    def distance(quality: int) -> tuple[int, int]:
        standard = standard_table(quality)
        return abs(sum(standard[i] - table[i] for i in low)), sum(
            abs(a - b) for a, b in zip(standard, table, strict=True)
        )

    return min(range(100, 0, -1), key=distance)


class JpegOptions(SplittingOptions):
    """Options of `jpeg`: the table is the file's, or that of a quality."""

    steps: int = Field(4, ge=1, le=100, description="evaluations of the flow: fewer are faster, more are better")
    quality: int | None = Field(
        None,
        ge=1,
        le=100,
        description="of the standard luma table; by default the file's own table, and without one 50",
    )
    table: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], When("quality", None)] = Field(
        (), description="quantisation table of the luma: its 64 steps row by row, for upright pixels"
    )
    offset: tuple[Annotated[int, Field(ge=0, lt=SIZE)], Annotated[int, Field(ge=0, lt=SIZE)]] = Field(
        (0, 0), description="row and column of the first whole 8x8 block"
    )

    @field_validator("table")
    @classmethod
    def _whole(cls, table: tuple[int, ...]) -> tuple[int, ...]:
        if len(table) not in (0, SIZE**2):
            raise ValueError(f"expected {SIZE**2} steps, got {len(table)}")
        return table


class Jpeg(Splitting):
    """Undone by splitting with the coefficients' cells, from a first estimate without blocks.

    Deviations of noise follow the errors of y, which the table and the coefficients tell.
    """

    Options = JpegOptions

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The file's table and grid, up to quality 60, where y's coefficients are multiples of its steps."""
        if "table" not in told:
            return None
        options = JpegOptions(**told)
        return dict(told) if quality_of(options.table) <= WORST and _Grid.of(options).explains(y) else None

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """x with its coefficients rounded to multiples of the table's steps."""
        return self._grid.rounded(x)

    def begin(self, y: Tensor) -> Tensor:
        """Mean of y compressed again at sixteen shifts of the grid, in y's cells.

        Nosratinia, "Enhancement of JPEG-compressed images by re-application of JPEG", J. VLSI Signal Processing 2001.
        """
        return self._begun(y, self._grid.errors(y))

    def prox(self, x0: Tensor, y: Tensor, strength: float) -> Tensor:
        """Mean of the pictures near x0 that y's cells hold.

        strength: the inverse of x0's variance in units of [0, 1]²; large values project x0 onto the cells.
        """
        spread = 255 / math.sqrt(strength) if strength > 0 else math.inf
        return self._grid.posterior(x0, y, torch.full((SIZE, SIZE), spread**2, device=y.device))

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """`steps` evaluations at falling deviations, each followed by the proximal step."""
        grid = self._grid
        errors = grid.errors(y)
        level = float(errors.mean().sqrt()) / 255
        margin = 2 * 255 * noise
        x = self._begun(y, errors, margin)
        least = max((LAST if self.options.steps > 1 else ALONE) * level, noise, LEAST)
        # the estimate's errors lie between those of y and white ones
        errors = CLEANED**2 * (errors + errors.mean()) / 2
        for s in falling(max(FIRST * level, least), least, self.options.steps):
            x = yield x, s
            x = grid.posterior(x, y, errors, margin)
        return x

    def describe(self) -> str:
        """Quality of the nearest standard table."""
        return f"JPEG of quality {quality_of(self._table)}"

    @property
    def _table(self) -> tuple[int, ...]:
        o = self.options
        return o.table or standard_table(o.quality or MIDDLE)

    @property
    def _grid(self) -> "_Grid":
        return _Grid(self._table, self.options.offset)

    def _begun(self, y: Tensor, errors: Tensor, margin: float = 0.0) -> Tensor:
        row, column = self.options.offset
        total = torch.zeros_like(y)
        for down, right in SHIFTS:
            total += _Grid(self._table, ((row + down) % SIZE, (column + right) % SIZE)).rounded(y)
        return self._grid.posterior(total / len(SHIFTS), y, BEGUN**2 * errors, margin)


@dataclass(frozen=True)
class _Grid:
    """The 8x8 blocks of a picture. Coefficients lie where their block's pixels do."""

    table: tuple[int, ...]
    offset: tuple[int, int]

    @classmethod
    def of(cls, options: JpegOptions) -> "_Grid":
        return cls(options.table, options.offset)

    def rounded(self, x: Tensor) -> Tensor:
        """x, its coefficients rounded to the lattice."""
        out = torch.empty_like(x)
        for rows, part in self._strips(x):
            steps = self._steps(part)
            self._put(out, rows, _pixels((_coefficients(part) / steps).round_() * steps))
        return out

    def posterior(self, x0: Tensor, y: Tensor, errors: Tensor, margin: float = 0.0) -> Tensor:
        """Mean of the coefficients of x0, known up to `errors`, in y's cells.

        errors: variance of each frequency in levels², (8, 8). margin: by which the cells are wider, levels.
        """
        out = torch.empty_like(y)
        # known worse than cells are wide is not known at all, and has no digits
        deviation = errors.sqrt().clamp_min(1e-3).minimum(VAGUE * self._steps(errors))
        for (rows, guess), (_, part) in zip(self._strips(x0), self._strips(y), strict=True):
            steps = self._steps(part)
            centre = _centres(_coefficients(part), steps)
            tiled = deviation.repeat(1, part.shape[1] // SIZE).repeat(part.shape[0] // SIZE, 1)
            self._put(out, rows, _pixels(_cut_mean(_coefficients(guess), tiled, centre, steps / 2 + margin)))
        return out

    def errors(self, y: Tensor) -> Tensor:
        """Variance of x - y at each frequency, levels², (8, 8).

        Uniform in the cells, and in those at zero of a Laplacian distribution whose scale follows from how many
        coefficients are zero; where hardly any is not, scales fall with frequency as those of natural pictures.
        """
        count, used = 0, torch.zeros(SIZE, SIZE, device=y.device)
        for _, part in self._strips(y):
            steps = self._steps(part)
            blocks = _blocks((_coefficients(part) / steps).round_() != 0)
            used += blocks.sum((0, 2))
            count += blocks.shape[0] * blocks.shape[2]
        steps = self._steps(used)
        half, uniform = steps / 2, steps.square() / 12
        scale = half / -((used + 0.5) / (count + 1)).clamp_max(0.9).log()
        k = torch.arange(SIZE, device=y.device)
        fall = torch.hypot(k[:, None].float(), k.float()).clamp_min(1) ** -FLATNESS
        seen = used >= 10
        seen[0, 0] = False
        weight = used.clamp_max(0.3 * count) * seen
        if seen.any():
            mean = ((weight * (scale / fall).log()).sum() / weight.sum()).exp()
            scale = torch.where(seen, scale, torch.minimum(scale, mean * fall))
        beyond = torch.exp(-half / scale)
        zero = 2 * scale.square() - (half.square() + 2 * scale * half) * beyond / (1 - beyond)
        zero = torch.minimum(zero.clamp_min(0.01), uniform)
        found: Tensor = (zero * (count - used) + uniform * used) / count
        found[0, 0] = uniform[0, 0]
        return found

    def explains(self, y: Tensor) -> bool:
        """Whether y's coefficients that are not zero lie on the lattice, as they do in no other picture."""
        top, left = self.offset
        height, width = ((n - at) // SIZE * SIZE for n, at in zip(y.shape[-2:], self.offset, strict=True))
        if not (height and width):
            return False
        whole = y[0, 0, top : top + height, left : left + width]
        blocks = whole.view(height // SIZE, SIZE, width // SIZE, SIZE).transpose(1, 2).reshape(-1, SIZE, SIZE)
        blocks = blocks[:: max(1, len(blocks) // SEEN)]
        steps = self._steps(blocks[0])
        ratio = _coefficients(blocks.reshape(-1, SIZE)).view(-1, SIZE, SIZE) / steps
        used = (ratio.abs() > 0.5) & (steps >= 4)  # shorter steps drown in the rounding of pixels
        if not used.any():
            return False
        return float((ratio - ratio.round())[used].abs().median()) < ON_LATTICE

    def _steps(self, like: Tensor) -> Tensor:
        """The table, as often as it fits into (h, w)."""
        table = torch.tensor(self.table, dtype=torch.float32, device=like.device).view(SIZE, SIZE)
        return table.repeat(like.shape[0] // SIZE, like.shape[1] // SIZE)

    def _strips(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Whole rows of blocks (h, w), and the rows of the picture in them; what lies outside it is replicated."""
        height, width = x.shape[-2:]
        top, left = (-at % SIZE for at in self.offset)
        right = -(left + width) % SIZE
        count = max(1, STRIP // (width + SIZE) // SIZE) * SIZE
        for start in range(-top, height, count):
            stop = min(start + count, height)
            rows = slice(max(0, start), stop)
            padding = (left, right, rows.start - start, -(stop - start) % SIZE)
            yield rows, F.pad(x[..., rows, :], padding, mode="replicate")[0, 0]

    def _put(self, out: Tensor, rows: slice, part: Tensor) -> None:
        """A strip's pixels without what lay outside the picture."""
        top = 0 if rows.start else -self.offset[0] % SIZE
        left = -self.offset[1] % SIZE
        out[0, 0, rows] = part[top : top + rows.stop - rows.start, left : left + out.shape[-1]]


def _matrix(like: Tensor) -> Tensor:
    """Matrix of the orthonormal DCT-II of a block's side."""
    k = torch.arange(SIZE, device=like.device)
    matrix = torch.cos(math.pi / SIZE * k[:, None] * (k + 0.5)) * math.sqrt(2 / SIZE)
    matrix[0] /= math.sqrt(2)
    return matrix


def _coefficients(x: Tensor) -> Tensor:
    """Pixels (h, w) in [0, 1] -> DCT of the blocks in levels, each coefficient where its block's pixels were."""
    matrix = _matrix(x)
    rows = matrix @ (255 * x - 128).view(-1, SIZE, x.shape[1])
    return (rows.reshape(-1, SIZE) @ matrix.T).view(x.shape)


def _pixels(c: Tensor) -> Tensor:
    """Invert `_coefficients`."""
    matrix = _matrix(c)
    rows = matrix.T @ c.view(-1, SIZE, c.shape[1])
    return ((rows.reshape(-1, SIZE) @ matrix).view(c.shape) + 128) / 255


def _blocks(c: Tensor) -> Tensor:
    """(h, w) -> (h / 8, 8, w / 8, 8)."""
    return c.view(-1, SIZE, c.shape[1] // SIZE, SIZE)


def _centres(c: Tensor, steps: Tensor) -> Tensor:
    """Centres of the cells: on the lattice, or y's own coefficients in blocks that rounding alone took further off."""
    lattice = (c / steps).round_().mul_(steps)
    error = (c - lattice).square_().view(-1, SIZE, c.shape[1]).sum(1).view(-1, c.shape[1] // SIZE, SIZE).sum(2)
    off = (error > SIZE**2 * ROUNDING**2)[:, None, :, None]
    return torch.where(off, _blocks(c), _blocks(lattice)).view(c.shape) if off.any() else lattice


def _cut_mean(mean: Tensor, deviation: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """Mean of a normal distribution that is cut off at centre - half and centre + half."""
    least, most = centre - half, centre + half
    low, high = (((end - mean) / deviation).clamp_(-TAIL, TAIL) for end in (least, most))
    density = low.square().mul_(-0.5).exp_().sub_(high.square().mul_(-0.5).exp_())
    share = high.mul_(math.sqrt(0.5)).erf_().sub_(low.mul_(math.sqrt(0.5)).erf_()).mul_(math.sqrt(math.pi / 2))
    moved = density.mul_(deviation).div_(share.clamp_min(RARE)).mul_(share > RARE).add_(mean)
    return moved.maximum(least).minimum(most)
