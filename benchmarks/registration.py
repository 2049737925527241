"""How well moved sources are found, what is claimed of it, and how often registered ones are called misplaced.

    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] [--model affine] [--moves near view soft] [--every N]
    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] --check

Folders of pairs of one size. near: the source is moved by 5 to 40 pixels (less below 480 pixels), turned by 1 to 5
degrees and scaled by 0.95 to 1.05, as the model allows. view: one of the two is cut to a window of 0.5 to 1 of its
view, off the middle, turned by up to 5 degrees and resampled to 1, 0.8 or 0.5 of its size, so that fields of view are
0.5 to 2 of each other; nothing is filled in. soft: the same with a source blurred by 0.3 to 0.7 % of its side, as heat
is. other: a source of another folder, which no transform aligns.

Pairs that data sets call registered often are not, so two errors are given, means over what both see in pixels of the
reference: against the move (nominal), and against the move after what `register` says of the pair as it came
(consistent). --check: the warning instead, on the pairs as they are and moved by so many pixels in any direction,
beside what a full registration says of those that it is raised on.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fusionkit.images.convert import to_tensor
from fusionkit.numerics.homography import displacement, mapped, scale_of, seen, size_of, warp
from fusionkit.numerics.luma import luma
from fusionkit.numerics.registration import look_apart, register
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


def align(options: argparse.Namespace) -> None:
    """Print a line for each move, and the shares that are called aligned and are."""
    rng, rows, others = random.Random(0), [], dict[Path, Tensor]()
    for name, reference, source in _pairs(options.pairs, options.every):
        own = register(reference, source, options.model)
        for kind in options.moves:
            if kind == "other":
                strange = [image for folder, image in others.items() if folder != Path(name).parent]
                others[Path(name).parent] = source
                first, second, to, back = reference, rng.choice(strange or [source]), *(_matrix(0, 1, 0, 0),) * 2
            elif kind == "near":
                first, second, to, back = _near(rng, options.model, reference, source)
            else:
                first, second, to, back = _view(rng, reference, source)
            if kind == "soft":
                second = gaussian_blur(second, rng.uniform(0.003, 0.007) * max(second.shape[-2:]))
            if kind == "other" and not strange:
                continue
            start = time.process_time()
            found = register(first, second, options.model)
            seconds = time.process_time() - start
            sizes = size_of(first), size_of(second)
            nominal = _error(found.matrix, back.inverse() @ to, *sizes) if kind != "other" else math.inf
            consistent = _error(found.matrix, back.inverse() @ own.matrix @ to, *sizes) if kind != "other" else math.inf
            rows.append((kind, found.sure, nominal, consistent, own.sure, found.left, seconds))
            print(
                f"{name} {kind}: sure {found.sure} ({found.confidence:.0%}, agreement {found.agreement:.0f}), left "
                f"{found.left:.2f}, nominal {nominal:.2f}, consistent {consistent:.2f}; as it came "
                f"{displacement(own.matrix, size_of(reference)):.1f} px off, sure {own.sure}",
                flush=True,
            )
    print(f"\nmodel {options.model}, median {sorted(row[6] for row in rows)[len(rows) // 2]:.2f} CPU s")
    print(
        "| moves | aligned, of all | of sure pairs | called aligned within 2 px: nominal | consistent, of sure pairs |"
    )
    print("|---|---|---|---|---|")
    for kind in options.moves:
        some = [row for row in rows if row[0] == kind]
        sure, known = [row for row in some if row[1]], [row for row in some if row[4]]
        both = [row for row in sure if row[4]]
        print(
            f"| {kind} | {len(sure)} of {len(some)} | {len(both)} of {len(known)} | {sum(r[2] <= RIGHT for r in sure)} "
            f"of {len(sure)} | {sum(r[3] <= RIGHT for r in both)} of {len(both)} |"
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
