"""Survival of small targets: what an ideal observer finds in one source, and still finds in the fusion.

Blobs of several sizes and one contrast are added to one source after the other, and the sources are fused with and
without them. The observer is the prewhitening matched filter, ideal for a known signal in a stationary Gaussian
background (Barrett & Myers, "Foundations of Image Science", 2004, section 13.2): t = IFFT(FFT(image) S* / P), with the
blob's spectrum S and the power spectrum P of the picture without blobs, averaged over directions. Since pictures are
not stationary, t is judged by its own spread nearby without blobs. A blob is found where |t| is above what 99 % of the
places of the picture without blobs reach.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import maximum_filter, uniform_filter

from .errors import FusionkitError, SizeMismatch
from .images.convert import to_tensor
from .images.picture import Array, Picture
from .method.pipeline import Pipeline
from .numerics.luma import luma
from .scoring.statistics import TAILS, resamples

SIZES = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # full widths at half maximum, pixels
APART = 3  # distance between targets, in widths of the largest
KEPT = 0.9  # share that counts as kept
FALSE = 0.01  # share of places without a target where the observer finds one
PLAIN = 0.75  # share of its own limit that each source stays below where a find is called invented
WIDTH = 2 * math.sqrt(2 * math.log(2))  # full width at half maximum of a Gaussian of deviation 1
NEAR, FLOOR = 65, 0.01  # pixels around a place whose spread it is judged by; share of the mean spread added
LEAST = (1 / 255) ** 2 / 12  # power of the rounding to 8 bits, which every picture has


class Target(NamedTuple):
    """A blob: its place, the number of its size, and the number of its source."""

    row: int
    column: int
    size: int
    source: int


class _Scene(NamedTuple):
    """What every method is asked. shown: each source with its targets, and those that the observer finds in it.

    plain: by size, where no source has anything.
    """

    pictures: list[Picture]
    shown: list[tuple[Picture, list[Target]]]
    plain: list[Any]


@dataclass
class Survival:
    """What became of the targets that the observer finds in their source, for one method.

    targets: (size, source, kept) of each. finds: number of the result's finds without targets, by size, and how many of
    them no source has. reason: why there is none of it.
    """

    name: str
    targets: list[tuple[int, int, bool]] = field(default_factory=list)
    finds: dict[int, tuple[int, int]] = field(default_factory=dict)
    reason: str = ""

    def kept(self, size: int) -> tuple[int, int]:
        """Targets of a size that are kept, and that the source has."""
        own = [kept for s, _, kept in self.targets if s == size]
        return sum(own), len(own)

    def invented(self) -> float:
        """Share of the result's finds that no source has; nan without any."""
        of, new = (sum(pair[i] for pair in self.finds.values()) for i in range(2))
        return new / of if of else math.nan

    def smallest(self) -> tuple[float, float, float]:
        """Width of the smallest target of which, and of all larger ones, 90 % are kept; and its interval (95 %).

        The interval is over resampled targets. nan where not even the largest are kept.
        """
        rows = np.array([(size, kept) for size, _, kept in self.targets], dtype=int).reshape(-1, 2)
        if not len(rows):
            return math.nan, math.nan, math.nan
        drawn = [_smallest(rows[pick]) for pick in resamples(len(rows))]
        ends = np.quantile(drawn, TAILS, method="nearest")
        best, low, high = (float(end) if math.isfinite(end) else math.nan for end in (_smallest(rows), *ends))
        return best, low, high

    def record(self) -> dict[str, Any]:
        """Everything, as JSON holds it but for nan."""
        smallest, low, high = self.smallest()
        shares = {str(width): self.kept(i) for i, width in enumerate(SIZES)}
        shown = {"kept": shares, "smallest": smallest, "low": low, "high": high, "invented": self.invented()}
        return {"method": self.name, **({"reason": self.reason} if self.reason else shown)}


def _smallest(rows: Array) -> float:
    """Width of the smallest size from which on all are kept; infinite without one."""
    best = math.inf
    for size in range(len(SIZES) - 1, -1, -1):
        own = rows[rows[:, 0] == size, 1]
        if len(own) and own.mean() < KEPT:
            break
        best = SIZES[size] if len(own) else best
    return best


def survival(
    scenes: Sequence[Sequence[Picture]],
    methods: Mapping[str, Mapping[str, Any]],
    *,
    contrast: float = 0.2,
    noise: float = 0.0,
    device: str = "auto",
    report: Callable[[str, int], None] = lambda name, done: None,
) -> Iterator[Survival]:
    """Follow targets through each method; one that fails is told with the reason.

    scenes: pictures of one size each. contrast: of a blob's middle, in units of the range. noise: white, of all
    sources, its deviation in these units. Raises SizeMismatch.
    """
    for pictures in scenes:
        if len({picture.size for picture in pictures}) > 1:
            sizes = " and ".join(f"{p.name} {p.size[0]}x{p.size[1]}" for p in pictures)
            raise SizeMismatch(f"{sizes}: targets are followed through pictures of one size")
    made = [_scene(_noisy(pictures, noise, seed), contrast, seed) for seed, pictures in enumerate(scenes)]
    for done, (name, choices) in enumerate(methods.items(), 1):
        found = Survival(name)
        try:
            pipeline = Pipeline(device=device, **choices)
            for scene in made:
                _follow(pipeline, scene, found)
        except (FusionkitError, ImportError) as error:
            found = Survival(name, reason=str(error).splitlines()[0])
        report(name, done)
        yield found


def _scene(pictures: Sequence[Picture], contrast: float, seed: int) -> _Scene:
    """Put targets into each source, and look which of them the observer finds there."""
    shown, plain = list[tuple[Picture, list[Target]]](), [np.array(True)] * len(SIZES)
    targets = list(_targets(pictures[0].pixels.shape[:2], len(pictures), seed))
    for i, picture in enumerate(pictures):
        own, image = [target for target in targets if target.source == i], _luma(picture)
        full = replace(picture, values=_with(picture.pixels, own, contrast))
        empty, seen = _observed(image, image), _observed(_luma(full), image)
        limits = _limits(empty)
        found = [target for target in own if _above(seen, limits, target) and not _above(empty, limits, target)]
        shown.append((full, found))
        plain = [both & _plain(one, width) for both, one, width in zip(plain, empty, SIZES, strict=True)]
    return _Scene(list(pictures), shown, plain)


def _follow(pipeline: Pipeline, scene: _Scene, found: Survival) -> None:
    """Fuse without targets, and with them in each source."""
    before = _luma(pipeline.fuse_pictures(scene.pictures).picture)
    empty = _observed(before, before)
    limits = _limits(empty)
    for size, (one, plain, width) in enumerate(zip(empty, scene.plain, SIZES, strict=True)):
        of, new = found.finds.get(size, (0, 0))
        peaks = _peaks(one, width)
        found.finds[size] = (of + int(peaks.sum()), new + int((peaks & plain).sum()))
    for i, (shown, own) in enumerate(scene.shown):
        pictures = [*scene.pictures[:i], shown, *scene.pictures[i + 1 :]]
        seen = _observed(_luma(pipeline.fuse_pictures(pictures).picture), before)
        hidden = [target for target in own if not _above(empty, limits, target)]
        found.targets += [(target.size, i, _above(seen, limits, target)) for target in hidden]


def _limits(maps: Sequence[Array]) -> list[Any]:
    """What the observer's answer near a place has to exceed, by size."""
    return [np.quantile(maximum_filter(one, 3), 1 - FALSE) for one in maps]


def _above(maps: Sequence[Array], limits: Sequence[Any], target: Target) -> bool:
    """Whether the observer finds a target."""
    place = tuple(slice(at - 1, at + 2) for at in (target.row, target.column))
    return bool(maps[target.size][place].max() > limits[target.size])


def _targets(shape: tuple[int, int], count: int, seed: int) -> Iterator[Target]:
    """Targets on a shuffled grid, all sizes equally often in each source."""
    rng, step = np.random.default_rng(seed), round(APART * SIZES[-1])
    places = [
        (row + step // 2, column + step // 2)
        for row in range(0, shape[0] - step + 1, step)
        for column in range(0, shape[1] - step + 1, step)
    ]
    kinds = [(size, source) for source in range(count) for size in range(len(SIZES))]
    for number, place in enumerate(rng.permutation(places)):
        row, column = place + rng.integers(-step // 6, step // 6 + 1, 2)
        yield Target(int(row), int(column), *kinds[number % len(kinds)])


def _with(image: Array, targets: Sequence[Target], contrast: float) -> Array:
    """The image (H, W, C) with blobs added, cut at white."""
    y, x = (np.arange(n, dtype=np.float32) for n in image.shape[:2])
    added = np.zeros(image.shape[:2], np.float32)
    for target in targets:
        deviation = SIZES[target.size] / WIDTH
        down, across = (
            np.exp(-(((axis - at) / deviation) ** 2) / 2) for axis, at in ((y, target.row), (x, target.column))
        )
        added += contrast * np.outer(down, across)
    return np.asarray(np.clip(image + added[..., None], 0, 1), np.float32)


def _noisy(pictures: Sequence[Picture], noise: float, seed: int) -> list[Picture]:
    """The pictures with white noise of this deviation, equal in all channels."""
    rng = np.random.default_rng(seed)
    grains = [rng.normal(0, noise, (*picture.pixels.shape[:2], 1)) for picture in pictures]
    values = [np.clip(p.pixels + grain, 0, 1).astype(np.float32) for p, grain in zip(pictures, grains, strict=True)]
    return [replace(p, values=v) for p, v in zip(pictures, values, strict=True)] if noise else list(pictures)


def _luma(picture: Picture) -> Array:
    return np.asarray(luma(to_tensor(picture.pixels))[0, 0].numpy(), np.float64)


def _observed(image: Array, background: Array) -> list[Array]:
    """|t| of each size, in units of its spread nearby: (H, W). background: the image without targets."""
    pad = 2 * round(SIZES[-1])
    wide = np.pad(image - background.mean(), pad, mode="reflect")
    back = np.pad(background - background.mean(), pad, mode="reflect")
    power, spectrum, plain, inside = _power(back), fft.rfft2(wide), fft.rfft2(back), slice(pad, -pad)
    found = []
    for width in SIZES:
        blob = _blob(wide.shape, width)
        t, empty = (fft.irfft2(image * blob / power, s=wide.shape) for image in (spectrum, plain))
        spread = np.sqrt(uniform_filter(empty**2, NEAR) + FLOOR * (blob**2 / power).mean())
        found.append((np.abs(t) / spread)[inside, inside])
    return found


@lru_cache(maxsize=32)
def _blob(shape: tuple[int, int], width: float) -> Array:
    """Spectrum of a blob at the origin, which is real."""
    y, x = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None]
    variance = (width / WIDTH) ** 2
    return np.asarray(2 * np.pi * variance * np.exp(-2 * np.pi**2 * variance * (x**2 + y**2)))


def _power(image: Array) -> Array:
    """Power spectrum, averaged over rings of frequency, on the half plane of `rfft2`."""
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    raw = np.abs(fft.rfft2(image * window)) ** 2 / (window**2).sum()
    radius = np.hypot(fft.fftfreq(image.shape[0])[:, None], fft.rfftfreq(image.shape[1])[None])
    ring = np.minimum((radius * min(image.shape)).round().astype(int), min(image.shape))
    counts = np.maximum(np.bincount(ring.ravel()), 1)
    means = np.bincount(ring.ravel(), raw.ravel()) / counts
    return np.asarray(means[ring] + LEAST)


def _peaks(answer: Array, width: float) -> Array:
    """Where the observer finds something in a picture without targets."""
    reach = 2 * math.ceil(width) + 1
    return np.asarray((answer == maximum_filter(answer, reach)) & (answer > np.quantile(answer, 1 - FALSE)))


def _plain(answer: Array, width: float) -> Array:
    """Where a source has nothing like a target."""
    near = 2 * math.ceil(width / 2) + 1
    return np.asarray(maximum_filter(answer, near) < PLAIN * np.quantile(answer, 1 - FALSE))
