"""What the flow is worth where sources have noise: the one command behind the table in docs/how-it-works.md.

    python benchmarks/restore.py --pairs IR VIS [IR VIS ...] [--limit N] [--csv FILE]

Every method fuses sources to which noise was added; the yardstick is the fusion of the clean sources by the same prior
(PSNR, SSIM), and the clean sources (Qabf, VIF). Noise is added to the luma, clipped and rounded to 8 bits.

    control   identity, restore=none: the prior on the noisy sources
    aware     identity, restore=auto: the prior knows the estimated noise, no network runs
    rf        restore=auto: the estimated level, one evaluation
    rf, true  restore=noise:level=LEVEL: the true level (white noise only)
    rf, 4     the same start, four Euler steps of the flow instead of one
    nlm       non-local means (scikit-image) on each source at the true level, then the prior
"""

import argparse
import csv
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusionkit.contracts import Sources
from fusionkit.flow.path import x0_from_velocity
from fusionkit.images.convert import to_tensor
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.luma import luma
from fusionkit.reading import read_image
from fusionkit.reading.matching import match_folders
from fusionkit.scoring.metrics import load_metrics

PRIORS = ("em_tv", "laplacian")
NOISES = ("none", "white 10", "white 20", "white 30", "Poisson-Gaussian, last", "rows 12")
POISSON = (0.02, 0.0004)  # variance = a x + b
METRICS = ("Qabf", "VIF")


def noisy(images: list[Tensor], kind: str, generator: torch.Generator) -> list[Tensor]:
    """The sources with noise, clipped, in whole 8-bit levels."""
    if kind == "none":
        return images
    name, _, amount = kind.partition(" ")
    result = []
    for i, image in enumerate(images):
        white = torch.randn(image.shape, generator=generator)
        if name == "white":
            noise = float(amount) / 255 * white
        elif name == "rows":
            wide = torch.randn(*image.shape[:-1], image.shape[-1] + 4, generator=generator)
            noise = float(amount) / 255 * torch.nn.functional.avg_pool2d(wide, (1, 5), 1) * 5**0.5
        else:
            noise = (POISSON[0] * image + POISSON[1]).sqrt() * white * (i == len(images) - 1)
        result.append(((image + noise).clamp(0, 1) * 255).round() / 255)
    return result


def four_steps(pipeline: Pipeline, source: Tensor, level: float) -> Tensor:
    """From the source's own t to 0 in four Euler steps."""
    s = 2 * level
    times = [s / (1 + s) * (1 - i / 4) for i in range(5)]
    x = (1 - times[0]) * (2 * source - 1)
    for t, t_next in pairwise(times):
        v = pipeline.backbone.velocity(x, torch.full((len(x),), t))
        x = x_next(x, v, t, t_next)
    return ((x + 1) / 2).clamp(0, 1)


def x_next(x: Tensor, v: Tensor, t: float, t_next: float) -> Tensor:
    """Euler; at t' = 0 the clean estimate."""
    return x + (t_next - t) * v if t_next > 0 else x0_from_velocity(x, v, t)


def non_local_means(source: Tensor, level: float) -> Tensor:
    """scikit-image's, fast mode, with its usual strength."""
    from skimage.restoration import denoise_nl_means

    image = source[0, 0].numpy()
    clean = denoise_nl_means(image, h=0.8 * level, sigma=level, patch_size=5, patch_distance=6, fast_mode=True)
    return torch.from_numpy(np.ascontiguousarray(clean))[None, None].float().clamp(0, 1)


class Methods:
    """The compared methods for one prior."""

    def __init__(self, prior: str) -> None:
        how = {"look": "faithful", "prior": prior, "device": "cpu", "color": "gray"}
        self.control = Pipeline(backbone="identity", restore="none", **how)
        self.aware = Pipeline(backbone="identity", **how)
        self.rf = Pipeline(**how)
        self.how = how

    def run(self, images: list[Tensor], kind: str) -> dict[str, Tensor]:
        """Fused luma of every method that serves this noise, and CPU seconds."""
        results: dict[str, Tensor] = {}
        self.seconds: dict[str, float] = {}

        def add(name: str, function, *arguments) -> None:  # type: ignore[no-untyped-def]
            start = time.process_time()
            results[name] = function(*arguments)
            self.seconds[name] = time.process_time() - start

        add("control", self.control.fuse_tensors, images)
        add("aware", self.aware.fuse_tensors, images)
        add("rf", self.rf.fuse_tensors, images)
        if kind.startswith("white"):
            level = float(kind.split()[1])
            true = Pipeline(restore=f"noise:level={level}", **self.how)
            true.backbone.prepare()
            add("rf, true", true.fuse_tensors, images)
            add("rf, 4", lambda: self.control.fuse_tensors([four_steps(self.rf, y, level / 255) for y in images]))
            add("nlm", lambda: self.control.fuse_tensors([non_local_means(y, level / 255) for y in images]))
        return results


def psnr(a: Tensor, b: Tensor) -> float:
    """dB, peak 1; inf where equal."""
    mse = float((a - b).square().mean())
    return -10 * np.log10(mse) if mse else float("inf")


def main() -> None:
    """Print a table a prior and write the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", type=Path, required=True, help="folders: IR VIS [IR VIS ...]")
    parser.add_argument("--limit", type=int, default=12, help="pairs, spread evenly over all folders")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    pairs = [g for i in range(0, len(options.pairs), 2) for g in match_folders(options.pairs[i : i + 2]).groups]
    if len(pairs) > options.limit:
        pairs = [pairs[i * len(pairs) // options.limit] for i in range(options.limit)]
    metrics = load_metrics([*METRICS], None)
    ssim = load_metrics(["SSIM"], None)["SSIM"]
    rows: list[dict[str, object]] = []
    for prior in PRIORS:
        methods = Methods(prior)
        methods.rf.backbone.prepare()
        table: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
        for number, paths in enumerate(pairs):
            clean = [luma(to_tensor(read_image(p).pixels)) for p in paths]
            goal = methods.control.fuse_tensors(clean)
            originals = Sources.of(clean)
            for kind in NOISES:
                images = noisy(clean, kind, torch.Generator().manual_seed(number))
                for name, fused in methods.run(images, kind).items():
                    scores = [psnr(fused, goal), float(ssim(fused, Sources.of([goal])))]
                    scores += [float(m(fused, originals)) for m in metrics.values()]
                    table[kind, name].append([*scores, methods.seconds[name]])
                    print(f"{prior} {paths[-1].stem} {kind} {name} {scores[0]:.2f}", file=sys.stderr)
        print(f"\n{prior}, {len(pairs)} pairs\n\n| noise | method | PSNR | SSIM | Qabf | VIF | CPU s |")
        print("|---" * 7 + "|")
        for (kind, name), values in table.items():
            mean = np.mean(values, axis=0)
            print(
                f"| {kind} | {name} | {mean[0]:.2f} | {mean[1]:.3f} | {mean[2]:.3f} | {mean[3]:.3f} | {mean[4]:.2f} |"
            )
            rows += [
                {
                    "prior": prior,
                    "noise": kind,
                    "method": name,
                    "pair": paths[-1].stem,
                    **dict(zip(("PSNR", "SSIM", "Qabf", "VIF", "seconds"), v, strict=True)),
                }
                for paths, v in zip(pairs, values, strict=True)
            ]
    if options.csv:
        with options.csv.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
