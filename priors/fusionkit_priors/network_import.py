"""Takes an ONNX file in as weights of the prior `network`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.errors import WeightsError
from fusionkit.weights import CheckpointImporter, Imported
from fusionkit.weights.foreign import OnnxModel, card_of

from .network import CARD, GRAPH, Card


class OnnxImporter(CheckpointImporter):
    """The bytes of an .onnx file, with its card as configuration; kept as they are, with their hash."""

    def recognises(self, checkpoint: Any) -> bool:
        """Tell whether these are the bytes of a file."""
        return isinstance(checkpoint, bytes)

    def convert(self, checkpoint: Any, config: Mapping[str, Any] | None) -> Imported:
        """Check that it runs, and keep it; `config` is the card."""
        if config is None:
            raise WeightsError(f"an ONNX file needs its card (`config`): a .toml, such as {CARD}")
        card = card_of(config, Card, Path("card"))
        OnnxModel(lambda: checkpoint, "the model").prepare(card.count)
        graph = torch.from_numpy(np.frombuffer(checkpoint, np.uint8).copy())
        return Imported({GRAPH: graph}, {"card": card.model_dump(mode="json", exclude_defaults=True)})
