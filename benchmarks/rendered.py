"""PSNR of focus pairs or exposures to the picture wanted of them, which is known because they are rendered.

    python benchmarks/rendered.py focus|exposure --images KODAK [--rounds N]

IMAGES: photographs that nothing was trained on. Scenes are of the kind that `fusionkit train focus | exposure` sees,
other ones, of lumas, their middle 384x384, N scenes of each; of exposures each has another brightness that would do, so
the PSNR is also given with the result's mean and deviation made those of the wanted picture. "worst": the mean of the
worst tenth. CPU seconds are those of the prior.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusionkit.contracts import Sources
from fusionkit.images.convert import to_tensor
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.luma import luma
from fusionkit.reading import read_image
from fusionkit.training.data import centre, list_images
from fusionkit_priors import exposure_training, focus_training

SIDE = 384
RENDER = {"focus": focus_training.render, "exposure": exposure_training.render}
OTHERS = {
    "focus": ("focus", "guided_filter", "laplacian", "average"),
    "exposure": ("mertens", "guided_filter", "laplacian", "average"),
}


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=RENDER)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    kind, without = options.kind, f"{options.kind}_weights"
    methods: dict[str, dict[str, Any]] = {
        "em_tv": {"prior": "em_tv", "prior_options": {"evidence": kind}},
        f"em_tv {without}=none": {"prior": "em_tv", "prior_options": {"evidence": kind, without: "none"}},
        **{name: {"prior": name} for name in OTHERS[kind]},
    }
    images = [centre(luma(to_tensor(read_image(path).pixels)), SIDE) for path in list_images([options.images])]
    generator = torch.Generator().manual_seed(1)
    scenes = [RENDER[kind](torch.cat(images), generator) for _ in range(options.rounds)]
    count = len(images) * options.rounds
    print(f"{count} pairs of {SIDE}x{SIDE}\n")
    print("| prior | PSNR, dB | worst | toned alike | CPU seconds |\n|---|---|---|---|---|")
    for name, choices in methods.items():
        prior = Pipeline(device="cpu", **choices).prior
        found, alike, seconds = [], [], 0.0
        for scene in scenes:
            for b in range(len(images)):
                lumas = tuple(scene.sources[:, b : b + 1])
                sources, start = Sources(lumas, lumas), time.process_time()
                with torch.inference_mode():
                    fused, _ = prior.correct(lumas[-1], sources, prior.start(sources), 0.0)
                seconds += time.process_time() - start
                wanted = scene.wanted[b]
                found.append(_psnr(fused[0], wanted))
                scaled = (fused[0] - fused.mean()) * (wanted.std() / fused.std().clamp_min(1e-3)) + wanted.mean()
                alike.append(_psnr(scaled, wanted))
        found.sort()
        worst = found[: max(1, count // 10)]
        row = (sum(found) / count, sum(worst) / len(worst), sum(alike) / count)
        print(f"| `{name}` | {row[0]:.2f} | {row[1]:.2f} | {row[2]:.2f} | {seconds / count:.3f} |")


def _psnr(image: Tensor, wanted: Tensor) -> float:
    return -10 * float((image - wanted).square().mean().log10())


if __name__ == "__main__":
    main()
