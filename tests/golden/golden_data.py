"""Reading reference arrays: NAME.npz beside NAME.json, weights in NAME.weights.npz. See README.md."""

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusionkit_backbones.ncsnpp import NCSNpp, NCSNppConfig
from fusionkit_reproductions.vq.config import VQConfig
from fusionkit_reproductions.vq.network import VQModel

FOLDER = Path(os.environ.get("FUSIONKIT_GOLDEN") or Path(__file__).with_name("data"))
PACKED = "__packed__"


class Golden:
    """One reference case: its configuration and arrays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def info(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    @property
    def config(self) -> dict[str, Any]:
        return self.info["config"]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path.with_suffix(".npz")) as stored:
            return dict(stored)

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def __contains__(self, name: str) -> bool:
        return name in self.arrays


def cases(pattern: str) -> list[Any]:
    """All cases whose JSON matches `pattern`, as parameters of a test; a skipped one where there are none."""
    found = [p for p in sorted(FOLDER.glob(pattern)) if ".weights" not in p.name and p.with_suffix(".npz").exists()]
    skipped = pytest.param(None, marks=pytest.mark.skip(reason=f"no reference arrays {pattern} in {FOLDER}"))
    return [pytest.param(Golden(p), id=p.stem) for p in found] or [skipped]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by state-dict name."""
    with np.load(path) as stored:
        arrays = dict(stored)
    if PACKED in arrays:
        bits = arrays["high"].astype(np.uint32) << 24 | arrays["low"].astype(np.uint32) << 16
        values, start = bits.view(np.float32), 0
        whole = {k: v for k, v in arrays.items() if k not in (PACKED, "high", "low")}
        arrays = {}
        for name, shape in json.loads(str(stored_text(path))):
            size = int(np.prod(shape))
            if name in whole:
                arrays[name] = whole[name]
            else:
                arrays[name] = values[start : start + size].reshape(shape)
                start += size
    return {k: torch.from_numpy(np.array(v)).float() for k, v in arrays.items()}


def stored_text(path: Path) -> str:
    with np.load(path) as stored:
        return str(stored[PACKED])


def load_strictly(module: torch.nn.Module, path: Path) -> None:
    """Weights into a module; `sigmas` may be left out, the network computes it."""
    weights = read_weights(path)
    own = module.state_dict()
    if "sigmas" in own and "sigmas" not in weights:
        weights["sigmas"] = own["sigmas"]
    module.load_state_dict(weights)


def ncsnpp(config: dict[str, Any], weights: Path) -> NCSNpp:
    flat = {**config["data"], **config["model"]}
    network = NCSNpp(NCSNppConfig(**{k: v for k, v in flat.items() if k in NCSNppConfig.model_fields})).eval()
    load_strictly(network, weights)
    return network.requires_grad_(False)


def vq_model(config: dict[str, Any], weights: Path) -> VQModel:
    model = VQModel(VQConfig.from_published(config)).eval()
    load_strictly(model, weights)
    return model.requires_grad_(False)


def deviation(ours: torch.Tensor, golden: torch.Tensor) -> float:
    """Largest difference over the largest golden value."""
    assert ours.shape == golden.shape
    return float((ours.double() - golden.double()).abs().max() / golden.double().abs().max().clamp_min(1e-30))
