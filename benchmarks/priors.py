"""Each closed-form prior at 768x1024 against the same arithmetic written with OpenCV, NumPy and SciPy, in turn.

    python benchmarks/priors.py [--size HEIGHT WIDTH] [--threads N] [--runs N] [PRIOR ...]

One process, `--threads` threads for either side, two runs to warm up, then ours and the other form in turn: medians,
the median ratio, and how far the results lie apart where the other form is the same arithmetic (OpenCV's own Mertens is
not).
The bound is the bytes that a prior must read and write (sources in, result out) over the bandwidth of a copy.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import pywt
import torch
from scipy import fft

from fusionkit.contracts import Sources
from fusionkit.method.pipeline import Pipeline
from fusionkit.scenes import infrared_visible, multi_exposure, multi_focus

Image = "np.ndarray[Any, Any]"
BORDER = cv2.BORDER_REFLECT


def box(x: Any, r: int) -> Any:
    return cv2.blur(x, (2 * r + 1, 2 * r + 1), borderType=BORDER)


def guided(guide: Any, x: Any, r: int, eps: float) -> Any:
    mean_g, mean_x = box(guide, r), box(x, r)
    a = (box(guide * x, r) - mean_g * mean_x) / (box(guide * guide, r) - mean_g**2 + eps)
    return box(a, r) * guide + box(mean_x - a * mean_g, r)


def forward(x: Any) -> tuple[Any, Any]:
    return np.diff(x, axis=1, append=x[:, -1:]), np.diff(x, axis=0, append=x[-1:])


def poisson(gx: Any, gy: Any, base: Any, screen: float) -> Any:
    height, width = base.shape
    gx, gy = gx.copy(), gy.copy()
    gx[:, -1], gy[-1] = 0, 0
    divergence = np.diff(gx, axis=1, prepend=0) + np.diff(gy, axis=0, prepend=0)
    power = [2 - 2 * np.cos(np.pi * np.arange(n, dtype=np.float32) / n) for n in (width, height)]
    spectrum = fft.dctn(screen * base - divergence, workers=WORKERS) / (screen + power[0] + power[1][:, None])
    return fft.idctn(spectrum, workers=WORKERS)


def halved(x: Any) -> Any:
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3))


def vary(fused: Any, gx: Any, gy: Any, wanted: Any, screen: float) -> Any:
    """Two steps from the quadratic's minimum towards that of the misfit's total variation, at half the size."""
    height, width = (n // 2 for n in fused.shape)
    along = (gx[::2] + gx[1::2])[:, 1:-1] / 4  # columns 1, 2 ...
    down = (gy[:, ::2] + gy[:, 1::2])[1:-1] / 4
    along = 2 * along[:, ::2] + (gx[::2] + gx[1::2])[:, :-2:2] / 4 + along[:, 1::2]
    down = 2 * down[::2] + (gy[:, ::2] + gy[:, 1::2])[:-2:2] / 4 + down[1::2]
    now = halved(fused)
    x, y = forward(now)
    weight = 0.01 / (1 + np.sqrt(np.maximum(box(x * x + y * y, 1), 0)) / 0.05)
    x[:, :-1] -= along
    y[:-1] -= down
    change, pull, bx, by = np.zeros_like(now), halved(wanted) - now, 0, 0
    for _ in range(2):
        dx, dy = forward(change)
        bx, by = bx + dx + x, by + dy + y
        vx, vy = bx - x, by - y
        kept = np.minimum(1, weight / (np.hypot(bx, by) + 1e-12))
        bx, by = bx * kept, by * kept
        change = poisson(vx - 2 * bx, vy - 2 * by, pull, screen)
    return fused + cv2.resize(change, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)


def contrast(x: Any) -> Any:
    """Global contrast as published: a histogram of 256 levels and a table."""
    level = (x * 255).astype(np.uint8)
    grey = np.arange(256, dtype=np.float32)
    table = np.abs(grey[:, None] - grey) @ np.bincount(level.ravel(), minlength=256).astype(np.float32)
    return cv2.LUT(level, table / x.size / 255).astype(np.float32)


def mean_by(weights: list[Any], images: list[Any]) -> Any:
    return sum(w * y for w, y in zip(weights, images, strict=True)) / sum(weights)


def pyramid(x: Any, levels: int) -> list[Any]:
    bands = []
    for _ in range(levels):
        small = cv2.pyrDown(x)
        bands.append(x - cv2.pyrUp(small, dstsize=x.shape[::-1]))
        x = small
    return [*bands, x]


def collapse(bands: list[Any]) -> Any:
    x = bands[-1]
    for band in reversed(bands[:-1]):
        x = band + cv2.pyrUp(x, dstsize=band.shape[::-1])
    return x


def laplacian(images: list[Any], power: float = 4.0, base: float = 3.0) -> Any:
    levels = max(1, (min(images[0].shape) // 8).bit_length() - 1)
    fused = []
    kernel = (np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16,) * 2
    for bands in list(zip(*(pyramid(y, levels) for y in images), strict=True)):
        last = len(fused) == levels
        energies = [contrast(b) if last else b * b for b in bands]
        for _ in range(0 if last else 2):
            energies = [cv2.sepFilter2D(e, -1, *kernel) for e in energies]
        fused.append(mean_by([(e + 1e-8) ** (base if last else power) for e in energies], list(bands)))
    return collapse(fused)


def gradient(images: list[Any]) -> Any:
    fields = [forward(y) for y in images]
    xx, yy, xy = (sum(f[a] * f[b] for f in fields) for a, b in ((0, 0), (1, 1), (0, 1)))
    angle = np.arctan2(2 * xy, xx - yy) / 2
    ex, ey = np.cos(angle), np.sin(angle)
    strongest = np.argmax([gx * gx + gy * gy for gx, gy in fields], axis=0)
    gx, gy = (np.choose(strongest, [f[a] for f in fields]) for a in (0, 1))
    along = gx * ex + gy * ey
    return poisson(along * ex, along * ey, mean_by([contrast(y) + 1e-6 for y in images], images), 0.02)


def guided_filter(images: list[Any]) -> Any:
    saliency = [cv2.GaussianBlur(np.abs(cv2.Laplacian(y, cv2.CV_32F)), (31, 31), 5) for y in images]
    best = np.argmax(saliency, axis=0)
    salient = [(best == i).astype(np.float32) for i in range(len(images))]
    bases = [box(y, 15) for y in images]
    details = [y - b for y, b in zip(images, bases, strict=True)]
    fused = 0
    for parts, r, eps in ((bases, 45, 0.3), (details, 7, 1e-6)):
        weights = [np.clip(guided(y, p, r, eps), 0, 1) + 1e-6 for y, p in zip(images, salient, strict=True)]
        fused = fused + mean_by(weights, parts)
    return fused


def focus(images: list[Any]) -> Any:
    bent = np.array([[-1, 2, -1]], dtype=np.float32)
    sharp = [box(sum(np.abs(cv2.filter2D(y, -1, k)) for k in (bent, bent.T)), 5) for y in images]
    best = np.argmax(sharp, axis=0)
    choice = np.argmax([box((best == i).astype(np.float32), 11) for i in range(len(images))], axis=0).astype(np.uint8)
    for value in range(len(images)):  # small regions join what is around them: here simply the other source
        _, regions, found, _ = cv2.connectedComponentsWithStats((choice == value).astype(np.uint8))
        for number in np.nonzero(found[1:, cv2.CC_STAT_AREA] < 0.02 * choice.size)[0] + 1:
            choice[regions == number] = (value + 1) % len(images)
    guide = sum(images) / len(images)
    weights = [
        np.clip(guided(guide, (choice == i).astype(np.float32), 6, 0.01), 0, 1) + 1e-6 for i in range(len(images))
    ]
    return mean_by(weights, images)


def mertens(images: list[Any]) -> Any:
    """OpenCV's own, which takes 8-bit colour and fuses all three channels."""
    return MERGE.process([cv2.cvtColor((255 * y).astype(np.uint8), cv2.COLOR_GRAY2BGR) for y in images])


def saliency(images: list[Any]) -> Any:
    bases = [box(y, 17) for y in images]
    details = [y - b for y, b in zip(images, bases, strict=True)]
    maps = [c / c.max() for c in map(contrast, images)]
    energies = [cv2.GaussianBlur(d * d, (13, 13), 2) + 1e-8 for d in details]
    shares = [0.5 + m - sum(maps) / len(maps) for m in maps]
    return sum(s * b for s, b in zip(shares, bases, strict=True)) + mean_by(energies, details)


def wavelet(images: list[Any]) -> Any:
    transforms = [pywt.swt2(np.pad(y, 32, mode="symmetric"), "db2", 4, trim_approx=True, norm=True) for y in images]
    details = []
    for bands in zip(*(t[1:] for t in transforms), strict=True):
        chosen = []
        for k in range(3):
            best = np.argmax([box(b[k] * b[k], 1) for b in bands], axis=0)
            chosen.append(np.choose(best, [b[k] for b in bands]))
        details.append(tuple(chosen))
    base = mean_by([contrast(np.clip(t[0], 0, 1)) + 1e-6 for t in transforms], [t[0] for t in transforms])
    height, width = images[0].shape
    return pywt.iswt2([base, *details], "db2", norm=True)[32 : 32 + height, 32 : 32 + width]


def tv(images: list[Any]) -> Any:
    visible, other = images[-1], images[0]
    y, step = other - visible, 8**-0.5
    g = ahead = np.zeros_like(y)
    px, py = np.zeros_like(y), np.zeros_like(y)
    for _ in range(60):
        dx, dy = forward(ahead)
        px, py = px + step * dx, py + step * dy
        scale = np.maximum(np.sqrt(px * px + py * py) / 0.3, 1)
        px, py = px / scale, py / scale
        qx, qy = px.copy(), py.copy()
        qx[:, -1], qy[-1] = 0, 0
        before, residual = g, g + step * (np.diff(qx, axis=1, prepend=0) + np.diff(qy, axis=0, prepend=0)) - y
        g = y + np.sign(residual) * np.maximum(np.abs(residual) - step, 0)
        ahead = 2 * g - before
    return visible + g


def em_plain(images: list[Any]) -> Any:
    """The paper's step, its transforms real and of the first step, where nothing is carried."""
    visible, infrared = images[-1], images[0]
    y, x = infrared - visible, np.zeros_like(visible)
    c = np.sqrt(2) / np.sqrt((y - x) ** 2 + 1e-6)
    d = np.minimum(np.sqrt(2) / np.sqrt(x * x + 1e-6), 2 * c)
    height, width = y.shape
    power = [2 - 2 * np.cos(2 * np.pi * f) for f in (np.fft.rfftfreq(width), np.fft.fftfreq(height))]
    power = [p.astype(np.float32) for p in power]
    h = fft.irfft2(fft.rfft2(y - x, workers=WORKERS) / (1 + power[0] + power[1][:, None]), s=y.shape, workers=WORKERS)
    return visible + (2 * c * y + 0.01 * (y - h)) / (2 * c + 2 * d + 0.01)


def two_transforms(images: list[Any]) -> Any:
    """Nothing but the FFT of the paper's step and its inverse, by the library that ours calls."""
    z = torch.from_numpy(images[0])
    return torch.fft.irfft2(torch.fft.rfft2(z), s=z.shape).numpy()


def em_heat(images: list[Any]) -> Any:
    infrared, visible = images
    low, high = np.minimum(infrared, visible), np.maximum(infrared, visible)
    smooth, height, width = cv2.GaussianBlur(infrared, (9, 9), 1.5), *infrared.shape
    factor, hot = max(1, min(height, width) // 160), 0
    coarse = cv2.resize(smooth, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    for part in (2, 3, 5):
        square = np.ones((min(coarse.shape) // part | 1,) * 2, np.uint8)
        opened = cv2.resize(cv2.morphologyEx(coarse, cv2.MORPH_OPEN, square), (width, height))
        hot = hot + np.clip(((smooth - opened) / (infrared.std() + 0.03) - 0.4) / 0.8, 0, 1) / 3
    hot = np.clip(guided(infrared, hot, max(2, min(height, width) // 60), 1e-3), 0, 1)
    dark = 0.6 * np.clip(1 - box(visible, 5) / 0.25, 0, 1)
    wanted = visible + (1 - (1 - hot) * (1 - dark)) * np.maximum(infrared - visible, 0)
    cx, cy = forward(wanted)

    def energy(gx: Any, gy: Any) -> Any:
        e = box(gx * gx + gy * gy, 1)
        return np.maximum(e - 3 * np.quantile(e[::3, ::3], 0.15), 0)

    total = (1.5 * energy(cx, cy) + 1e-7) ** 2
    x, y = cx * total, cy * total
    for image, follow in ((infrared, 1), (visible, 1 - 0.9 * hot)):
        gx, gy = forward(image)
        weight = energy(gx, gy)
        agreement = np.clip(1 + 6 * box(cx * gx + cy * gy, 1) / (weight + 1e-6), 0, 1)
        weight = (weight * agreement * follow + 1e-9) ** 2
        total, x, y = total + weight, x + gx * weight, y + gy * weight
    return np.clip(vary(poisson(x / total, y / total, wanted, 0.02), x / total, y / total, wanted, 0.02), low, high)


WORKERS = 2
MERGE = cv2.createMergeMertens()
FORMS: dict[str, tuple[str, dict[str, Any], str, Callable[[list[Any]], Any]]] = {
    # name: prior, its options, scene, the other form
    "average": ("average", {}, "heat", lambda images: sum(images) / len(images)),
    "max": ("max", {}, "heat", lambda images: np.maximum(*images)),
    "laplacian": ("laplacian", {}, "heat", laplacian),
    "em_tv": ("em_tv", {"evidence": "heat"}, "heat", em_heat),
    "em_tv_paper": ("em_tv_paper", {}, "heat", em_plain),
    "em_tv_paper / FFTs": ("em_tv_paper", {}, "heat", two_transforms),
    "gradient": ("gradient", {}, "heat", gradient),
    "guided_filter": ("guided_filter", {}, "focus", guided_filter),
    "focus": ("focus", {}, "focus", focus),
    "mertens": ("mertens", {}, "exposure", mertens),
    "saliency": ("saliency", {}, "heat", saliency),
    "wavelet": ("wavelet", {}, "heat", wavelet),
    "tv": ("tv", {}, "heat", tv),
}
SCENES = {"heat": infrared_visible, "focus": multi_focus, "exposure": multi_exposure}


def sources_of(scene: str, size: tuple[int, int]) -> Sources:
    """Grey sources of one made scene, the second the reference."""
    lumas = []
    for image in SCENES[scene](size):
        array = np.asarray(image, dtype=np.float32)
        lumas.append(torch.from_numpy(array if array.ndim == 2 else array.mean(-1))[None, None].contiguous())
    return Sources(tuple(lumas), tuple(lumas), reference=1)


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    global WORKERS  # noqa: PLW0603  the forms are plain functions of images
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("priors", nargs="*", help="of these only")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(768, 1024), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    WORKERS = arguments.threads
    torch.set_num_threads(WORKERS)
    cv2.setNumThreads(WORKERS)
    big = torch.rand(8, 1024, 1024)
    out = torch.empty_like(big)
    copy = statistics.median(timed(lambda: out.copy_(big)) for _ in range(15))
    bandwidth = 2 * big.numel() * 4 / copy / 1e6  # GB/s
    print(
        f"copy {bandwidth:.0f} GB/s; {arguments.size[1]}x{arguments.size[0]}, {WORKERS} threads, "
        f"medians of {arguments.runs}"
    )
    print(f"{'prior':20s} {'ours ms':>8s} {'other ms':>9s} {'ours/other':>10s} {'bound ms':>9s} {'apart':>8s}")
    for name, (prior, options, scene, other) in FORMS.items():
        if arguments.priors and prior not in arguments.priors:
            continue
        sources = sources_of(scene, tuple(arguments.size))
        plugin = Pipeline(prior=prior, prior_options=options, backbone="identity", device="cpu").prior
        arrays = [y[0, 0].numpy() for y in sources.luma]
        x0 = sources.luma[1]

        def ours(plugin: Any = plugin, sources: Sources = sources, x0: Any = x0) -> Any:
            with torch.inference_mode():
                return plugin.correct(x0, sources, plugin.start(sources), 0.0)[0]

        theirs = partial(other, arrays)
        apart = np.abs(ours()[0, 0].numpy() - np.asarray(theirs()).reshape(*arguments.size, -1)[..., 0]).mean()
        ours(), theirs()
        pairs = [(timed(ours), timed(theirs)) for _ in range(arguments.runs)]
        a, b = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratio = statistics.median(p[0] / p[1] for p in pairs)
        bound = 1e3 * (len(arrays) + 1) * x0.numel() * 4 / bandwidth / 1e9
        print(f"{name:20s} {a:8.1f} {b:9.1f} {ratio:10.2f} {bound:9.2f} {apart:8.4f}")


if __name__ == "__main__":
    main()
