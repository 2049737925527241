"""PSNR of focus pairs to the picture that is in focus everywhere, which is known because the pairs are rendered.

    python benchmarks/focus.py --images KODAK [--rounds N]

IMAGES: photographs that nothing was trained on. Scenes are of the kind that `fusionkit train focus` sees, other ones:
two layers, defocused in linear light, the front one over its edge; of lumas, their middle 384x384, N scenes of each.
"worst": the mean of the worst tenth. CPU seconds are those of the prior.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from fusionkit.contracts import Sources
from fusionkit.images.convert import to_tensor
from fusionkit.method.pipeline import Pipeline
from fusionkit.numerics.luma import luma
from fusionkit.reading import read_image
from fusionkit.training.data import centre, list_images
from fusionkit_priors.focus_training import render

SIDE = 384
METHODS: dict[str, dict[str, Any]] = {
    "em_tv": {"prior": "em_tv", "prior_options": {"evidence": "focus"}},
    "em_tv focus_weights=none": {"prior": "em_tv", "prior_options": {"evidence": "focus", "focus_weights": "none"}},
    **{name: {"prior": name} for name in ("focus", "guided_filter", "laplacian", "average")},
}


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    images = [centre(luma(to_tensor(read_image(path).pixels)), SIDE) for path in list_images([options.images])]
    generator = torch.Generator().manual_seed(1)
    scenes = [render(torch.cat(images), generator) for _ in range(options.rounds)]
    count = len(images) * options.rounds
    print(f"{count} pairs of {SIDE}x{SIDE}\n\n| prior | PSNR, dB | worst | CPU seconds a pair |\n|---|---|---|---|")
    for name, choices in METHODS.items():
        prior = Pipeline(device="cpu", **choices).prior
        found, seconds = [], 0.0
        for scene in scenes:
            for b in range(len(images)):
                lumas = tuple(scene.sources[:2, b : b + 1])
                sources, start = Sources(lumas, lumas), time.process_time()
                with torch.inference_mode():
                    fused, _ = prior.correct(lumas[-1], sources, prior.start(sources), 0.0)
                seconds += time.process_time() - start
                found.append(-10 * float((fused - scene.sharp[b]).square().mean().log10()))
        found.sort()
        worst = found[: max(1, count // 10)]
        print(f"| `{name}` | {sum(found) / count:.2f} | {sum(worst) / len(worst):.2f} | {seconds / count:.3f} |")


if __name__ == "__main__":
    main()
