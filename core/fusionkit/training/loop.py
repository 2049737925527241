"""One training loop for every trainable plug-in: Adam, cosine schedule, EMA, checkpoints that resume exactly."""

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..atomic import atomic_write
from ..errors import OptionError, WeightsError
from .data import CropSampler
from .options import TrainOptions

__all__ = ["Trainer", "train"]


class Trainer(ABC):
    """What a plug-in adds to the loop: its module, its loss, its validation and its file format.

    Constructed with (options, decoder); `decoder` is None unless `needs_decoder`.
    """

    needs_decoder: bool = False
    module: nn.Module

    @abstractmethod
    def loss(self, images: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """images (B, 3, H, W) in [0, 1] -> (the loss, named figures for the log)."""

    @abstractmethod
    def validate(self, module: nn.Module, images: Sequence[Tensor]) -> dict[str, float]:
        """Figures of `module` (the averaged weights) on held-out images, each (1, 3, H, W) in [0, 1]."""

    @abstractmethod
    def export(self, module: nn.Module, images: Sequence[Tensor], path: Path, provenance: dict[str, Any]) -> None:
        """Write the averaged weights where the plug-in finds them; `provenance` goes into the JSON."""


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    def update(averaged: Any, current: Any, count: Any) -> None:
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


def learning_rate(step: int, options: TrainOptions) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    progress = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(
    trainer: Trainer,
    data: CropSampler,
    folder: Path,
    options: TrainOptions,
    settings: dict[str, Any],
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Path:
    """Train until `options.steps`, continuing from `folder/checkpoint.pt` if there is one.

    Writes `log.jsonl`, `checkpoint.pt` (module, average, optimiser, random state) and at the end
    `folder.name.safetensors`; a run that is interrupted and started again computes what an uninterrupted one
    would. `settings` are recorded, and must be the same when a run is continued. `report` receives each log row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / "checkpoint.pt", folder / "log.jsonl"
    module = trainer.module
    average = _averaged(module, options.ema)
    optimizer = torch.optim.Adam(module.parameters(), lr=options.lr)
    generator = torch.Generator().manual_seed(options.seed)
    step = _resume(checkpoint, module, average, optimizer, generator, settings)

    started, last, seen = time.monotonic(), step, dict[str, float]()
    while step < options.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        module.train()
        loss, figures = trainer.loss(data.batch(options.batch, options.crop, generator), step, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(module)
        step += 1
        for name, value in figures.items():
            seen[name] = seen.get(name, value) * 0.98 + value * 0.02
        if step % options.validate_every == 0 or step == options.steps:
            average.eval()
            with torch.inference_mode():
                held_out = trainer.validate(average.module, data.held_out)
            rate = (step - last) / (time.monotonic() - started)
            row = {"step": step, **_rounded(seen), **{f"held_out_{k}": v for k, v in _rounded(held_out).items()},
                   "steps_per_second": round(rate, 3)}  # fmt: skip
            _save(checkpoint, module, average, optimizer, generator, settings, step)
            with log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
            report(row)
            started, last = time.monotonic(), step

    average.eval()
    path = folder / f"{folder.name}.safetensors"
    with torch.inference_mode():
        figures = trainer.validate(average.module, data.held_out)
        trainer.export(average.module, data.held_out, path, {"training": settings, "held_out": _rounded(figures)})
    return path


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {k: float(f"{v:.5g}") for k, v in figures.items()}


def _save(
    path: Path,
    module: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    settings: dict[str, Any],
    step: int,
) -> None:
    state = {"step": step, "settings": json.dumps(settings, sort_keys=True), "module": module.state_dict(),
             "average": average.state_dict(), "optimizer": optimizer.state_dict(),
             "generator": generator.get_state()}  # fmt: skip
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def _resume(
    path: Path,
    module: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    settings: dict[str, Any],
) -> int:
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path}: cannot be read ({error}): remove it to start again") from None
    if state["settings"] != json.dumps(settings, sort_keys=True):
        raise OptionError(f"{path}: was made with other options; use the same ones, or another --out folder")
    module.load_state_dict(state["module"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    return int(state["step"])
