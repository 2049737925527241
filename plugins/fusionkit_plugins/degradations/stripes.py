"""Stripes: offsets of a sensor's columns or rows, constant or drifting along the line, and other fixed patterns.

    y = x + c + noise,  c(i, j) = c(j), or a Gaussian process along column j with covariance level² exp(-d² / 2 drift²)

Expectation and maximisation in turn: x̂0 is the flow's clean estimate of y - c, and c the posterior mean of the offsets
given y - x̂0, weighted by 1 / (deviation of the flow's error)², which grows with the slope across the lines: offsets are
learnt where the picture is flat. What of y - x̂0 changes slowly across the lines belongs to the picture's light, not to
its lines, and is left. The first c needs no flow: the flow takes groups of lines for the scene's, but flat places tell
them. (Fixed pattern: EMVA standard 1288, release 4.0, section 8; plug-in estimates in EM: Hurault et
al., "Gradient step denoiser for convergent plug-and-play", ICLR 2022, use a denoiser as prior in the same way.)
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from fusionkit.errors import FusionkitError, NoEffect, OptionError
from fusionkit.flow.restoring import Restoration, falling
from fusionkit.images.convert import to_tensor
from fusionkit.numerics.luma import luma
from fusionkit.numerics.window import box_mean
from fusionkit.options import FilePath, word
from fusionkit.sources import STILL

from .enlarged import Enlarged, EnlargedOptions, enlarged_noise
from .lines import find_lines

QUANTUM = 1 / 255
LOWEST = 3 * QUANTUM  # deviation of noise at which the flow is asked last
FIRST = 8  # least deviation of noise at which the flow is asked first, levels
FLAT = 4 * QUANTUM  # error of the flow's estimate where the picture is flat
REACH = 16  # of the two means that tell slow changes across the lines, pixels each way
BINS = 12, 128  # least length of a bin along a drifting line, pixels; most bins of a line
BIN = 32  # length of a bin along a constant line, pixels
AGREED = 2 * QUANTUM  # deviation of such bins from what they agree on
BEGUN, TURNS = (8, 16), 6  # length of a bin of the first offsets, of constant and of long lines, pixels; turns
NARROW, AROUND = 8, 4  # reaches across the lines, of their means and of the neighbourhood whose changes weigh a place
GRAIN = QUANTUM  # change of a place that counts as flat
ALIKE = 30, 4  # bins that count as one, of constant and of drifting lines, since a scene has lines of its own
CHUNK = 4_000_000  # numbers in the matrices that are factored at once
FRAMES = 50  # pictures that a fixed pattern is found from
SETTLED, AGAIN = 12, 12  # frames of a video that lines are averaged over, and after how many more they are sought again


class StripesOptions(EnlargedOptions):
    """Options of the degradation `stripes`."""

    pattern: FilePath = Field(
        "", description="folder of pictures of one camera at y's size: what they share is found and subtracted"
    )
    direction: Literal["auto", "columns", "rows", "both"] = Field(
        "auto", description="lines that have an offset of their own; auto: as found in the picture"
    )
    level: float = Field(5.0, gt=0, le=64, description="deviation of the offsets, levels of 255")
    drift: float = Field(
        0.0, ge=0, le=1e5, description="length along the line over which an offset changes, pixels; 0: constant"
    )
    steps: int = Field(3, ge=1, le=100, description="evaluations of the flow: fewer are faster, more are better")

    def check_read(self) -> None:
        """Refuse options of lines beside a folder's pattern."""
        super().check_read()
        for name in ("direction", "drift", "steps", "scale"):
            if self.pattern and getattr(self, name) != type(self).model_fields[name].default:
                raise NoEffect(f"`{name}={word(getattr(self, name))}` is not read with `pattern`")


class Stripes(Enlarged):
    """Fixed pattern noise of line-scanned and column-amplifier sensors. Only the pattern is removed; noise stays."""

    Options = StripesOptions
    decisive = frozenset({"pattern"})
    _fixed: Tensor | None = None  # the pattern of the folder, once found

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Direction, level and drift of the lines; None under 1.6 levels or where scenes explain them as well."""
        lines = {"columns": find_lines(y[0, 0]), "rows": find_lines(y[0, 0].mT)}
        found = {name: line for name, line in lines.items() if line.sure}
        if not found:
            return dict(told) or None
        strongest = max(found.values(), key=lambda line: line.level)
        direction = "both" if len(found) == 2 else next(iter(found))
        _, scale = enlarged_noise(y)
        found_options = {"level": round(strongest.level, 1), "drift": strongest.drift / scale, "scale": scale}
        return {"direction": direction, **found_options, **told}

    def degraded(self, x: Tensor, generator: Generator | None) -> Tensor:
        """X plus offsets drawn for each line; direction `auto` draws columns. A folder's pattern is not drawn."""
        for turned in _turns(self.options.direction):
            x = _turn(_turn(x, turned) + self._draw(_turn(x, turned), generator), turned)
        return x

    def _draw(self, x: Tensor, generator: Generator | None) -> Tensor:
        """Offsets of the columns of x (1, 1, H, W): (1, 1, 1 or H, W)."""
        drift, height = self.options.drift, x.shape[-2]
        c = torch.randn(1, 1, height if drift else 1, x.shape[-1], generator=generator)
        if drift:
            kernel = _covariance(torch.arange(height), torch.arange(height), drift / math.sqrt(2))
            c = kernel @ c / kernel.square().sum(1).sqrt()[:, None]
        return (c * (self.options.level * QUANTUM)).to(x)

    def undone(self, y: Tensor, noise: float) -> Restoration:
        """EM in `steps` evaluations of the flow at a falling deviation; or the folder's pattern, found once.

        Of a video's frames the mean of what each shows, and few are looked at once it is known.
        """
        if self.options.pattern:
            if self._fixed is None or self._fixed.shape != y.shape:
                self._fixed = yield from self._find_fixed(y, noise)
            return y - self._fixed
        lines, count = self.memory.last("lines") or (None, 0)
        if lines is None or lines.shape != y.shape or count < SETTLED or count % AGAIN == 0:
            found = yield from self._find_lines(y, noise)
            if lines is not None and lines.shape == y.shape and _alike(lines, found):  # those of a sensor stay
                found = lines + (found - lines) / min(count + 1, SETTLED)
            else:
                count = 0
            lines = found
        self.memory.keep("lines", (lines, count + 1))
        return y - lines if self.memory is STILL else y - _shown(lines, y)

    def _find_lines(self, y: Tensor, noise: float) -> Restoration:
        """The offsets of one picture, in its size."""
        options = self.options
        if options.direction == "auto":
            options = self._complete(y)
        turns = _turns(options.direction)
        parts = [torch.zeros_like(y) for _ in turns]
        seen = ((y - 0.5).abs() < 0.5 * (1 - QUANTUM)).float()  # clipped pixels do not show their offset

        def improved(offsets: Callable[[Tensor, bool], Tensor]) -> None:
            for i, turned in enumerate(turns):
                c = offsets(y - sum(p for k, p in enumerate(parts) if k != i), turned)
                parts[i] = _turn(c - c.mean(), turned).expand_as(y)

        for _ in range(2 * len(turns) - 1):
            improved(lambda z, t: _first(_turn(z, t), _turn(seen, t), options))
        first = max(1.2 * options.level * math.sqrt(len(turns)), FIRST) * QUANTUM
        for s in falling(math.hypot(first, noise), max(noise, LOWEST), options.steps):
            x0 = yield y - sum(parts), s
            improved(lambda z, t: _offsets(_turn(z, t), _turn(x0, t), _turn(seen, t), options, noise))  # noqa: B023
        return sum(parts, torch.zeros_like(y))

    def _complete(self, y: Tensor) -> StripesOptions:
        """The options with what is found in the picture, where they were not set; columns if nothing is found."""
        given = {name: getattr(self.options, name) for name in self.options.model_fields_set if name != "direction"}
        found = self.estimate(y, {}) or {}
        return StripesOptions(**{"direction": "columns", **found, **given})

    def _find_fixed(self, y: Tensor, noise: float) -> Restoration:
        """What the folder's pictures share: their mean of y - x̂0, weighted by flatness and, since c grows, by turn."""
        total, c, count = torch.zeros_like(y), torch.zeros_like(y), 0
        for count, frame in enumerate(self._frames(y), 1):
            s = max(math.hypot(1.2 * self.options.level * QUANTUM / count, noise), LOWEST)
            x0 = yield frame - c, s
            weight = count / (_slope(x0).square() + _slope(x0.mT).mT.square() + FLAT**2)
            total = total + weight
            c = c + weight / total * (frame - c - x0)
        c = c - c.mean()
        power = float(c.square().mean())
        return c * max(0.0, 1 - noise**2 * 4 / 3 / count / max(power, 1e-12))

    def _frames(self, y: Tensor) -> Iterator[Tensor]:
        """Luma of up to `FRAMES` pictures of the folder, (1, 1, H, W) each, spread over all of them."""
        from fusionkit import read_image

        folder = Path(self.options.pattern)
        if not folder.is_dir():
            raise OptionError(f"stripes: pattern={folder} is not a folder of pictures")
        paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
        if len(paths) < 2:
            raise OptionError(
                f"stripes: pattern={folder} holds {len(paths)} pictures; 2 or more are needed, 20 are good"
            )
        for i in np.unique(np.linspace(0, len(paths) - 1, min(FRAMES, len(paths))).round().astype(int)):
            try:
                pixels = read_image(paths[i]).pixels
            except FusionkitError as error:
                raise OptionError(f"stripes: pattern: {error}") from None
            (height, width), (wanted_height, wanted_width) = pixels.shape[:2], y.shape[-2:]
            if (height, width) != (wanted_height, wanted_width):
                raise OptionError(
                    f"stripes: pattern: {paths[i]} is {width}x{height}, the picture {wanted_width}x{wanted_height}"
                )
            yield luma(to_tensor(pixels)).to(y)

    def describe(self) -> str:
        """Such as "columns of 5.2 levels" or "columns and rows of 3 levels that drift over 80 pixels"."""
        options = self.options
        if options.pattern:
            return f"fixed pattern of {Path(options.pattern).name}"
        lines = {"auto": "stripes", "both": "columns and rows"}.get(options.direction, options.direction)
        drift = f" that drift over {options.drift:.0f} pixels" if options.drift else ""
        return f"{lines} of {options.level:g} levels{drift}{self.enlarged}"


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two frames' offsets are those of one sensor: half of their power is common."""
    return bool(2 * (one * other).mean() > one.square().mean().minimum(other.square().mean()))


def _shown(lines: Tensor, y: Tensor) -> Tensor:
    """What of the lines a video's frame shows: little where dark ones are clipped to black, or light ones to white.

    The rest would stay in an average over time. The other way round, clipping once more takes it.
    """
    black, white = (box_mean(hidden.to(y), REACH) for hidden in (y < QUANTUM / 2, y > 1 - QUANTUM / 2))
    return lines * (1 - torch.where(lines < 0, black, white))


def _turns(direction: str) -> tuple[bool, ...]:
    """For each direction of lines whether the picture is to be turned, so that they are columns."""
    return {"rows": (True,), "both": (False, True)}.get(direction, (False,))


def _turn(x: Tensor, turned: bool) -> Tensor:
    return x.mT if turned else x


def _slope(x: Tensor) -> Tensor:
    """Sum of the absolute differences to both neighbours across the columns, same shape."""
    slope = (x[..., 1:] - x[..., :-1]).abs()
    return F.pad(slope, (0, 1)) + F.pad(slope, (1, 0))


def _covariance(a: Tensor, b: Tensor, length: float) -> Tensor:
    """exp(-d² / 2 length²) between places along a line, (len(a), len(b))."""
    return torch.exp((a[:, None] - b).float().square() / (-2 * length**2))


def _mean(x: Tensor, reach: int) -> Tensor:
    """Mean over neighbouring columns (..., W), up to `reach` each way; same shape."""
    reach = min(reach, (x.shape[-1] - 1) // 2)
    padded = torch.cat([x[..., :1].expand(*x.shape[:-1], reach + 1), x, x[..., -1:].expand(*x.shape[:-1], reach)], -1)
    sums = padded.cumsum(-1, dtype=torch.float64)
    return ((sums[..., 2 * reach + 1 :] - sums[..., : -(2 * reach + 1)]) / (2 * reach + 1)).to(x)


def _slow(x: Tensor, reach: int = REACH) -> Tensor:
    """What changes slowly across the columns: the mean over neighbours, taken twice."""
    return _mean(_mean(x, reach), reach)


def _bins(x: Tensor, count: int) -> Tensor:
    """Sums of x (1, 1, H, W) over bins along the columns, (count, W)."""
    return F.adaptive_avg_pool2d(x, (count, x.shape[-1]))[0, 0] * (x.shape[-2] / count)


def _first(y: Tensor, seen: Tensor, options: StripesOptions) -> Tensor:
    """Offsets of the columns of y (1, 1, H, W) without the flow, (1, 1, 1 or H, W): a robust mean along them.

    Weighted by the changes that the offsets leave across the columns around each place; a sum over bins that disagree
    is drawn to zero, as its posterior mean is.
    """
    height = y.shape[-2]
    count = min(max(2, round(height / min(max(BEGUN[0], options.drift / 4), BEGUN[1]))), BINS[1])
    there, z = (_bins(v, count) * (count / height) for v in (seen, y))
    there = _slow(there, NARROW) ** 8 * there
    c, weight, level = torch.zeros_like(z), there, options.level * QUANTUM
    for _ in range(TURNS):
        rest = z - c
        rest = rest - _slow(weight * rest, NARROW) / _slow(weight, NARROW).clamp_min(1e-6)
        weight = there / (_mean(rest.square(), AROUND) + GRAIN**2)
        if options.drift:
            certain = weight / ALIKE[1]
            c = _drifting(certain * (rest + c), certain, options, height, count)
        else:
            total = weight.sum(0).clamp_min(1e-6)
            mean = (weight * (rest + c)).sum(0) / total
            variance = _mean((weight * (rest + c - mean)).square().sum(0) / total.square(), AROUND)
            c = (mean * level**2 / (level**2 + ALIKE[0] * variance)).expand_as(z)
    if not options.drift:
        return c[None, None, :1]
    return F.interpolate(c[None, None], size=(height, c.shape[1]), mode="bilinear")


def _offsets(y: Tensor, x0: Tensor, seen: Tensor, options: StripesOptions, noise: float) -> Tensor:
    """Offsets of the columns, (1, 1, 1 or H, W), from y - x̂0 (1, 1, H, W) where `seen`."""
    height = y.shape[-2]
    weight = seen / (_slope(x0).square() + (FLAT**2 + noise**2))
    if not seen.all():  # beside clipped pixels the mean of what is seen is that of the higher, or lower, offsets
        weight = weight * _slow(seen) ** 8
    length = max(options.drift / 2, BINS[0]) if options.drift else BIN
    count = min(math.ceil(height / length), BINS[1])
    data, weight = _bins(weight * (y - x0), count), _bins(weight, count)
    data = data - weight * _slow(data) / _slow(weight).clamp_min(1e-3)
    if options.drift:
        return _drifting(data, weight, options, height, height)[None, None]
    each, agreed = data / weight.clamp_min(1e-3), weight
    for _ in range(5):  # a Student's t of one degree of freedom
        c = (agreed * each).sum(0) / agreed.sum(0).clamp_min(1e-3)
        agreed = weight / (1 + ((each - c) / AGREED).square())
    return c[None, None, None]


def _drifting(data: Tensor, weight: Tensor, options: StripesOptions, height: int, places: int) -> Tensor:
    """Posterior mean of a Gaussian process along each column, evenly spread, (places, W).

    data: weight times the offsets, summed over bins, as weight is: (bins, W). height: of the picture, pixels.
    """
    bins, drift = len(weight), options.drift
    middle, wanted = ((torch.arange(n, device=weight.device) + 0.5) * (height / n) for n in (bins, places))
    mean = (data / weight.clamp_min(1e-3)).T
    # of a bin's mean, in units of the offsets' variance
    variance = 1 / ((options.level * QUANTUM) ** 2 * weight.T).clamp_min(1e-3) + 1e-4
    prior = _covariance(middle, middle, drift)
    solved = [
        torch.cholesky_solve(m[..., None], torch.linalg.cholesky(prior + torch.diag_embed(v)))[..., 0]
        for m, v in zip(*(torch.split(z, max(1, CHUNK // bins**2)) for z in (mean, variance)), strict=True)
    ]
    return _covariance(wanted, middle, drift) @ torch.cat(solved).T
