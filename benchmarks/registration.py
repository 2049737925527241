"""How well moved sources are found, what is claimed of it, and how often registered ones are called misplaced.

    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] [--model affine] [--moves near ...] [--every N]
    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] --check

Folders of pairs of one size. near: the source is moved by 5 to 40 pixels (less below 480 pixels), turned by 1 to 5
degrees and scaled by 0.95 to 1.05, as the model allows. view: one of the two is cut to a window of 0.5 to 1 of its
view, off the middle, turned by up to 5 degrees and resampled to 1, 0.8 or 0.5 of its size, so that fields of view are
0.5 to 2 of each other; nothing is filled in. soft: the same with a source blurred by 0.3 to 0.7 % of its side, as heat
is. noise: the same with white noise of 4 to 10 % of full scale on the source, half of that on the reference. small:
near or view of a pair whose longer side is reduced to 160 pixels. turn: view, turned by 5 to 10 degrees. other: a
source of another folder, which no transform aligns.

Pairs that data sets call registered often are not, and two cameras that stand apart have another transform in every
part of the scene. So the truth of a move is the move after the pair's own place, on the part of the scene that both
see: that part is cut twice from both pictures, each time a little otherwise for either (shifts up to 2 % of the side,
turns up to a degree, scales within 3 %), and the own place is the mean of what `register` says of these two, whatever
its confidence. Where they differ by more than 2 pixels the pair has none, and could not be aligned. Errors are mean
distances over what both see, in pixels of the reference; nominal: from the move alone.

--check: the warning instead, on the pairs as they are and moved by so many pixels in any direction, beside what a full
registration says of those that it is raised on.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fusionkit.images.convert import to_tensor
from fusionkit.numerics.homography import displacement, mapped, resized, scale_of, seen, size_of, warp
from fusionkit.numerics.luma import luma
from fusionkit.numerics.registration import Model, Registration, look_apart, register
from fusionkit.numerics.tile_fit import scaled
from fusionkit.numerics.window import gaussian_blur
from fusionkit.reading import read_image
from fusionkit.reading.matching import match_folders

RIGHT = 2.0  # pixels
SMALL = 160  # pixels of the longer side
MOVES = ("near", "view", "soft", "noise", "small", "turn")


def _pairs(folders: list[Path], every: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    for first, second in zip(folders[::2], folders[1::2], strict=True):
        for group in match_folders([first, second]).groups[::every]:
            source, reference = (luma(to_tensor(read_image(path).pixels)) for path in group)
            if source.shape == reference.shape and min(source.shape[-2:]) >= 200:
                yield str(group[1]), reference, source


def _matrix(degrees: float, scale: float, right: float, down: float) -> Tensor:
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return torch.tensor([[cos, -sin, right], [sin, cos, down], [0, 0, 1]], dtype=torch.float64)


@dataclass(frozen=True)
class _Move:
    """Two pictures cut from a pair.

    to, back: from pixels of the reference and of the source to those of the pair; window, size: of the part of the pair
    that both see.
    """

    reference: Tensor
    source: Tensor
    to: Tensor
    back: Tensor
    window: Tensor
    size: tuple[int, int]

    def error(self, found: Tensor, own: Tensor) -> float:
        """Error of a transform where this is the pair's own."""
        return _error(found, self.back.inverse() @ own @ self.to, size_of(self.reference), size_of(self.source))


def _near(rng: random.Random, model: str, reference: Tensor, source: Tensor) -> _Move:
    height, width = size_of(source)
    direction, length = rng.uniform(0, 2 * math.pi), rng.uniform(5, 40) * min(1, min(height, width) / 480)
    turn = rng.choice([-1, 1]) * rng.uniform(1, 5) if model != "translation" else 0.0
    scale = rng.uniform(0.95, 1.05) if model == "affine" else 1.0
    move = _matrix(turn, scale, length * math.cos(direction), length * math.sin(direction))
    inner, still = (round(0.86 * height), round(0.86 * width)), _matrix(0, 1, 0, 0)
    return _Move(warp(reference, still, inner)[0], warp(source, move, inner)[0], still, move, still, inner)


def _view(rng: random.Random, reference: Tensor, source: Tensor, turns: tuple[float, float] = (0, 5)) -> _Move:
    """Another field of view, turned by so many degrees either way."""
    height, width = size_of(source)
    view = math.exp(rng.uniform(math.log(0.5), math.log(2)))
    narrow = min(view, 1 / view, 0.95)
    right, down = (rng.uniform(-1, 1) * min((1 - narrow) * n * 0.45, 0.12 * n) for n in (width, height))
    share, turn = rng.choice([1.0, 0.8, 0.5]), rng.choice([-1, 1]) * rng.uniform(*turns)
    window, still = _matrix(turn, narrow / share, right, down), _matrix(0, 1, 0, 0)
    size = int(height * share), int(width * share)
    part = _matrix(turn, 1, right, down), (round(narrow * height), round(narrow * width))
    if view < 1:
        return _Move(reference, warp(source, window, size)[0], still, window, *part)
    return _Move(warp(reference, window, size)[0], source, window, still, *part)


def _own(rng: random.Random, model: Model, reference: Tensor, source: Tensor, move: _Move) -> Tensor:
    """What `register` says of the part of a pair that both see, cut a little otherwise for either."""
    to, back = (
        move.window
        @ _matrix(rng.uniform(-1, 1), rng.uniform(0.97, 1.03), *(rng.uniform(-0.02, 0.02) * n for n in move.size[::-1]))
        for _ in range(2)
    )
    found = register(warp(reference, to, move.size)[0], warp(source, back, move.size)[0], model)
    return back @ found.matrix @ to.inverse()


def _error(found: Tensor, true: Tensor, size: tuple[int, int], given: tuple[int, int]) -> float:
    """Mean distance in pixels of the reference between where two transforms put what is seen."""
    x, y, _ = seen(true, size, given)
    if not len(x):
        return math.inf
    (right, down), (true_right, true_down) = mapped(found, x, y), mapped(true, x, y)
    return float((right - true_right).hypot(down - true_down).mean()) / scale_of(true)


@dataclass(frozen=True)
class _Row:
    """What `register` says of a move. apart: distance of the pair's two own places, infinite where none is right."""

    kind: str
    found: Registration
    seconds: float
    nominal: float = math.inf
    error: float = math.inf
    apart: float = math.inf


def _made(kind: str, model: Model, rng: random.Random, reference: Tensor, source: Tensor) -> _Move:
    """A move of a kind."""
    if kind == "near" or (kind == "small" and rng.random() < 0.5):
        return _near(rng, model, reference, source)
    move = _view(rng, reference, source, (5, 10) if kind == "turn" else (0, 5))
    if kind == "soft":
        return replace(move, source=gaussian_blur(move.source, rng.uniform(0.003, 0.007) * max(size_of(move.source))))
    if kind == "noise":
        made, amount = torch.Generator().manual_seed(rng.randrange(1 << 30)), rng.uniform(0.04, 0.1)
        noisy = (
            (image + share * amount * torch.randn(image.shape, generator=made)).clamp(0, 1)
            for image, share in ((move.reference, 0.5), (move.source, 1.0))
        )
        return replace(move, reference=next(noisy), source=next(noisy))
    return move


def _row(kind: str, model: Model, rng: random.Random, reference: Tensor, source: Tensor) -> _Row:
    if kind == "small":
        few = scaled(size_of(reference), SMALL / max(size_of(reference)))
        reference, source = resized(reference, few), resized(source, few)
    move = _made(kind, model, rng, reference, source)
    start = time.process_time()
    found = register(move.reference, move.source, model)
    seconds = time.process_time() - start
    own = [_own(rng, model, reference, source, move) for _ in range(2)]
    nominal, error = (move.error(found.matrix, place) for place in (_matrix(0, 1, 0, 0), sum(own) / 2))
    first, second = (move.window.inverse() @ place @ move.window for place in own)
    return _Row(kind, found, seconds, nominal, error, _error(first, second, move.size, move.size))


def align(options: argparse.Namespace) -> None:
    """Print a line for each move, and the shares that are called aligned and are."""
    rng, rows, strange = random.Random(0), [], dict[Path, Tensor]()
    for name, reference, source in _pairs(options.pairs, options.every):
        folder, start = Path(name).parent, len(rows)
        rows += [_row(kind, options.model, rng, reference, source) for kind in options.moves if kind != "other"]
        choice = [image for other, image in strange.items() if other != folder]
        if "other" in options.moves and choice:
            rows.append(_Row("other", register(reference, rng.choice(choice), options.model), 0.0))
        strange[folder] = source
        for row in rows[start:]:
            found = row.found
            print(
                f"{name} {row.kind}: sure {found.sure} ({found.confidence:.0%}, agreement {found.agreement:.1f}), left "
                f"{found.left:.2f}, nominal {row.nominal:.2f}, error {row.error:.2f}, own places {row.apart:.2f} apart",
                flush=True,
            )
    print(f"\nmodel {options.model}, median {sorted(row.seconds for row in rows)[len(rows) // 2]:.2f} CPU s")
    print("| moves | called aligned, of all | of those with an own place | of these, within 2 px | of those without |")
    print("|---|---|---|---|---|")
    for kind in options.moves:
        some = [row for row in rows if row.kind == kind]
        own = [row for row in some if row.apart <= RIGHT]
        called, both = ([row for row in rows if row.found.sure] for rows in (some, own))
        print(
            f"| {kind} | {len(called)} of {len(some)} | {len(both)} of {len(own)} | "
            f"{sum(row.error <= RIGHT for row in both)} of {len(both)} | "
            f"{len(called) - len(both)} of {len(some) - len(own)} |"
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
    parser.add_argument("--moves", nargs="+", choices=[*MOVES, "other"], default=list(MOVES))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    check(options) if options.check else align(options)
