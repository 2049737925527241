"""How well moved sources are found, what is claimed of it, and how often registered ones are called misplaced.

    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] [--model affine] [--moves near view soft] [--every N]
    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] --check

Folders of pairs of one size. near: the source is moved by 5 to 40 pixels (less below 480 pixels), turned by 1 to 5
degrees and scaled by 0.95 to 1.05, as the model allows. view: one of the two is cut to a window of 0.5 to 1 of its
view, off the middle, turned by up to 5 degrees and resampled to 1, 0.8 or 0.5 of its size, so that fields of view are
0.5 to 2 of each other; nothing is filled in. soft: the same with a source blurred by 0.3 to 0.7 % of its side, as heat
is. other: a source of another folder, which no transform aligns.

Pairs that data sets call registered often are not, so three errors are given, means over what both see in pixels of the
reference: against the move (nominal), against the move after what `register` says of the pair as it came (consistent),
and against the move after the mean of that and what it says of the pair's other moves, where these are sure (others):
one placement's own error and parallax count less there. --check: the warning instead, on the pairs as they are and
moved by so many pixels in any direction, beside what a full registration says of those that it is raised on.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fusionkit.images.convert import to_tensor
from fusionkit.numerics.homography import displacement, mapped, scale_of, seen, size_of, warp
from fusionkit.numerics.luma import luma
from fusionkit.numerics.registration import Registration, look_apart, register
from fusionkit.numerics.window import gaussian_blur
from fusionkit.reading import read_image
from fusionkit.reading.matching import match_folders

RIGHT = 2.0  # pixels


def _pairs(folders: list[Path], every: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    for first, second in zip(folders[::2], folders[1::2], strict=True):
        for group in match_folders([first, second]).groups[::every]:
            source, reference = (luma(to_tensor(read_image(path).pixels)) for path in group)
            if source.shape == reference.shape and min(source.shape[-2:]) >= 200:
                yield str(group[1]), reference, source


def _matrix(degrees: float, scale: float, right: float, down: float) -> Tensor:
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return torch.tensor([[cos, -sin, right], [sin, cos, down], [0, 0, 1]], dtype=torch.float64)


def _near(rng: random.Random, model: str, reference: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A reference, a source, and the transforms from their pixels to those of the pair as it came."""
    height, width = size_of(source)
    direction, length = rng.uniform(0, 2 * math.pi), rng.uniform(5, 40) * min(1, min(height, width) / 480)
    turn = rng.choice([-1, 1]) * rng.uniform(1, 5) if model != "translation" else 0.0
    scale = rng.uniform(0.95, 1.05) if model == "affine" else 1.0
    move = _matrix(turn, scale, length * math.cos(direction), length * math.sin(direction))
    inner, still = (round(0.86 * height), round(0.86 * width)), _matrix(0, 1, 0, 0)
    return warp(reference, still, inner)[0], warp(source, move, inner)[0], still, move


def _view(rng: random.Random, reference: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same with another field of view."""
    height, width = size_of(source)
    view = math.exp(rng.uniform(math.log(0.5), math.log(2)))
    narrow = min(view, 1 / view, 0.95)
    right, down = (rng.uniform(-1, 1) * min((1 - narrow) * n * 0.45, 0.12 * n) for n in (width, height))
    share = rng.choice([1.0, 0.8, 0.5])
    window, still = _matrix(rng.uniform(-5, 5), narrow / share, right, down), _matrix(0, 1, 0, 0)
    size = int(height * share), int(width * share)
    if view < 1:
        return reference, warp(source, window, size)[0], still, window
    return warp(reference, window, size)[0], source, window, still


def _error(found: Tensor, true: Tensor, size: tuple[int, int], given: tuple[int, int]) -> float:
    """Mean distance in pixels of the reference between where two transforms put what is seen."""
    x, y, _ = seen(true, size, given)
    (right, down), (true_right, true_down) = mapped(found, x, y), mapped(true, x, y)
    return float((right - true_right).hypot(down - true_down).mean()) / scale_of(true)


@dataclass(frozen=True)
class _Placed:
    """What `register` says of a pair that was moved. to, back: from pixels of both to those of the pair as it came."""

    kind: str
    found: Registration
    to: Tensor
    back: Tensor
    sizes: tuple[tuple[int, int], tuple[int, int]]
    seconds: float

    def error(self, true: Tensor) -> float:
        """Error where the pair as it came has this transform; infinite where no transform is right."""
        return (
            math.inf
            if self.kind == "other"
            else _error(self.found.matrix, self.back.inverse() @ true @ self.to, *self.sizes)
        )

    @property
    def unmoved(self) -> Tensor:
        """The transform of the pair as it came that it amounts to."""
        return self.back @ self.found.matrix @ self.to.inverse()


def _placed(kind: str, model: str, rng: random.Random, reference: Tensor, source: Tensor) -> _Placed:
    still = _matrix(0, 1, 0, 0)
    first, second, to, back = reference, source, still, still
    if kind == "near":
        first, second, to, back = _near(rng, model, reference, source)
    elif kind in ("view", "soft"):
        first, second, to, back = _view(rng, reference, source)
    if kind == "soft":
        second = gaussian_blur(second, rng.uniform(0.003, 0.007) * max(second.shape[-2:]))
    start = time.process_time()
    found = register(first, second, model)
    return _Placed(kind, found, to, back, (size_of(first), size_of(second)), time.process_time() - start)


def _mean(placed: Sequence[_Placed]) -> Tensor:
    """Mean of what sure placements say of the pair as it came, by the inverse of their variances."""
    weights = [1 / one.found.left**2 for one in placed]
    return sum((w * one.unmoved for w, one in zip(weights, placed, strict=True)), torch.zeros(3, 3)) / sum(weights)


def align(options: argparse.Namespace) -> None:
    """Print a line for each move, and the shares that are called aligned and are."""
    rng, rows, strange = random.Random(0), [], dict[Path, Tensor]()
    for name, reference, source in _pairs(options.pairs, options.every):
        own = _placed("own", options.model, rng, reference, source)
        every = [own] + [_placed(k, options.model, rng, reference, source) for k in options.moves if k != "other"]
        folder = Path(name).parent
        choice = [image for other, image in strange.items() if other != folder]
        if "other" in options.moves and choice:
            every.append(_placed("other", options.model, rng, reference, rng.choice(choice)))
        strange[folder] = source
        for one in every[1:]:
            rest = [e for e in every if e is not one and e.found.sure and e.kind != "other"]
            errors = (
                one.error(_matrix(0, 1, 0, 0)),
                one.error(own.unmoved),
                one.error(_mean(rest)) if rest else math.nan,
            )
            rows.append((one, own.found.sure, errors))
            found = one.found
            print(
                f"{name} {one.kind}: sure {found.sure} ({found.confidence:.0%}, agreement {found.agreement:.0f}), left "
                f"{found.left:.2f}, nominal {errors[0]:.2f}, consistent {errors[1]:.2f}, others {errors[2]:.2f}; as it "
                f"came {displacement(own.unmoved, size_of(reference)):.1f} px off, sure {own.found.sure}",
                flush=True,
            )
    print(f"\nmodel {options.model}, median {sorted(row[0].seconds for row in rows)[len(rows) // 2]:.2f} CPU s")
    print("| moves | aligned, of all | of sure pairs | of these, within 2 px: nominal | consistent | others |")
    print("|---|---|---|---|---|---|")
    for kind in options.moves:
        some = [row for row in rows if row[0].kind == kind]
        both = [row for row in some if row[0].found.sure and row[1]]
        right = [sum(row[2][i] <= RIGHT for row in both) for i in range(3)]
        print(
            f"| {kind} | {sum(row[0].found.sure for row in some)} of {len(some)} | {len(both)} of "
            f"{sum(row[1] for row in some)} | " + " | ".join(f"{n} of {len(both)}" for n in right) + " |"
        )


def check(options: argparse.Namespace) -> None:
    """Print the shares of alarms."""
    rng, raised, moved, seconds, count = random.Random(0), [], {6: [0, 0], 8: [0, 0], 12: [0, 0], 25: [0, 0]}, [], 0
    for name, reference, source in _pairs(options.pairs, options.every):
        height, width = size = size_of(reference)
        start = time.perf_counter()
        apart = look_apart(reference, source)
        seconds.append(time.perf_counter() - start)
        count += 1
        if apart is not None:
            own = register(reference, source, "affine")
            raised.append((own.sure, displacement(own.matrix, size)))
            print(f"{name}: {apart.pixels:.0f} px; registration: {raised[-1][1]:.1f} px, sure {own.sure}", flush=True)
        for pixels, alarms in moved.items():
            angle = rng.uniform(0, 2 * math.pi)
            right, down = round(pixels * math.cos(angle)), round(pixels * math.sin(angle))
            inner = slice(pixels, height - pixels), slice(pixels, width - pixels)
            other = source[..., pixels + down : height - pixels + down, pixels + right : width - pixels + right]
            alarms[0] += look_apart(reference[..., inner[0], inner[1]], other) is not None
            alarms[1] += 1
    true = sum(sure and off >= 3 for sure, off in raised)
    print(f"\n{count} pairs as they came: {len(raised)} alarms, {true} of them 3 px off by a full registration")
    print("alarms on moved ones: " + ", ".join(f"{p} px {a / n:.0%}" for p, (a, n) in moved.items()))
    print(f"median {1000 * sorted(seconds)[len(seconds) // 2]:.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True)
    parser.add_argument("--model", choices=["translation", "rigid", "affine"], default="affine")
    parser.add_argument(
        "--moves", nargs="+", choices=["near", "view", "soft", "other"], default=["near", "view", "soft"]
    )
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    check(options) if options.check else align(options)
