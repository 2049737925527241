"""The networks: how near they come to what convolutions reach here, and how they compare with the released form.

    python benchmarks/networks.py [--size HEIGHT WIDTH] [--threads N] [--runs N] [rf] [ncsnpp] [vq]

Peak: the best rate of PyTorch's 3x3 convolutions of 64 and 128 channels in each arithmetic. A network's share is its
own rate (operations as its definition has them, over seconds) over that peak; Winograd's algorithm does fewer. Released
form: layout, resampling (zero insertion, then a dense convolution) and attention (the whole matrix of scores) of the
code of RFfusion and VQGAN, float32. Full published sizes, random weights. Medians, all forms in turn, after a run to
warm up.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from speed import downsample_textbook, upsample_textbook
from torch import Tensor

from fusionkit.bench import convolution_peak, operations
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.precision import arithmetic
from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig, blocks
from fusionkit_backbones.rf import RectifiedFlow, RFOptions
from fusionkit_reproductions.vq.config import VQConfig
from fusionkit_reproductions.vq.decoder import VQDecoder, VQOptions
from fusionkit_reproductions.vq.network import VQModel


def seconds(functions: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Medians of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(runs + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if run:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def computed(precision: str, function: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with arithmetic(torch.device("cpu"), precision):
            return function()

    return run


def forms(function: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """By convolution as it is defined, by Winograd's algorithm, in bfloat16."""
    names = {"float32": "float32", "winograd": "auto", "bfloat16": "bfloat16"}
    return {name: computed(precision, function) for name, precision in names.items()}


def peaks() -> dict[str, float]:
    """Operations a second of plain convolutions."""
    cpu = torch.device("cpu")
    return {"float32": convolution_peak(cpu, "float32"), "bfloat16": convolution_peak(cpu, "bfloat16")}


def attention_textbook(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bicd,bjcd->bij", q.movedim(1, -1), k.movedim(1, -1)) / q.shape[-1] ** 0.5
    return torch.einsum("bij,bjc->bic", scores.softmax(-1), v[:, 0])[:, None]


@contextmanager
def released() -> Any:
    """The form of the published code, inside."""
    with (
        patch.object(blocks, "upsample", upsample_textbook),
        patch.object(blocks, "downsample", downsample_textbook),
        patch.object(F, "scaled_dot_product_attention", attention_textbook),
    ):
        yield


def in_released_form(function: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with released():
            return function()

    return run


def report(name: str, flops: float, taken: dict[str, float], best: dict[str, float]) -> None:
    base = taken.get("released")
    for form, value in taken.items():
        peak = best["bfloat16" if form == "bfloat16" else "float32"]
        share, ratio = flops / value / peak, f"{base / value:6.2f}x" if base else "      -"
        print(f"{name:8s} {form:9s} {value:8.3f} s  {flops / value / 1e9:6.0f} GFLOP/s  {share:5.0%} of peak  {ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["rf", "ncsnpp", "vq"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(768, 1024), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    height, width = arguments.size
    torch.manual_seed(0)
    with torch.inference_mode():
        best = peaks()
        print(f"peak: {best['float32'] / 1e9:.0f} GFLOP/s float32, {best['bfloat16'] / 1e9:.0f} bfloat16")
        if "rf" in arguments.networks:
            rf, x, t = Pipeline(device="cpu").backbone, torch.rand(1, 1, height, width), torch.full((1,), 0.07)

            def field() -> Tensor:
                return rf.velocity(x, t)

            report("rf", operations(field), seconds(forms(field), arguments.runs), best)
        if "ncsnpp" in arguments.networks:
            plain = NCSNpp(NCSNppConfig()).eval()
            ours = RectifiedFlow(RFOptions(), NCSNpp(NCSNppConfig()))
            z, time_ = torch.randn(1, 3, height // 4, width // 4), torch.full((1,), 0.5)

            def flow() -> Tensor:
                return ours.velocity(z, time_)

            every = {"released": in_released_form(lambda: plain(z, 999 * time_)), **forms(flow)}
            report("ncsnpp", operations(flow), seconds(every, max(1, arguments.runs // 2)), best)
        if "vq" in arguments.networks:
            plain = VQModel(VQConfig()).eval()
            ours = VQDecoder(VQOptions(), VQModel(VQConfig()))
            image = torch.rand(1, 3, height // 2, width // 2)

            def both() -> Tensor:
                return ours.decode(ours.encode(image), (image.shape[-2], image.shape[-1]))

            published = in_released_form(lambda: plain.decode(plain.encode_to_prequant(2 * image - 1)))
            taken = seconds({"released": published, **forms(both)}, max(1, arguments.runs // 2))
            report("vq", operations(both), taken, best)


if __name__ == "__main__":
    main()
