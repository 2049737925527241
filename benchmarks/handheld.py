"""Hand-held series with known shake, and brackets with known motion: pixels left, and energy of ghosts.

    python benchmarks/handheld.py shake PHOTOGRAPHS
    python benchmarks/handheld.py ghosts PHOTOGRAPHS

Frames are rendered from photographs: a focus stack whose sharp part wanders, seen by a camera that shifts up to 40
pixels, turns up to 2 degrees and breathes by 3 %; a bracket 1.5 stops apart, by one that is turned as far. For ghosts a
part of another photograph moves from frame to frame. The ghost energy of a method is the squared difference from its
own fusion of frames without motion, with the object where that is least, over the places that change.
"""

import argparse
import math
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fusionkit import FusionWarning, Pipeline
from fusionkit.images.accept import as_picture
from fusionkit.images.convert import to_tensor
from fusionkit.numerics.homography import Warp, grid, mapped, size_of, square
from fusionkit.numerics.luma import luma
from fusionkit_plugins.alignment.handheld import chained

Array = NDArray[np.float64]
SHIFT, TURN, GROWTH = 40.0, 2.0, 0.03
PREPARED = {"backbone": "identity", "restore": "none", "align": "none", "device": "cpu", "task": "mef"}


def light_of(path: Path, side: int) -> Array:
    """Linear light of a photograph, its longer side at most so long."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((side, side))
    light: Array = (np.asarray(image, float) / 255) ** 2.2
    return light


def stored(light: Array, generator: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera writes, with noise."""
    noisy = light.clip(0, 1) + generator.normal(0, 0.004, light.shape)
    values: NDArray[np.uint8] = (noisy.clip(0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
    return values


def pose(generator: np.random.Generator, side: int, *, turned: bool) -> torch.Tensor:
    """Where a frame lies: a similarity, or a camera turned by as much."""
    angle, (right, down) = math.radians(generator.uniform(-TURN, TURN)), generator.uniform(-SHIFT, SHIFT, 2)
    cos, sin, grown = math.cos(angle), math.sin(angle), 1 + generator.uniform(-GROWTH, GROWTH)
    flat = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    if not turned:
        flat[:2, :2] *= grown
        flat[:2, 2] = right, down
        return torch.from_numpy(flat)
    focal = 1.2 * side
    yaw, pitch, lens = right / focal, down / focal, np.diag([focal, focal, 1.0])
    sideways = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    upward = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    return square(torch.from_numpy(lens @ sideways @ upward @ flat @ np.linalg.inv(lens)))


def shaken(
    light: Array, count: int, generator: np.random.Generator, *, turned: bool
) -> tuple[list[Array], list[torch.Tensor]]:
    """Frames of a scene and their poses, the middle one's none."""
    height, width = (int(0.8 * n) // 2 * 2 for n in light.shape[:2])
    poses = [pose(generator, max(height, width), turned=turned) for _ in range(count)]
    poses[count // 2] = torch.eye(3, dtype=torch.float64)
    blurred = [light, *(ndimage.gaussian_filter(light, (s, s, 0)) for s in (2.0, 4.0, 6.0))]
    along, frames = np.linspace(0, 1, light.shape[1]), list[Array]()
    for k, there in enumerate(poses):
        if turned:
            shown = light * 2.0 ** (1.5 * (k - count // 2))
        else:
            level = np.abs(along - (k + 0.5) / count) * 6
            shown = sum(
                one * np.clip(1 - np.abs(level.clip(0, 3) - i), 0, 1)[None, :, None] for i, one in enumerate(blurred)
            )
        tensor = to_tensor(shown.clip(0, 1))
        warp = Warp(torch.linalg.inv(there), (height, width), size_of(tensor))
        seen = warp.rows(slice(None), lambda rows, tensor=tensor: tensor[..., rows, :])
        frames.append(stored(seen[0].permute(1, 2, 0).double().numpy(), generator) / 255)
    return frames, poses


def shake(paths: list[Path], side: int) -> None:
    """Pixels between where frames are and where they are found."""
    errors: dict[str, list[float]] = {"focus": [], "bracket": []}
    seconds, frames_done = 0.0, 0
    for seed, path in enumerate(paths):
        for kind, count in (("focus", 8), ("bracket", 5)):
            turned = kind == "bracket"
            frames, poses = shaken(light_of(path, side), count, np.random.default_rng(seed), turned=turned)
            lumas = [luma(to_tensor(frame)) for frame in frames]
            start = time.process_time()
            found, sizes = chained(lumas, count // 2, "homography" if turned else "similarity", by_light=turned)
            seconds, frames_done = seconds + time.process_time() - start, frames_done + count - 1
            x, y = grid(sizes[0], 9)
            for i, there in enumerate(poses):
                match = found[i]
                if i != count // 2:
                    if match is None:
                        errors[kind].append(math.inf)
                        continue
                    (a, b), (c, d) = mapped(match.matrix, x, y), mapped(there, x, y)
                    errors[kind].append(float(torch.hypot(a - c, b - d).mean()))
            print(path.name, kind, " ".join(f"{e:.2f}" for e in errors[kind][-count + 1 :]), flush=True)
    for kind, values in errors.items():
        within = np.mean(np.array(values) <= 0.5)
        print(f"{kind}: {within:.1%} of {len(values)} within 0.5 px; median {np.median(values):.2f} px")
    print(f"{seconds / frames_done:.2f} s of the processor a frame")


def moving(
    path: Path, other: Path, seed: int, side: int
) -> tuple[list[NDArray[np.uint8]], list[list[NDArray[np.uint8]]], Array]:
    """A bracket in which a part of another photograph moves, brackets in which it stays, and the places that change."""
    generator = np.random.default_rng(seed)
    light, thing = light_of(path, side), light_of(other, side // 3)[: side // 4, : side // 6]
    count, stops = (3, 1.8) if seed % 2 else (5, 1.2)
    (high, wide), (height, width) = thing.shape[:2], light.shape[:2]
    step = int(generator.uniform(0.2, 0.9) * min(wide, (width - wide) / count))
    left, top = generator.integers(0, width - wide - count * step), generator.integers(0, height - high)
    y, x = np.mgrid[:high, :wide]
    oval = ((2 * y / high - 1) ** 2 + (2 * x / wide - 1) ** 2 < 1)[..., None]

    def at(k: int) -> Array:
        scene = light.copy()
        place = scene[top : top + high, left + k * step : left + k * step + wide]
        place[:] = np.where(oval, thing, place)
        return scene

    def exposed(scene: Array, k: int) -> NDArray[np.uint8]:
        return stored(scene * 2.0 ** (stops * (k - count // 2)), np.random.default_rng(k))

    scenes = [at(k) for k in range(count)]
    change = np.ptp(np.stack(scenes), axis=0).max(2) > 0.002
    still = [[exposed(scene, k) for k in range(count)] for scene in scenes]
    return [exposed(scene, k) for k, scene in enumerate(scenes)], still, ndimage.binary_dilation(change, iterations=6)


def fused(frames: list[NDArray[np.uint8]], **choices: str) -> Array:
    """By this package."""
    pictures = [as_picture(frame, str(i)) for i, frame in enumerate(frames)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FusionWarning)
        result = Pipeline(**PREPARED, **choices).fuse_pictures(pictures, reference=len(frames) // 2)
    return np.asarray(result.picture.pixels, float)


def enfused(frames: list[NDArray[np.uint8]]) -> Array:
    """By enfuse."""
    with tempfile.TemporaryDirectory() as name:
        files = [f"{name}/{i}.png" for i in range(len(frames))]
        for file, frame in zip(files, frames, strict=True):
            Image.fromarray(frame).save(file)
        subprocess.run(["enfuse", "-o", f"{name}/fused.png", *files], check=True, capture_output=True)
        return np.asarray(Image.open(f"{name}/fused.png").convert("RGB"), float) / 255


def ghosts(paths: list[Path], side: int) -> None:
    """Energy of ghosts of several methods, and whether static scenes keep their bytes."""
    methods = {"mertens": lambda f: fused(f, prior="mertens"), "em_tv": fused, "enfuse": enfused}
    cleared = {
        "mertens, deghost": ("mertens", lambda f: fused(f, prior="mertens", deghost="auto")),
        "em_tv, deghost": ("em_tv", lambda f: fused(f, deghost="auto")),
    }
    total: dict[str, float] = {}
    kept = 0
    for seed, path in enumerate(paths):
        frames, still, change = moving(path, paths[seed - 1], seed, side)
        wanted = {name: [method(one) for one in still] for name, method in methods.items()}
        results = {name: (name, method(frames)) for name, method in methods.items()}
        results |= {name: (base, method(frames)) for name, (base, method) in cleared.items()}
        parts, count = ndimage.label(change)
        for name, (base, result) in results.items():
            left = sum(
                min(float(np.square(result - one)[parts == part].sum()) for one in wanted[base])
                for part in range(1, count + 1)
            )
            total[name] = total.get(name, 0.0) + left / change.sum()
        kept += bool((fused(still[0], prior="mertens", deghost="auto") == wanted["mertens"][0]).all())
        print(path.name, {name: f"{value / (seed + 1):.5f}" for name, value in total.items()}, flush=True)
    print(f"{kept} of {len(paths)} static brackets have the bytes of none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("shake", "ghosts"))
    parser.add_argument("photographs", type=Path, nargs="+", help="two or more")
    parser.add_argument("--side", type=int, default=0, help="longest side, by default 1250 of shake, 640 of ghosts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "shake":
        shake(arguments.photographs, arguments.side or 1250)
    else:
        ghosts(arguments.photographs, arguments.side or 640)


if __name__ == "__main__":
    main()
