"""How well `--align dense` finds a field whose truth is known: rendered scenes of two cameras, and bent scans.

    python benchmarks/two_cameras.py [--scenes N] [--first SEED] [--size WIDTH HEIGHT]
    python benchmarks/two_cameras.py --moved MRI MOVED TRUTH
    python benchmarks/two_cameras.py --bent MRI OTHER [--rounds N]

Scenes: a slanted background and two to five layers in front of it, of photographs' textures, seen by a visible camera
and by a thermal one beside, above or obliquely to it. The baseline is 2 to 10 % of the distance of the background,
layers stand at 0.5 to 0.9 of it; the focal length is 0.9 of the width. In the thermal look a layer has its own heat,
and its texture is inverted, faint or missing, and blurred; the camera is turned by up to 2 degrees and its scale is
off by up to 3 %. Errors are distances of the field from the truth in pixels of the reference: over what both cameras
see within 6 pixels of an edge of its own layer in both pictures (texture), and over all that both see. A field that is
not sure leaves the transform's.

--moved: folders of slices, of the same moved by a hidden field, and of the truth; the correlation with the truth.
--bent: folders of registered slices, each bent --rounds times by a shift (deviation 2 pixels), stretch and shear (2 at
the border) and a random field (rms 2.7 pixels, white noise blurred by 16).
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor

from fusionkit.images.convert import to_tensor
from fusionkit.numerics.homography import Warp, mapped, size_of, warp
from fusionkit.numerics.luma import luma
from fusionkit.numerics.registration import register
from fusionkit.numerics.window import gaussian_blur
from fusionkit.reading import read_image
from fusionkit.reading.matching import match_folders
from fusionkit_plugins.alignment.bending import find_bending
from fusionkit_plugins.alignment.field import Field, FieldWarp, pixels
from fusionkit_plugins.alignment.parallax import find_parallax

TEXTURES = ("camera", "coins", "brick", "grass", "gravel", "moon", "astronaut", "coffee", "chelsea", "rocket", "page")
EDGE, NEAR = 0.012, 6  # gradient per pixel that counts as an edge; pixels around it


@dataclass(frozen=True)
class Scene:
    """A reference and a source (1, 1, H, W); truth: where the source shows each pixel, (2, H, W), from the centre;
    visible: seen by both; texture: near an edge of its own in both.
    """

    reference: Tensor
    source: Tensor
    truth: Tensor
    visible: Tensor
    texture: Tensor


def _matrix(rows: list[list[float]]) -> Tensor:
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


def _texture(rng: random.Random, size: tuple[int, int]) -> Tensor:
    """A photograph, turned, flipped and cut to a size."""
    image = np.asarray(getattr(data, rng.choice(TEXTURES))(), dtype=np.float32) / 255
    tone = torch.from_numpy(image if image.ndim == 2 else image @ np.float32([0.299, 0.587, 0.114]))[None, None]
    tone = tone.rot90(rng.choice([0, 2]), (-2, -1))
    tone = tone.flip(-1) if rng.random() < 0.5 else tone
    grown = 1.05 * max(size[0] / tone.shape[-2], size[1] / tone.shape[-1])
    if grown > 1:
        tone = F.interpolate(tone, scale_factor=grown, mode="bicubic").clamp(0, 1)
    top, left = rng.randrange(tone.shape[-2] - size[0] + 1), rng.randrange(tone.shape[-1] - size[1] + 1)
    return tone[..., top : top + size[0], left : left + size[1]]


def _shape(rng: random.Random, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """The mask of a layer: a person, a post, a car or a bush."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) / height - 0.5, torch.arange(width) / height, indexing="ij")
    x = x - rng.uniform(0.1, 0.9) * width / height
    y = y - rng.uniform(-0.25, 0.3)
    kind = rng.choice(["person", "post", "car", "bush"])
    scale = rng.uniform(0.8, 1.6)
    if kind == "person":
        inside = ((x / 0.06) ** 2 + (y / 0.2) ** 2 < scale**2) | (
            (x**2 + (y + 0.24 * scale) ** 2) < (0.05 * scale) ** 2
        )
    elif kind == "post":
        inside = (x.abs() < 0.03 * scale) & (y > -0.3)
    elif kind == "car":
        inside = (x / 0.2).abs() ** 4 + (y / 0.1).abs() ** 4 < scale**4
    else:
        noise = gaussian_blur(torch.randn(1, 1, height, width, generator=generator), height / 40)[0, 0]
        inside = (x / 0.2) ** 2 + (y / 0.16) ** 2 + 0.4 * noise / noise.std() < scale**2
    return gaussian_blur(inside.float()[None, None], 0.7)


def _slope(image: Tensor) -> Tensor:
    """Gradient per pixel of a picture without its grain."""
    smooth = gaussian_blur(image, 1.0)
    right, down = smooth.clone().zero_(), smooth.clone().zero_()
    right[..., 1:-1] = (smooth[..., 2:] - smooth[..., :-2]) / 2
    down[..., 1:-1, :] = (smooth[..., 2:, :] - smooth[..., :-2, :]) / 2
    return right.hypot(down)


def rendered(seed: int, size: tuple[int, int] = (480, 640)) -> Scene:
    """Render one scene; size: (height, width)."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    height, width = size
    focal, baseline, angle = 0.9 * width, rng.uniform(0.02, 0.1), rng.choice([0.0, 0.0, math.pi / 2, rng.uniform(0, 3)])
    across, down = math.cos(angle), math.sin(angle)
    turn, scale = math.radians(rng.uniform(-2, 2)), rng.uniform(0.97, 1.03)
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    camera = _matrix([[cos, -sin, rng.uniform(-8, 8)], [sin, cos, rng.uniform(-8, 8)]])
    depths = sorted([1.0] + [rng.uniform(0.5, 0.9) for _ in range(rng.randint(2, 5))], reverse=True)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in size), indexing="ij")
    reference = source = top = seen_top = truth = None
    for number, depth in enumerate(depths):
        parallax = focal * baseline / depth
        slant = rng.uniform(0, 0.5) * parallax / height if not number else rng.uniform(-0.02, 0.02)
        middle = _matrix([[1, across * slant, across * parallax], [0, 1 + down * slant, down * parallax]])
        middle = middle @ _matrix([[1, 0, -across * focal * baseline], [0, 1, -down * focal * baseline]])
        move = camera @ middle  # from the reference to the source
        tone, mask = _texture(rng, size), torch.ones(1, 1, *size) if not number else _shape(rng, size, generator)
        visible = (tone * rng.uniform(0.5, 1) + rng.uniform(-0.15, 0.15)).clamp(0, 1)
        heat, gain = rng.uniform(0.1, 0.9), rng.choice([-0.6, -0.3, 0.3, 0.6, *([0.05, 0.0] if number else [])])
        own = gaussian_blur(torch.randn(1, 1, *size, generator=generator), height / 30)
        thermal = gaussian_blur(gain * (tone - tone.mean()), 1.2) + heat + 0.04 * own / own.std()
        back = torch.linalg.inv(move)
        thermal, there = warp(thermal.clamp(0, 1), back)[0], warp(mask, back)[0] * (warp(mask, back)[1] | (number == 0))
        places = torch.stack(mapped(move, x, y))
        first = reference is None
        reference = visible if first else torch.lerp(reference, visible, mask)
        source = thermal if first else torch.lerp(source, thermal, there)
        truth = places if first else torch.where(mask[0] > 0.5, places, truth)
        top = torch.where(mask[0, 0] > 0.5, number, 0 if first else top)
        seen_top = torch.where(there[0, 0] > 0.5, number, 0 if first else seen_top)
    source = (
        gaussian_blur(source, rng.uniform(0.3, 1.2)) + 0.01 * torch.randn(1, 1, *size, generator=generator)
    ).clamp(0, 1)
    at = torch.stack([2 * truth[0] / width, 2 * truth[1] / height], -1)[None].float()
    inside = (truth[0].abs() <= (width - 1) / 2) & (truth[1].abs() <= (height - 1) / 2)
    same = F.grid_sample(seen_top[None, None].float(), at, mode="nearest", align_corners=False)[0, 0] == top

    def edges(image: Tensor, layers: Tensor) -> Tensor:
        """Pixels near an edge of their own layer: an outline belongs to the layer in front."""
        steep, found = _slope(image) > EDGE, torch.zeros(1, 1, *size)
        for number in range(len(depths)):
            own = (layers == number)[None, None].float()
            before = F.max_pool2d((layers > number)[None, None].float(), 7, 1, 3)
            found += own * F.max_pool2d(steep * own * (1 - before), 2 * NEAR + 1, 1, NEAR)
        return found

    textured = F.grid_sample(edges(source, seen_top), at, mode="nearest", align_corners=False) * edges(reference, top)
    texture = textured[0, 0] > 0.5
    return Scene(reference, source, truth, inside & same, texture)


def scenes(options: argparse.Namespace) -> None:
    """Print a row for each scene, and the errors over all of them."""
    rows, pooled = [], []
    print("| scene | affine: median, 90 %, mean of all | dense | gain | CPU s affine + field |\n|---|---|---|---|---|")
    for seed in range(options.first, options.first + options.scenes):
        scene = rendered(seed, (options.size[1], options.size[0]))
        size = size_of(scene.reference)
        start = time.process_time()
        found = register(scene.reference, scene.source, "affine")
        between = time.process_time()
        field = find_parallax(scene.reference, scene.source, found.matrix)
        seconds = between - start, time.process_time() - between
        plain = Warp(found.matrix, size, size)
        errors = [
            (torch.stack(by.places(slice(None))) - scene.truth).norm(dim=0)
            for by in (plain, FieldWarp(found.matrix, size, size, field=field) if field.sure else plain)
        ]
        near = scene.visible & scene.texture
        row = [float(v) for e in errors for v in (e[near].median(), e[near].quantile(0.9), e[scene.visible].mean())]
        rows.append(row)
        pooled.append(errors[1][near])
        print(
            f"| {seed} | {row[0]:.2f}, {row[1]:.1f}, {row[2]:.2f} | {row[3]:.2f}, {row[4]:.1f}, {row[5]:.2f} | "
            f"{field.gain:.1f} | {seconds[0]:.2f} + {seconds[1]:.2f} |",
            flush=True,
        )
    table = np.array(rows)
    every = torch.cat(pooled).numpy()
    print(f"\nmean over scenes: {np.array2string(table.mean(0), precision=2)}")
    print(f"all pixels with texture: median {np.median(every):.2f}, 90 % {np.quantile(every, 0.9):.2f}")
    print(f"worse than affine by 0.05 px in the mean of all: {(table[:, 5] > table[:, 2] + 0.05).sum()} of {len(rows)}")


def _slices(options: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Reference, moved source and its truth."""
    generator = torch.Generator().manual_seed(5)
    folders = options.moved or options.bent
    for group in match_folders(folders).groups:
        reference, *others = (to_tensor(read_image(path).pixels) for path in group)
        if options.moved:
            yield luma(reference), others[0], others[1]
            continue
        size = size_of(reference)
        x, y = (v / (n / 2) for v, n in zip(pixels(size), size[::-1], strict=True))
        for _ in range(options.rounds):
            bend = gaussian_blur(torch.randn(1, 2, *size, generator=generator), 16.0)
            bend = bend / bend.square().sum(1).mean().sqrt() * 2.7 + 2 * torch.randn(1, 2, 1, 1, generator=generator)
            linear = 2 * torch.randn(2, 2, generator=generator)
            bend = bend + torch.stack([row[0] * x + row[1] * y for row in linear])
            yield luma(reference), _bent(others[0], Field(bend, 0 * bend[:, :1], 0.0, 0.0, True)), others[0]


def _bent(image: Tensor, field: Field) -> Tensor:
    size = size_of(image)
    return FieldWarp(torch.eye(3, dtype=torch.float64), size, size, field=field).rows(
        slice(None), lambda rows: image[..., rows, :]
    )


def scans(options: argparse.Namespace) -> None:
    """Print the mean correlation with the truth, before and after."""
    rows = []
    for reference, moved, truth in _slices(options):
        field = find_bending(reference, moved)
        after = _bent(moved, field) if field.sure else moved
        rows.append(
            [float(np.corrcoef(*(luma(v).flatten() for v in (image, truth)))[0, 1]) for image in (moved, after)]
        )
    table = np.array(rows)
    worse = int((table[:, 1] < table[:, 0]).sum())
    print(f"{len(rows)} slices: {table[:, 0].mean():.4f} -> {table[:, 1].mean():.4f}, {worse} worse")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480))
    parser.add_argument("--moved", type=Path, nargs=3)
    parser.add_argument("--bent", type=Path, nargs=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    scans(options) if options.moved or options.bent else scenes(options)
