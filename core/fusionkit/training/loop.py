"""One training loop for every trainable plug-in: Adam or Muon, a schedule, EMA, checkpoints that resume exactly."""

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import OptionError, OutputError, WeightsError
from ..storage.atomic import atomic_write
from .data import CropSampler, PairSampler
from .muon import Muon
from .options import TrainOptions

__all__ = ["Trainer", "averaged", "train"]


class Trainer(ABC):
    """What a plug-in adds to the loop: its module, what it learns from, its loss, its validation, its file format.

    Constructed with (options, decoder); `decoder` is None unless `wants_decoder`. A trainer owns its data and its
    device: `open` reads the data, `to` moves what computes.
    """

    module: nn.Module
    device: torch.device = torch.device("cpu")
    data: Any = None
    paired: bool = False

    @classmethod
    def wants_decoder(cls, options: Any) -> bool:
        """Whether a trainer with these options learns from what a decoder encodes."""
        return False

    @classmethod
    def learns_from(cls, options: Any) -> tuple[Literal["images", "pairs"], ...]:
        """What a trainer with these options can learn from."""
        return ("images",)

    def open(self, folders: Sequence[Path], options: TrainOptions, paired: bool = False) -> None:
        """Read the data: single images, or registered ones of the same names in several folders, the reference last.

        `data` has the paths to train on and `held_out_paths` for the record.
        """
        self.paired = paired
        self.data = (PairSampler if paired else CropSampler)(folders, options)

    def to(self, device: torch.device) -> None:
        """Compute on `device`."""
        self.device = device
        self.module.to(device)

    def batch(self, options: TrainOptions, generator: torch.Generator) -> Any:
        """What `loss` is given at one step."""
        drawn = self.data.batch(options.batch, options.crop, generator)
        return tuple(x.to(self.device) for x in drawn) if self.paired else drawn.to(self.device)

    @property
    def held_out(self) -> Any:
        """What `validate` and `export` are given: images, or tuples of them."""
        return [tuple(x.to(self.device) for x in s) if self.paired else s.to(self.device) for s in self.data.held_out]

    @abstractmethod
    def loss(self, batch: Any, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """A batch, images (B, 3, H, W) in [0, 1] or from pairs a tuple of them -> (the loss, named figures to log)."""

    def state(self) -> dict[str, Any]:
        """What else a checkpoint must hold for the run to continue exactly: tensors, numbers, lists of them."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027  nothing to take up is a complete answer
        """Take up `state` again."""

    @abstractmethod
    def validate(self, module: nn.Module, held_out: Any) -> dict[str, float]:
        """Figures of `module` (the averaged weights) on what was held out, by default images (1, 3, H, W) in [0, 1]."""

    @abstractmethod
    def export(self, module: nn.Module, held_out: Any, path: Path, provenance: dict[str, Any]) -> None:
        """Write the averaged weights where the plug-in finds them; `provenance` goes into the JSON."""


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """Exponential average of a module, decay min(decay, (1 + n) / (10 + n)) at the n-th update (Song et al., 2021)."""

    def update(average: Any, current: Any, count: Any) -> None:
        n = int(count) + 1  # the first update copies and does not come here
        torch._foreach_lerp_(average, current, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


def learning_rate(step: int, options: TrainOptions) -> float:
    """Linear warm-up, then half a cosine, or a line, down to zero."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    progress = min(1.0, (step - options.warmup) / max(1, options.steps - options.warmup))
    return options.lr * (1 - progress if options.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    trainer: Trainer,
    folder: Path,
    options: TrainOptions,
    settings: dict[str, Any],
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Path:
    """Train on the trainer's data until `options.steps`, continuing from `folder/checkpoint.pt` if there is one.

    Writes `log.jsonl`, `checkpoint.pt` (module, average, optimiser, random state) and at the end
    `folder.name.safetensors`; a run that is interrupted and started again computes what an uninterrupted one
    would. `settings` are recorded, and must be the same when a run is continued. `report` receives each log row.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder: {error.strerror}") from None
    log = folder / "log.jsonl"
    module = trainer.module
    average = averaged(module, options.ema)
    kind = Muon if options.optimizer == "muon" else torch.optim.Adam
    optimizer = kind(module.parameters(), lr=options.lr)
    generator = torch.Generator().manual_seed(options.seed)
    recorded = json.dumps(settings, sort_keys=True)
    checkpoint = _Checkpoint(folder / "checkpoint.pt", recorded, trainer, average, optimizer, generator)
    step, seen = checkpoint.load()

    started, last, held_out = time.monotonic(), step, dict[str, float]()
    while step < options.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        module.train()
        loss, figures = trainer.loss(trainer.batch(options, generator), step, generator)
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
                held_out = trainer.validate(average.module, trainer.held_out)
            rate = (step - last) / (time.monotonic() - started)
            row = {
                "step": step,
                **_rounded(seen),
                **{f"held_out_{k}": v for k, v in _rounded(held_out).items()},
                "steps_per_second": round(rate, 3),
            }
            checkpoint.save(step, seen)
            with log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
            report(row)
            started, last = time.monotonic(), step

    average.eval()
    path = folder / f"{folder.name}.safetensors"
    with torch.inference_mode():
        figures = held_out or trainer.validate(average.module, trainer.held_out)  # a finished run has none of its own
        trainer.export(average.module, trainer.held_out, path, {"training": settings, "held_out": _rounded(figures)})
    return path


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {k: float(f"{v:.5g}") for k, v in figures.items()}


@dataclass(frozen=True)
class _Checkpoint:
    """Everything that a run continues from."""

    path: Path
    settings: str
    trainer: Trainer
    average: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    def save(self, step: int, seen: dict[str, float]) -> None:
        state = {
            "step": step,
            "seen": seen,
            "settings": self.settings,
            "trainer": self.trainer.state(),
            "module": self.trainer.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def load(self) -> tuple[int, dict[str, float]]:
        """Restore, and return the step and the figures' running means; 0 when there is nothing to continue."""
        if not self.path.exists():
            return 0, {}
        try:
            state = torch.load(self.path, weights_only=True, map_location=self.trainer.device)
            settings, step, seen = state["settings"], int(state["step"]), dict(state["seen"])
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{self.path}: cannot be read ({reason}); remove it to start again") from None
        if settings != self.settings:
            raise OptionError(f"{self.path}: was made with other options; use the same ones, or another `out` folder")
        self.trainer.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.trainer.load_state(state["trainer"])
        return step, seen
