"""The FFT solve and NCSN++'s resampling against the textbook forms, and em_tv's M-step by its quadratic, in pairs."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.poisson import halved_gradient
from fusionkit_backbones.ncsnpp.resampling import downsample, fir_kernel, upsample
from fusionkit_priors.em_tv import EMTV, EMTVOptions
from fusionkit_reproductions.em_tv_paper import prox_tv


def prox_tv_textbook(z: Tensor, f1: Tensor, f2: Tensor) -> Tensor:
    """Complex FFTs of the image, of both splitting variables and of both kernels, as published codes write it."""
    kernels = []
    for axis in (-1, -2):
        k = torch.zeros_like(z)
        k[..., 0, 0] = 1
        index = [0, 0]
        index[axis] = -1
        k[..., index[0], index[1]] = -1
        kernels.append(torch.fft.fft2(k))
    k1, k2 = kernels
    numerator = torch.fft.fft2(z) + k1.conj() * torch.fft.fft2(f1) + k2.conj() * torch.fft.fft2(f2)
    return torch.fft.ifft2(numerator / (1 + k1.abs() ** 2 + k2.abs() ** 2)).real


def upsample_textbook(x: Tensor, kernel: Tensor) -> Tensor:
    """Zero insertion, padding, then a dense convolution image by image (upfirdn2d in plain PyTorch)."""
    b, c, h, w = x.shape
    spread = x.reshape(b * c, 1, h, 1, w, 1)
    spread = F.pad(spread, (0, 1, 0, 0, 0, 1)).reshape(b * c, 1, 2 * h, 2 * w)
    return F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel[None, None]).view(b, c, 2 * h, 2 * w)


def downsample_textbook(x: Tensor, kernel: Tensor) -> Tensor:
    """A convolution at full size, then every second sample."""
    b, c, h, w = x.shape
    full = F.conv2d(F.pad(x.reshape(b * c, 1, h, w), (1, 1, 1, 1)), kernel[None, None])
    return full[..., ::2, ::2].reshape(b, c, h // 2, w // 2)


def m_steps(target: Tensor, x: Tensor, y: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """The minimum of em_tv's quadratic alone, and the whole M-step."""
    prior = EMTV(EMTVOptions())

    def quadratic() -> Tensor:
        fused = torch.empty_like(target)
        prior._solve(target, fused)
        return fused

    def whole() -> Tensor:
        fused = quadratic()
        coarse = torch.cat([F.avg_pool2d(target, 2, ceil_mode=True), *halved_gradient(x, y)], 1)
        prior._gather(coarse, target, [x, y], fused)
        return fused

    return quadratic, whole


def compare(name: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], runs: int) -> None:
    """Time both in turn and print the medians and the median ratio of the pairs."""
    difference = float((ours() - theirs()).abs().max())
    seconds: list[tuple[float, float]] = []
    for _ in range(runs):
        pair = []
        for function in (ours, theirs):
            start = time.perf_counter()
            function()
            pair.append(time.perf_counter() - start)
        seconds.append((pair[0], pair[1]))
    a, b = (1e3 * statistics.median(s[i] for s in seconds) for i in (0, 1))
    ratio = statistics.median(t / o for o, t in seconds)
    print(f"{name:22s} ours {a:7.2f} ms   textbook {b:7.2f} ms   ratio {ratio:5.2f}   difference {difference:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--size", type=int, nargs=2, default=(768, 1024), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    z, f1, f2 = (torch.randn(1, 1, *arguments.size, generator=generator) for _ in range(3))
    zero = torch.zeros_like(z)
    x = torch.randn(1, 64, 96, 128, generator=generator)
    up, down = fir_kernel((1, 3, 3, 1), 4.0), fir_kernel((1, 3, 3, 1))
    with torch.inference_mode():
        compare(
            "prox_tv, first step",
            lambda: prox_tv(z, None, None),
            lambda: prox_tv_textbook(z, zero, zero),
            arguments.runs,
        )
        compare("prox_tv, with state", lambda: prox_tv(z, f1, f2), lambda: prox_tv_textbook(z, f1, f2), arguments.runs)
        compare("FIR up by 2", lambda: upsample(x, up), lambda: upsample_textbook(x, up), arguments.runs)
        compare("FIR down by 2", lambda: downsample(x, down), lambda: downsample_textbook(x, down), arguments.runs)
        compare("em_tv: quadratic, TV", *m_steps(z, f1, f2), arguments.runs)


if __name__ == "__main__":
    main()
