"""Importer of published rectified-flow and score-SDE checkpoints for the backbone `rf`."""

from collections.abc import Mapping
from typing import Any

import torch

from fusionkit.errors import WeightsError
from fusionkit.weights import CheckpointImporter, Imported
from fusionkit.weights.checkpoint import CONFIG_HINT, described, fitted, plain, state_dict

from .ncsnpp import NCSNpp, NCSNppConfig

CELEBA_HQ = NCSNppConfig(centered=True)  # as in the configuration that it was trained with


class RFImporter(CheckpointImporter):
    """{"model": state dict of a DataParallel, "ema": {"shadow_params": list without names}, "optimizer", "step"}.

    The averaged weights are taken: a list without names, in the order of the network's trainable parameters. Fourier
    frequencies and noise levels are not trained and come from `model`. Without a configuration the architecture is that
    of the rectified flow of CelebA-HQ 256 (Liu et al., ICLR 2023), which works on pixels.
    """

    def recognises(self, checkpoint: Any) -> bool:
        """Tell whether tensors have names of NCSN++ modules."""
        return any(name.startswith("all_modules.") for name in state_dict(checkpoint))

    def convert(self, checkpoint: Any, config: Mapping[str, Any] | None) -> Imported:
        """Take the averaged weights (EMA), or those of `model` where the file has none."""
        architecture = CELEBA_HQ if config is None else described(NCSNppConfig.from_published, config)
        network = described(NCSNpp, architecture)
        tensors = state_dict(checkpoint)
        notes = [] if config is not None else ["architecture: rectified flow, CelebA-HQ 256, as published"]
        average = _average(checkpoint)
        if average is None:
            notes.append("no averaged weights (EMA) in the file: took those of the last step")
        else:
            trained = [name for name, p in network.named_parameters() if p.requires_grad]
            if len(average) != len(trained):
                counts = f"{len(average)} tensors, this architecture trains {len(trained)}"
                raise WeightsError(f"its averaged weights are {counts}{CONFIG_HINT}")
            tensors |= dict(zip(trained, average, strict=True))
            notes.append(f"averaged weights (EMA): {len(average)} tensors; from the last step: the rest")
        info = {
            "architecture": architecture.model_dump(),
            "domain": "any",  # trained on pixels in [-1, 1]; the released RFfusion gives it latents
            "decoder": "identity",
            "decoder_options": {"signal": "signed"},
            "time": "label 999 s, s = 1 - t in [0.001, 1], output dx/ds",
        }
        return Imported(fitted(tensors, network.state_dict(), config), info, tuple(notes))


def _average(checkpoint: Any) -> list[torch.Tensor] | None:
    """Collect the averaged parameters in their order; None where the file has no entry `ema`."""
    ema = checkpoint.get("ema") if isinstance(checkpoint, Mapping) else None
    if ema is None:
        return None
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else ema
    if not isinstance(shadow, list | tuple) or not all(isinstance(t, torch.Tensor) for t in shadow):
        raise WeightsError("its entry `ema` is not a list of averaged tensors, nor has one called shadow_params")
    return [plain(tensor) for tensor in shadow]
