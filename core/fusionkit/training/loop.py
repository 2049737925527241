"""One training loop for every trainable plug-in: Adam or Muon, a schedule, EMA, checkpoints that resume exactly."""

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import OptionError, OutputError, WeightsError
from ..numerics.private import average_into
from ..storage.atomic import atomic_write
from ..weights import save_weights
from .data import CropSampler, PairSampler
from .muon import Muon
from .options import TrainOptions


class Trainer(ABC):
    """A plug-in's part of the training: module, data, loss, validation, file format.

    Constructed with (options, decoder); `decoder` is None unless `wants_decoder`. A trainer owns its data and its
    device: `open` reads the data, `to` moves the module. kind: as in the weights' JSON, such as "prior mine". `export`
    needs it, and the architecture as `module.config`, a pydantic model.
    """

    kind: str = ""
    module: nn.Module
    device: torch.device = torch.device("cpu")
    data: Any = None
    paired: bool = False

    @classmethod
    def wants_decoder(cls, options: Any) -> bool:
        """Whether a trainer with these options learns from the latents of a decoder."""
        return False

    @classmethod
    def learns_from(cls, options: Any) -> tuple[Literal["images", "pairs"], ...]:
        """Return the kinds of data that a trainer with these options can learn from."""
        return ("images",)

    def open(self, folders: Sequence[Path], options: TrainOptions, paired: bool = False) -> None:
        """Read single images, or registered ones of the same names in several folders, the reference last.

        Their files are `data.paths`, to train on, and `data.held_out_paths`.
        """
        self.paired = paired
        self.data = (PairSampler if paired else CropSampler)(folders, options)

    def to(self, device: torch.device) -> None:
        """Compute on `device`."""
        self.device = device
        self.module.to(device)

    def batch(self, options: TrainOptions, generator: torch.Generator) -> Any:
        """Draw the data of one step, the first argument of `loss`."""
        drawn = self.data.batch(options.batch, options.crop, generator)
        return tuple(x.to(self.device) for x in drawn) if self.paired else drawn.to(self.device)

    @property
    def held_out(self) -> Any:
        """Data for `validate` and `export`: images, or tuples of them."""
        return [tuple(x.to(self.device) for x in s) if self.paired else s.to(self.device) for s in self.data.held_out]

    @abstractmethod
    def loss(self, batch: Any, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss of a batch, and named figures to log.

        batch: images (B, 3, H, W) in [0, 1], or a tuple of them, one for each folder of registered images.
        """

    def state(self) -> dict[str, Any]:
        """Return all state beside the module's: tensors, numbers, lists of them; with it a run continues exactly."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027  most trainers have no state
        """Restore what `state` returned."""

    @abstractmethod
    def validate(self, module: nn.Module, held_out: Any) -> dict[str, float]:
        """Measure `module`, the averaged weights, on held-out data, by default images (1, 3, H, W) in [0, 1]."""

    def usage(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """Return entries of the JSON that say how the network is used."""
        return {}

    def export(self, module: nn.Module, held_out: Any, path: Path, provenance: dict[str, Any]) -> None:
        """Write the averaged weights as float16, and a JSON of `kind`, the module's `config`, `usage`, `provenance`."""
        config: Any = module.config
        info = {"kind": self.kind, "architecture": config.model_dump(), **self.usage(provenance), **provenance}
        save_weights(path, module.state_dict(), info, half=True)


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """Average a module exponentially, by min(decay, (1 + n) / (10 + n)) at the n-th update (Song et al., 2021)."""

    def update(average: Any, current: Any, count: Any) -> None:
        n = int(count) + 1  # the first update copies and does not come here
        average_into(average, current, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


def learning_rate(step: int, options: TrainOptions) -> float:
    """Rise linearly while warming up, then fall to zero along half a cosine or a line."""
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
    `folder.name.safetensors`. Interrupted and started again, a run gives the same weights as an uninterrupted one.
    `settings` are recorded, and must be the same when a run is continued. `report` receives each log row.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder: {error.strerror}") from None
    run = _Run(trainer, options)
    checkpoint, recorded = folder / "checkpoint.pt", json.dumps(settings, sort_keys=True)
    if checkpoint.exists():
        run.load(checkpoint, recorded)
    started, last, held_out = time.monotonic(), run.step, dict[str, float]()
    while run.step < options.steps:
        run.advance()
        if run.step % options.validate_every and run.step < options.steps:
            continue
        held_out = run.validate()
        rate = (run.step - last) / (time.monotonic() - started)
        row = {
            "step": run.step,
            **_rounded(run.seen),
            **{f"held_out_{k}": v for k, v in held_out.items()},
            "steps_per_second": round(rate, 3),
        }
        run.save(checkpoint, recorded)
        with (folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        report(row)
        started, last = time.monotonic(), run.step
    path = folder / f"{folder.name}.safetensors"
    held_out = held_out or run.validate()  # a run that was finished before has not validated yet
    with torch.inference_mode():
        trainer.export(run.average.module, trainer.held_out, path, {"training": settings, "held_out": held_out})
    return path


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {k: float(f"{v:.5g}") for k, v in figures.items()}


class _Run:
    """State of a training run, saved in its checkpoint.

    step: number of steps taken. seen: running means of the trainer's figures. average: averaged weights of the module.
    """

    def __init__(self, trainer: Trainer, options: TrainOptions) -> None:
        self.trainer, self.options = trainer, options
        self.average = averaged(trainer.module, options.ema)
        kind = Muon if options.optimizer == "muon" else torch.optim.Adam
        self.optimizer = kind(trainer.module.parameters(), lr=options.lr)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step, self.seen = 0, dict[str, float]()
        self.parts: dict[str, Any] = {"module": trainer.module, "average": self.average, "optimizer": self.optimizer}

    def advance(self) -> None:
        """Take one optimiser step."""
        trainer, module = self.trainer, self.trainer.module
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.options)
        module.train()
        loss, figures = trainer.loss(trainer.batch(self.options, self.generator), self.step, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(module)
        self.step += 1
        for name, value in figures.items():
            self.seen[name] = self.seen.get(name, value) * 0.98 + value * 0.02

    def validate(self) -> dict[str, float]:
        """Measure the averaged weights on held-out data, to five digits."""
        self.average.eval()
        with torch.inference_mode():
            return _rounded(self.trainer.validate(self.average.module, self.trainer.held_out))

    def save(self, path: Path, settings: str) -> None:
        """Write the checkpoint."""
        state = {
            "step": self.step,
            "seen": self.seen,
            "settings": settings,
            "trainer": self.trainer.state(),
            "generator": self.generator.get_state(),
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        with atomic_write(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path, settings: str) -> None:
        """Continue from a checkpoint. Raises WeightsError, or OptionError where its settings differ."""
        try:
            state = torch.load(path, weights_only=True, map_location=self.trainer.device)
            recorded, step, seen = state["settings"], int(state["step"]), dict(state["seen"])
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{path}: cannot be read ({reason}); remove it to start again") from None
        if recorded != settings:
            raise OptionError(f"{path}: was made with other options; use the same ones, or another `out` folder")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.generator.set_state(state["generator"].cpu())
        self.trainer.load_state(state["trainer"])
        self.step, self.seen = step, seen
