"""Networks of others, as files that are run and not converted: ONNX models, and the cards beside them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import FusionkitError, PluginError, WeightsError, one_line
from ..extras import install
from ..options import Options, validate_options
from ..storage.regular import check_regular, read_toml

MOST_BYTES = 2_000_000_000  # of a file; larger ONNX models keep their values in other files
FLOATS = {"tensor(float16)": np.float16, "tensor(double)": np.float64}  # inputs that do not take float32

Card = TypeVar("Card", bound=Options)


def read_card(network: Path, model: type[Card], example: str) -> Card:
    """The card of a network: the TOML of the same stem beside its file.

    Raises WeightsError where the network is missing, OptionError for its card.
    """
    if not network.is_file():
        raise WeightsError(f"{network}: does not exist")
    check_regular(network, WeightsError, MOST_BYTES)
    place = network.with_suffix(".toml")
    content = read_toml(place, f"missing; it says how the network is used, such as {example}")
    return card_of(content, model, place)


def card_of(content: Any, model: type[Card], place: Path) -> Card:
    """The card that a file holds. Raises OptionError."""
    return validate_options(model, content if isinstance(content, Mapping) else {"card": content}, str(place))


class OnnxModel:
    """A model that onnxruntime runs on the CPU: arrays in the order of its inputs, in the type that each takes.

    read: gives the bytes of the file, at the first use; a pickled model reads them where it arrives. outputs: names of
    those that are asked for; by default all. Raises WeightsError for bytes that are no model, or without onnxruntime; a
    call raises what onnxruntime does.
    """

    def __init__(self, read: Callable[[], bytes], name: str, outputs: Sequence[str] | None = None) -> None:
        self._read, self._name, self._outputs = read, name, outputs

    @cached_property
    def _session(self) -> Any:
        import torch

        try:
            import onnxruntime
        except ImportError:
            raise WeightsError(f"{self._name}: onnxruntime is not installed: {install('onnx')}") from None
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = torch.get_num_threads(), 3
        try:
            return onnxruntime.InferenceSession(self._read(), settings, providers=["CPUExecutionProvider"])
        except FusionkitError:
            raise
        except Exception as error:  # onnxruntime's own kinds
            reason = one_line(error)[:200]
            if "External data" in reason:
                reason = "its weights lie in another file; export it with external_data=False"
            raise WeightsError(f"{self._name}: no ONNX model that can be run: {reason}") from None

    @property
    def inputs(self) -> Any:
        """Inputs with `name`, `shape` and `type`; loads the model."""
        return self._session.get_inputs()

    def prepare(self, count: int) -> None:
        """Load the model now. Raises PluginError where it has another number of inputs."""
        if len(self.inputs) != count:
            names = ", ".join(into.name for into in self.inputs)
            raise PluginError(f"{self._name} has {len(self.inputs)} inputs ({names}), its card says {count}")

    def __call__(self, *given: Any) -> list[Any]:
        """Run it; there are as many arrays as inputs."""
        pairs = zip(self.inputs, given, strict=True)
        feeds = {into.name: np.asarray(part, FLOATS.get(into.type)) for into, part in pairs}
        return list(self._session.run(self._outputs, feeds))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_session"}
