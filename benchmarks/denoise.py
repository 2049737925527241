"""PSNR and CPU seconds of the shipped flow on photographs: one evaluation at white noise's own t, or a restoration.

    python benchmarks/denoise.py --images KODAK [--levels 15 25 50] [--weights rf-luma]
    python benchmarks/denoise.py --images PHOTOGRAPHS --size 768 1024 --degradation "blur:sigma=1.6 + noise:level=2.5"

Luma in [0, 1]; the mean over images of the PSNR in dB, and CPU seconds an image, on one thread. Noise is not clipped,
from a generator of seed 1 for each level, at full size or in the centre of --size. --degradation: made as an ablation
makes it, clipped, then undone by `restore` with these options and with different numbers of steps.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fusionkit import Pipeline
from fusionkit.contracts import Sources
from fusionkit.flow.path import x0_from_velocity
from fusionkit.images.convert import to_array, to_tensor
from fusionkit.method.degrade import degrade, known
from fusionkit.numerics.luma import luma
from fusionkit.reading import read_image
from fusionkit.timing import Stopwatch
from fusionkit.training.data import list_images
from fusionkit_backbones.rf import RectifiedFlow, RFOptions


def centre(image: Tensor, size: tuple[int, int] | None) -> Tensor:
    """The middle of an image, at most of this height and width."""
    height, width = image.shape[-2:]
    h, w = (min(height, size[0]), min(width, size[1])) if size else (height, width)
    return image[..., (height - h) // 2 : (height + h) // 2, (width - w) // 2 : (width + w) // 2]


def row(name: str, images: list[Tensor], degraded: list[Tensor], restored: Callable[[Tensor], Tensor]) -> None:
    """Print one row: mean PSNR, and CPU seconds an image."""
    start = time.process_time()
    errors = [(restored(y) - x).square().mean() for x, y in zip(images, degraded, strict=True)]
    seconds = (time.process_time() - start) / len(images)
    print(f"| {name} | {-10 * torch.stack(errors).log10().mean():.2f} | {seconds:.2f} |")


def by_level(images: list[Tensor], levels: list[float], weights: str) -> None:
    """A row for each level of white noise."""
    flow = RectifiedFlow(RFOptions(weights=weights))
    flow.prepare()
    for level in levels:
        generator = torch.Generator().manual_seed(1)
        s = 2 * level / 255
        t = s / (1 + s)

        def cleaned(y: Tensor, t: float = t) -> Tensor:
            x = (1 - t) * (2 * y - 1)
            return (x0_from_velocity(x, flow.velocity(x, torch.tensor([t])), t) + 1) / 2

        noisy = [x + level / 255 * torch.randn(x.shape, generator=generator) for x in images]
        row(f"{level:g}", images, noisy, cleaned)


def by_steps(images: list[Tensor], degradation: str, steps: list[int]) -> None:
    """A row for each number of steps of every restoration that has any; noise is undone in one."""
    degraded = [to_tensor(degrade(to_array(x), degradation, 0, str(i))) for i, x in enumerate(images)]
    row("degraded", images, degraded, lambda y: y)
    for count in steps:
        words = [one + f",steps={count}" * ("noise:" not in one) for one in known(degradation)]
        pipeline = Pipeline(restore=words, device="cpu")
        pipeline.backbone.prepare()
        row(str(count), images, degraded, lambda y: pipeline.restorer(Sources.of([y]), Stopwatch())[0].luma[0])  # noqa: B023


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="cut from the centre")
    parser.add_argument("--levels", type=float, nargs="+", default=[15, 25, 50], help="deviations, of 255")
    parser.add_argument("--weights", default=RFOptions().weights)
    parser.add_argument("--degradation", help="instead of noise, in words of an ablation")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 5, 8])
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = [centre(luma(to_tensor(read_image(path).pixels)), options.size) for path in list_images(options.images)]
    what = options.degradation or options.weights
    print(f"{len(images)} images, {what}\n\n| {'steps' if options.degradation else 'noise'} | PSNR, dB | CPU s |")
    print("|---" * 3 + "|")
    with torch.inference_mode():
        if options.degradation:
            by_steps(images, options.degradation, options.steps)
        else:
            by_level(images, options.levels, options.weights)


if __name__ == "__main__":
    main()
