"""How far each departure of the released RFfusion from its paper moves the result, in grey levels.

    python benchmarks/released_effects.py                           # procedural pairs, small random networks
    python benchmarks/released_effects.py --pairs IR_DIR VIS_DIR --weights rf-celebahq rffusion-vq --size 768x1024

Each row changes one choice of the preset rffusion-released and compares with the preset as it stands: mean over pairs
of the mean absolute difference, the largest difference, and the share of pixels that change at all. Random networks
are enough to see what a network contributes: what does not pass through it cannot change when it is exchanged.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.method.choice import merge_choices
from fusionkit.method.config import make_config
from fusionkit.method.pipeline import Pipeline
from fusionkit.method.presets import load_preset
from fusionkit.reading import read_image
from fusionkit.reading.matching import match_folders
from fusionkit.scenes import infrared_visible
from fusionkit.weights import save_weights
from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_reproductions.vq.config import DDConfig, VQConfig
from fusionkit_reproductions.vq.network import VQModel

SILENT = {"backbone": "identity", "backbone_options": {"estimate": "zeros"}}
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("network's output replaced by zeros", SILENT),
    ("network given the visible image's own latent back", {"backbone": "identity"}),
    ("network's input not shifted by 2x - 1", {"backbone_options": {"centered": True}}),
    ("velocity integrated instead of decoded", {"backbone_options": {"output": "velocity"}}),
    ("codebook not used", {"decoder_options": {"quantize": "none"}}),
    ("estimate divided by 255 once", {"prior_options": {"x0_gain": 1 / 255}}),
    ("estimate not divided by 255", {"prior_options": {"x0_gain": 1.0}}),
    ("decoded visible image left out of the sum", {"sampler": {"solver": "euler", "gain": 1.0}}),
    ("F added as it is, not 255 F", {"sampler": {"gain": 1.0}}),
    ("F = V + X instead of I - X", {"prior_options": {"recompose": "v_plus_x"}}),
    ("EM on [0, 1] instead of [-1, 1]", {"prior_options": {"signal": "unit"}}),
    ("EM in its corrected form", {"prior_options": {"form": "corrected"}}),
    ("visible luma not rounded", {"luma": "exact"}),
    ("the pair's own size", {"working_size": None}),
    ("rounded instead of cut", {"levels": "all"}),
    ("no stretch: (F + 1) / 2", {"stretch": "none", "sampler": {"solver": "euler", "gain": 1.0}}),
]


def random_weights(folder: Path) -> dict[str, dict[str, str]]:
    """Small networks with large random weights, so that what they say is loud."""
    torch.manual_seed(0)
    network = NCSNpp(NCSNppConfig(image_size=256, nf=16, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(64,)))
    networks = DDConfig(ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, attn_type="none")
    autoencoder = VQModel(VQConfig(n_embed=64, ddconfig=networks))
    for parameter in [*network.parameters(), *autoencoder.parameters()]:
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter.data)
    autoencoder.quantize.embedding.weight.data.normal_()
    for name, module in (("rf", network), ("vq", autoencoder)):
        info = {"architecture": module.config.model_dump(), "domain": "any", "decoder": "identity"}
        save_weights(folder / f"{name}.safetensors", module.state_dict(), info)
    return weights(str(folder / "rf.safetensors"), str(folder / "vq.safetensors"))


def weights(backbone: str, decoder: str) -> dict[str, dict[str, str]]:
    return {"backbone_options": {"weights": backbone}, "decoder_options": {"weights": decoder}}


def pairs(folders: list[Path] | None, limit: int) -> Iterator[list[np.ndarray]]:
    if folders is None:
        for seed in range(limit):
            yield [(255 * image + 0.5).astype(np.uint8) for image in infrared_visible((180, 260), seed=seed)]
        return
    for files in match_folders(folders).groups[:limit]:
        yield [(255 * read_image(path).pixels + 0.5).astype(np.uint8) for path in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs=2, type=Path, metavar=("IR", "VIS"))
    parser.add_argument("--weights", nargs=2, metavar=("BACKBONE", "DECODER"))
    parser.add_argument("--size", default="240x320")
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of rows, from 0")
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    images = list(pairs(arguments.pairs, arguments.limit))
    with tempfile.TemporaryDirectory() as folder:
        own = weights(*arguments.weights) if arguments.weights else random_weights(Path(folder))
        base = merge_choices(load_preset("rffusion-released"), {**own, "working_size": (height, width)})
        released = fuse(base, images)
        print(f"{'changed':<52} {'mean':>8} {'largest':>8} {'share':>8}   {len(images)} pairs, {arguments.size}")
        for number, (name, change) in enumerate(CHANGES):
            if arguments.only and number not in arguments.only:
                continue
            differences = [
                np.abs(a.astype(int) - b.astype(int))
                for a, b in zip(fuse(merge_choices(base, change), images), released, strict=True)
            ]
            mean = np.mean([d.mean() for d in differences])
            largest = max(d.max() for d in differences)
            share = np.mean([(d > 0).mean() for d in differences])
            print(f"{name:<52} {mean:8.4f} {largest:8d} {share:8.2%}", flush=True)


def fuse(choices: dict[str, Any], images: list[list[np.ndarray]]) -> list[np.ndarray]:
    pipeline = Pipeline(make_config(choices))
    return [pipeline.fuse(*pair) for pair in images]


if __name__ == "__main__":
    main()
