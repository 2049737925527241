"""Published VQ autoencoders (latent diffusion, RFfusion) -> weights for the decoder `vq`."""

from collections.abc import Mapping
from typing import Any

from fusionkit.weights import CheckpointImporter, Imported
from fusionkit.weights.checkpoint import described, fitted, state_dict

from .config import VQConfig
from .network import VQModel

CODEBOOK = "quantize.embedding.weight"


class VQImporter(CheckpointImporter):
    """Lightning's {"state_dict", "callbacks", ...} or {"model": state dict}; `loss.*` is left out.

    Without a configuration the architecture is that of VQ-f4 (Rombach et al., CVPR 2022). Where the file holds an
    average of the weights (`model_ema.*`, names without dots) it is taken.
    """

    def recognises(self, checkpoint: Any) -> bool:
        """A codebook and an encoder."""
        names = state_dict(checkpoint)
        return CODEBOOK in names and any(name.startswith("encoder.") for name in names)

    def convert(self, checkpoint: Any, config: Mapping[str, Any] | None) -> Imported:
        """Encoder, decoder and codebook."""
        architecture = VQConfig() if config is None else described(VQConfig.from_published, config)
        own = described(VQModel, architecture).state_dict()
        every = state_dict(checkpoint)
        averaged = {name: every[key] for name in own if (key := f"model_ema.{name.replace('.', '')}") in every}
        tensors = {k: v for k, v in every.items() if not k.startswith(("loss.", "model_ema."))} | averaged
        notes = [] if config is not None else ["architecture: VQ-f4, as published"]
        if averaged:
            notes.append(f"averaged weights (EMA): {len(averaged)} tensors")
        left_out = sum(k.startswith("loss.") for k in every)
        if left_out:
            notes.append(f"left out: {left_out} tensors of the training loss")
        info = {"architecture": architecture.model_dump(), "quantize": "encode"}
        return Imported(fitted(tensors, own, config), info, tuple(notes))
