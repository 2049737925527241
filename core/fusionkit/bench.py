"""How fast a method is on this machine, by a stated protocol."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .memory import peak_memory_mb
from .method.pipeline import Pipeline
from .numerics.precision import cleans_in_bfloat16
from .numerics.window import gaussian_blur
from .scenes import infrared_visible
from .timing import Stopwatch

__all__ = ["PROTOCOL", "Measured", "convolution_peak", "measure"]

PROTOCOL = (
    "A made infrared and visible pair, the visible one in colour, as tensors on the device; files are not read or "
    "written. Clean: its own noise blurred away; noisy: white noise of 20 levels on both, so that every plane is "
    "cleaned. One run to warm up, then the median of the others; a run fuses one batch. Stages are timed in a run "
    "of their own, in which the device is waited for. Peak: 3x3 convolutions of 64 and 128 channels, channels last, "
    "in the arithmetic of the networks; the share is the networks' operations over their seconds and that peak. "
    "Memory: of the process, or what PyTorch took of a GPU."
)
NOISE = 20 / 255
NETWORKS = ("restore", "velocity", "encode", "decode")  # stages that are little else


@dataclass(frozen=True)
class Measured:
    """images: a second. seconds: of one batch. stages: seconds each, of one batch. share: of the peak that the networks
    reach, None where none runs. memory: MB.
    """

    sources: str
    images: float
    seconds: float
    stages: dict[str, float]
    share: float | None
    memory: float | None


def measure(pipeline: Pipeline, size: tuple[int, int], batch: int, runs: int) -> Iterator[Measured]:
    """Clean sources, then noisy ones, of (height, width), so many at once."""
    device, settled = pipeline.device, _settled(pipeline.device)
    clean = [gaussian_blur(_tensor(image, batch).to(device), 1.5) for image in infrared_visible(size)]
    generator = torch.Generator().manual_seed(0)
    noisy = [(y + NOISE * torch.randn(y.shape, generator=generator).to(device)).clamp(0, 1) for y in clean]
    fast = cleans_in_bfloat16(pipeline.sampler.options.precision, device)
    peak = convolution_peak(device, bfloat16=fast)
    for name, sources in (("clean", clean), ("noisy", noisy)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

        def run(sources: list[Tensor] = sources) -> object:
            return pipeline.run(sources)

        seconds = median_seconds(run, runs, settled)
        watch = Stopwatch(settled)
        pipeline.run(sources, watch=watch)
        operations, spent = _operations(run), sum(watch.seconds.get(stage, 0.0) for stage in NETWORKS)
        yield Measured(
            name,
            batch / seconds,
            seconds,
            watch.rounded(),
            operations / spent / peak if spent and operations else None,
            torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_memory_mb(),
        )


def convolution_peak(device: torch.device, *, bfloat16: bool) -> float:
    """Operations a second of plain convolutions, the best of two sizes."""
    kind, best = torch.bfloat16 if bfloat16 else torch.float32, 0.0
    side = 1024 if device.type == "cuda" else 192
    for channels in (64, 128):
        layout: Any = {"memory_format": torch.channels_last}
        convolution: Any = nn.Conv2d(channels, channels, 3, padding=1)
        convolution = convolution.to(device, kind).to(**layout)
        x = torch.rand(1, channels, side, side, device=device).to(kind).contiguous(**layout)
        with torch.inference_mode():
            seconds = median_seconds(lambda c=convolution, x=x: c(x), 10, _settled(device))  # type: ignore[misc]
        best = max(best, 2 * 9 * channels**2 * side**2 / seconds)
    return best


def median_seconds(function: Callable[[], object], runs: int, settled: Callable[[], object]) -> float:
    """Of so many calls after one that warms up."""
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


def _operations(run: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def _tensor(image: Any, batch: int) -> Tensor:
    return torch.from_numpy(image).float().movedim(-1, 0)[None].repeat(batch, 1, 1, 1)
