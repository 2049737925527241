"""How well sources that were moved are found, and how often registered ones are called misplaced.

    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] [--model affine] [--moves 2] [--every N]
    python benchmarks/registration.py --pairs IR VIS [IR VIS ...] --check

Folders of pairs of one size. Each source is moved by 5 to 40 pixels, turned by 1 to 5 degrees and scaled by 0.95 to
1.05 as the model allows (seed 0; shifts less on images below 480 pixels), and looked for. Pairs that data sets call
registered often are not, so two errors are given, medians over a picture: against the move (nominal), and against the
move after what `register` says of the pair as it came (consistent). --check: the warning instead, on the pairs as they
are and moved by so many pixels in any direction, beside what a full registration says of those that it is raised on.
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
from fusionkit.numerics.luma import luma
from fusionkit.numerics.registration import displacement, look_apart, register, warp
from fusionkit.reading import read_image
from fusionkit.reading.matching import match_folders


def _pairs(folders: list[Path], every: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    for first, second in zip(folders[::2], folders[1::2], strict=True):
        for group in match_folders([first, second]).groups[::every]:
            source, reference = (luma(to_tensor(read_image(path).pixels)) for path in group)
            if source.shape == reference.shape and min(source.shape[-2:]) >= 200:
                yield str(group[1]), reference, source


def _move(rng: random.Random, model: str, side: int) -> Tensor:
    direction, length = rng.uniform(0, 2 * math.pi), rng.uniform(5, 40) * min(1, side / 480)
    turn = math.radians(rng.choice([-1, 1]) * rng.uniform(1, 5)) if model != "translation" else 0.0
    scale = rng.uniform(0.95, 1.05) if model == "affine" else 1.0
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    return torch.tensor(
        [[cos, -sin, length * math.cos(direction)], [sin, cos, length * math.sin(direction)]], dtype=torch.float64
    )


def _square(matrix: Tensor) -> Tensor:
    return torch.cat([matrix, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])


def _error(found: Tensor, true: Tensor, size: tuple[int, int]) -> float:
    """Median distance between where two transforms put a pixel."""
    return displacement(found - true + torch.eye(2, 3, dtype=torch.float64), size)


def align(options: argparse.Namespace) -> None:
    """Print a line for each move and the shares within a pixel."""
    rng, rows = random.Random(0), []
    for name, reference, source in _pairs(options.pairs, options.every):
        size = (reference.shape[-2], reference.shape[-1])
        own = register(reference, source, options.model)
        for _ in range(options.moves):
            move = _move(rng, options.model, min(size))
            back = torch.linalg.inv(_square(move))
            start = time.process_time()
            found = register(reference, warp(source, move)[0], options.model)
            seconds = time.process_time() - start
            nominal = _error(found.matrix, back[:2], size)
            consistent = _error(found.matrix, (back @ _square(own.matrix))[:2], size)
            rows.append((found.sure, nominal, consistent, displacement(back[:2], size), own.sure, seconds))
            print(
                f"{name}: moved {rows[-1][3]:.0f} px, sure {found.sure}, nominal {nominal:.1f}, consistent "
                f"{consistent:.2f}; as it came {displacement(own.matrix, size):.1f} px off, sure {own.sure}",
                flush=True,
            )
    sure = [row for row in rows if row[0]]
    median = sorted(row[5] for row in rows)[len(rows) // 2]
    print(f"\n{len(rows)} moves, {len(sure)} matches called sure, median {median:.1f} CPU s")
    print(f"within 1 px, consistent: {sum(r[2] <= 1 for r in sure) / len(rows):.1%} of all")
    known = [row for row in sure if row[4]]
    print(f"of the sure ones on pairs whose own place is sure: {sum(r[2] <= 1 for r in known)} of {len(known)}")
    print(f"sure, and further off than not aligned: {sum(r[1] > r[3] for r in sure)}")


def check(options: argparse.Namespace) -> None:
    """Print the shares of alarms."""
    rng, raised, moved, seconds, count = random.Random(0), [], {6: [0, 0], 8: [0, 0], 12: [0, 0], 25: [0, 0]}, [], 0
    for name, reference, source in _pairs(options.pairs, options.every):
        height, width = size = (reference.shape[-2], reference.shape[-1])
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
    parser.add_argument("--moves", type=int, default=2)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    check(options) if options.check else align(options)
