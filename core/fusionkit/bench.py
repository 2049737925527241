"""Speed of a method on this machine, by a stated protocol."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from .memory import peak_memory_mb
from .method.pipeline import Pipeline
from .numerics.layers import Convolution
from .numerics.precision import arithmetic, cleans_in_bfloat16
from .numerics.private import winograd_operator
from .numerics.window import gaussian_blur
from .scenes import infrared_visible
from .timing import Stopwatch

PROTOCOL = (
    "A rendered infrared and visible pair, the visible one in colour, as tensors on the device; no file is read or "
    "written. Clean: its noise blurred away; noisy: white noise of 20 levels on both, so that every plane is cleaned. "
    "One run to warm up, then the median of the others; a run fuses one batch. Stages are timed in a separate run that "
    "waits for the device. Peak: 3x3 convolutions of 64 and 128 channels in the arithmetic of the networks, by the "
    "fastest algorithm; the share is the networks' operations over their seconds and that peak; multiplications that "
    "Winograd's algorithm saves count as done. Memory: of the process, or PyTorch's on a GPU."
)
NOISE = 20 / 255
NETWORKS = ("restore", "velocity", "encode", "decode")  # stages that consist of networks


@dataclass(frozen=True)
class Measured:
    """Images per second; seconds per batch, in all and by stage; memory in MB.

    share: the networks' share of the peak, None where none runs.
    """

    sources: str
    images: float
    seconds: float
    stages: dict[str, float]
    share: float | None
    memory: float | None


def measure(pipeline: Pipeline, size: tuple[int, int], batch: int, runs: int) -> Iterator[Measured]:
    """Measure batches of clean sources, then of noisy ones, of size (height, width)."""
    device, settled = pipeline.device, _settled(pipeline.device)
    clean = [gaussian_blur(_tensor(image, batch).to(device), 1.5) for image in infrared_visible(size)]
    generator = torch.Generator().manual_seed(0)
    noisy = [(y + NOISE * torch.randn(y.shape, generator=generator).to(device)).clamp(0, 1) for y in clean]
    peak = convolution_peak(device, pipeline.sampler.options.precision)
    for name, sources in (("clean", clean), ("noisy", noisy)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

        run = partial(pipeline.run, sources)
        seconds = median_seconds(run, runs, settled)
        watch = Stopwatch(settled)
        pipeline.run(sources, watch=watch)
        done, spent = operations(run), sum(watch.seconds.get(stage, 0.0) for stage in NETWORKS)
        yield Measured(
            name,
            batch / seconds,
            seconds,
            watch.rounded(),
            done / spent / peak if spent and done else None,
            torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_memory_mb(),
        )


def convolution_peak(device: torch.device, precision: str) -> float:
    """Operations per second of convolutions: the best of two widths and two memory formats."""
    kind, best = torch.bfloat16 if cleans_in_bfloat16(precision, device) else torch.float32, 0.0
    side = 1024 if device.type == "cuda" else 192
    for channels, layout in product((64, 128), (torch.channels_last, torch.contiguous_format)):
        convolution = Convolution(channels, channels, 3, padding=1).to(device, kind)
        x = torch.rand(1, channels, side, side, device=device).to(kind).contiguous(memory_format=layout)
        with torch.no_grad(), arithmetic(device, precision):
            seconds = median_seconds(partial(convolution, x), 10, _settled(device))
        best = max(best, 2 * 9 * channels**2 * side**2 / seconds)
    return best


def median_seconds(function: Callable[[], object], runs: int, settled: Callable[[], object]) -> float:
    """Median seconds of `runs` calls after one that warms up."""
    function()
    taken = []
    for _ in range(runs):
        watch = Stopwatch(settled)
        with watch.stage(""):
            function()
        taken.append(watch.seconds[""])
    return statistics.median(taken)


def _settled(device: torch.device) -> Callable[[], object]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device.type == "mps" else lambda: None


def operations(run: Callable[[], object]) -> float:
    """Floating-point operations of the networks in a run, by their definition, not by the algorithm."""
    from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

    def convolution(x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
        return conv_flop_count(x, weight, out_shape)

    uncounted = winograd_operator()  # PyTorch's counter does not know it
    with FlopCounterMode(display=False, custom_mapping={uncounted: convolution} if uncounted else {}) as counter:
        run()
    return float(counter.get_total_flops())


def _tensor(image: Any, batch: int) -> Tensor:
    return torch.from_numpy(image).float().movedim(-1, 0)[None].repeat(batch, 1, 1, 1)
