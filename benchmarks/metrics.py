"""The metrics of the dialect `cddfuse` against the usual NumPy and SciPy code for them, in pairs, values compared."""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.signal import convolve2d

from fusionkit.contracts import Sources
from fusionkit.scoring.metrics import load_metrics


def vifp(reference: Any, distorted: Any) -> float:
    """Two-dimensional windows, one convolution for each map."""
    kept = lost = 0.0
    for size in (17, 9, 5, 3):
        at = np.arange(size) - (size - 1) / 2
        window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * (size / 5) ** 2))
        window /= window.sum()

        def mean(x: Any, window: Any = window) -> Any:
            return convolve2d(x, window, mode="valid")

        if size < 17:
            reference, distorted = mean(reference)[::2, ::2], mean(distorted)[::2, ::2]
        mr, md = mean(reference), mean(distorted)
        vr = np.maximum(mean(reference**2) - mr**2, 0)
        vd = np.maximum(mean(distorted**2) - md**2, 0)
        covariance = mean(reference * distorted) - mr * md
        gain = covariance / (vr + 1e-10)
        rest = vd - gain * covariance
        flat = vr < 1e-10
        gain[flat], rest[flat], vr[flat] = 0, vd[flat], 0
        flat = vd < 1e-10
        gain[flat], rest[flat] = 0, 0
        rest[gain < 0] = vd[gain < 0]
        gain = np.maximum(gain, 0)
        kept += np.log10(1 + gain**2 * vr / (np.maximum(rest, 1e-10) + 2)).sum()
        lost += np.log10(1 + vr / 2).sum()
    return float(kept / lost)


def mutual_information(x: Any, y: Any) -> float:
    """In nats, from a two-dimensional histogram."""
    joint = np.histogram2d(x.ravel(), y.ravel(), bins=256, range=[[0, 256], [0, 256]])[0]
    joint /= joint.sum()
    outer = joint.sum(1)[:, None] * joint.sum(0)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / outer[joint > 0])).sum())


def edges(x: Any) -> tuple[Any, Any]:
    """Sobel strength and orientation."""
    gx = convolve2d(x, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], mode="same")
    gy = convolve2d(x, [[1, 2, 1], [0, 0, 0], [-1, -2, -1]], mode="same")
    angle = np.full_like(gx, np.pi / 2)
    angle[gx != 0] = np.arctan(gy[gx != 0] / gx[gx != 0])
    return np.sqrt(gx**2 + gy**2), angle


def qabf(f: Any, a: Any, b: Any) -> float:
    """Edges kept, weighted by strength."""
    strength_f, angle_f = edges(f)
    kept = weight = 0.0
    for source in (a, b):
        strength, angle = edges(source)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(strength > strength_f, strength_f / strength, strength / strength_f)
        ratio = np.where(strength == strength_f, strength_f, ratio)
        agreement = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        q = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (agreement - 0.8)))
        kept, weight = kept + float((q * strength).sum()), weight + float(strength.sum())
    return kept / weight


def ssim(x: Any, y: Any) -> float:
    """7x7 means, sample covariance, constants of a range of 2."""
    mx, my = uniform_filter(x, 7), uniform_filter(y, 7)
    sample = 49 / 48
    vx, vy = sample * (uniform_filter(x * x, 7) - mx**2), sample * (uniform_filter(y * y, 7) - my**2)
    c = sample * (uniform_filter(x * y, 7) - mx * my)
    c1, c2 = 0.02**2, 0.06**2
    value = (2 * mx * my + c1) * (2 * c + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(value[3:-3, 3:-3].mean())


def usual(f: Any, a: Any, b: Any) -> dict[str, float]:
    """Every metric of the dialect."""
    counts = np.histogram(f, 256, (0, 256))[0] / f.size
    gy, gx = np.gradient(f)
    mse = (((a - f) ** 2).mean() + ((b - f) ** 2).mean()) / 2

    def r(x: Any, y: Any) -> float:
        return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])

    return {
        "EN": -sum(p * math.log2(p) for p in counts if p),
        "SD": f.std(),
        "SF": math.sqrt((np.diff(f, axis=0) ** 2).mean() + (np.diff(f, axis=1) ** 2).mean()),
        "AG": np.sqrt((gx**2 + gy**2) / 2).mean(),
        "MI": mutual_information(a, f) + mutual_information(b, f),
        "MSE": mse,
        "CC": (r(a, f) + r(b, f)) / 2,
        "PSNR": 10 * math.log10(f.max() ** 2 / mse),
        "SCD": r(f - b, a) + r(f - a, b),
        "VIFF": vifp(a, f) + vifp(b, f),
        "Qabf": qabf(f, a, b),
        "SSIM": ssim(f, a) + ssim(f, b),
    }


def timed(function: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main() -> None:
    """Print both times, the median ratio of the pairs and the largest relative difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="768x1024", metavar="HxW")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    rng = np.random.default_rng(0)
    a, b = (gaussian_filter(rng.standard_normal((height, width)), s, mode="wrap") for s in (2, 5))
    a, b = (128 + 50 * x / x.std() + 4 * rng.standard_normal(x.shape) for x in (a, b))
    a, b, f = (np.clip(np.round(x), 0, 255) for x in (a, b, (a + b) / 2))
    tensors = [torch.from_numpy(x).float()[None, None] / 255 for x in (f, a, b)]
    sources = Sources(tuple(tensors[1:]), tuple(tensors[1:]))
    metrics = load_metrics(None, "cddfuse")

    def ours() -> dict[str, float]:
        with torch.inference_mode():
            return {name.partition(".")[2]: float(m(tensors[0], sources)) for name, m in metrics.items()}

    ours()
    pairs = [(timed(ours), timed(lambda: usual(f, a, b))) for _ in range(options.runs)]
    mine, theirs = pairs[0][0][1], pairs[0][1][1]
    for name, value in theirs.items():
        print(f"{name:5s} {mine[name]:12.6f} {value:12.6f}   relative difference {abs(mine[name] / value - 1):.1e}")
    seconds = [statistics.median(pair[i][0] for pair in pairs) for i in (0, 1)]
    ratio = statistics.median(theirs[0] / mine[0] for mine, theirs in pairs)
    print(f"{options.size}, {len(mine)} metrics: ours {seconds[0]:.3f} s, usual {seconds[1]:.3f} s, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
