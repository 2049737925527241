"""Published rectified-flow and score-SDE checkpoints -> weights for the backbone `rf`."""

from collections.abc import Mapping
from typing import Any

import torch

from fusionkit.errors import WeightsError
from fusionkit.weights import CheckpointImporter, Imported, differences
from fusionkit.weights.checkpoint import state_dict

from .ncsnpp import NCSNpp, NCSNppConfig

__all__ = ["RFImporter"]

CELEBA_HQ = NCSNppConfig(centered=True)  # as in the configuration that it was trained with


class RFImporter(CheckpointImporter):
    """{"model": state dict of a DataParallel, "ema": {"shadow_params": list without names}, "optimizer", "step"}.

    The averaged weights are taken. They are a bare list, in the order of the network's trainable parameters; what is
    not trained (the Fourier frequencies, the noise levels) is in `model` alone. Without a configuration the
    architecture is that of the rectified flow of CelebA-HQ 256 (Liu et al., ICLR 2023), which works on pixels.
    """

    def recognises(self, checkpoint: Any) -> bool:
        """Names of NCSN++ modules."""
        return any(name.startswith("all_modules.") for name in state_dict(checkpoint))

    def convert(self, checkpoint: Any, config: Mapping[str, Any] | None) -> Imported:
        """EMA weights where there are any, else those of `model`."""
        architecture = _architecture(config)
        with torch.device("meta"):
            network = NCSNpp(architecture)
        own = network.state_dict()
        tensors = state_dict(checkpoint)
        notes = [] if config is not None else ["architecture: rectified flow, CelebA-HQ 256, as published"]
        average = _average(checkpoint)
        if average is None:
            notes.append("no averaged weights (EMA) in the file: took those of the last step")
        else:
            trained = [name for name, p in network.named_parameters() if p.requires_grad]
            if len(average) != len(trained):
                raise WeightsError(
                    f"its averaged weights are {len(average)} tensors, this architecture trains {len(trained)}; give "
                    "the configuration published with it (--config)"
                )
            tensors |= dict(zip(trained, average, strict=True))
            notes.append(f"averaged weights (EMA): {len(average)} tensors; from the last step: the rest")
        problems = differences(tensors, own)
        if problems:
            hint = "" if config is not None else "; give the configuration published with it (--config)"
            raise WeightsError(f"not weights of this architecture: {'; '.join(problems)}{hint}")
        info = {
            "architecture": architecture.model_dump(),
            "domain": "any",  # trained on pixels in [-1, 1]; the released RFfusion gives it latents
            "decoder": "identity",
            "decoder_options": {"signal": "signed"},
            "time": "label 999 s, s = 1 - t in [0.001, 1], output dx/ds",
        }
        return Imported({name: tensors[name].to(own[name].dtype) for name in own}, info, tuple(notes))


def _architecture(config: Mapping[str, Any] | None) -> NCSNppConfig:
    if config is None:
        return CELEBA_HQ
    try:
        return NCSNppConfig.from_published(config)
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"the configuration is not one of an NCSN++: {' '.join(str(error).split())}") from None


def _average(checkpoint: Any) -> list[torch.Tensor] | None:
    """The list of averaged parameters, or None."""
    ema = checkpoint.get("ema") if isinstance(checkpoint, Mapping) else None
    if isinstance(ema, Mapping):
        ema = ema.get("shadow_params")
    return list(ema) if isinstance(ema, list) else None
