"""PSNR of the shipped flow on photographs with white noise: one evaluation at the noise's own t, luma, full size.

    python benchmarks/denoise.py --images KODAK [--levels 15 25 50] [--weights rf-luma]

Luma in [0, 1], noise not clipped, from a generator of seed 1 for each level; the mean over images of the PSNR in dB,
and CPU seconds an image.
"""

import argparse
import time
from pathlib import Path

import torch

from fusionkit.flow.path import x0_from_velocity
from fusionkit.images.convert import to_tensor
from fusionkit.numerics.luma import luma
from fusionkit.reading import read_image
from fusionkit.training.data import list_images
from fusionkit_backbones.rf import RectifiedFlow, RFOptions


def main() -> None:
    """Print a row for each level."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--levels", type=float, nargs="+", default=[15, 25, 50], help="deviations, of 255")
    parser.add_argument("--weights", default=RFOptions().weights)
    options = parser.parse_args()
    flow = RectifiedFlow(RFOptions(weights=options.weights))
    flow.prepare()
    images = [luma(to_tensor(read_image(path).pixels)) for path in list_images([options.images])]
    print(f"{len(images)} images, {options.weights}\n\n| noise | PSNR, dB | CPU seconds an image |\n|---|---|---|")
    for level in options.levels:
        generator = torch.Generator().manual_seed(1)
        s = 2 * level / 255
        t = s / (1 + s)
        found, start = [], time.process_time()
        for image in images:
            x0 = 2 * image - 1
            x = (1 - t) * (x0 + s * torch.randn(x0.shape, generator=generator))
            with torch.inference_mode():
                clean = x0_from_velocity(x, flow.velocity(x, torch.tensor([t])), t)
            found.append(-10 * float(((clean - x0) / 2).square().mean().log10()))
        seconds = (time.process_time() - start) / len(images)
        print(f"| {level:g} | {sum(found) / len(found):.2f} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
