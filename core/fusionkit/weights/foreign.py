"""Networks of others, as files that are run and not converted: ONNX models, and the cards beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import WeightsError, one_line
from ..extras import install
from ..options import Options, validate_options
from ..storage.regular import check_regular, read_toml

MOST_BYTES = 2_000_000_000  # of a file; larger ONNX models keep their values in other files

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


def onnx_session(model: bytes, name: str) -> Any:
    """A session of onnxruntime on the CPU. Raises WeightsError for bytes that are no model, or without onnxruntime."""
    import torch

    try:
        import onnxruntime
    except ImportError:
        raise WeightsError(f"{name}: onnxruntime is not installed: {install('onnx')}") from None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = torch.get_num_threads(), 3
    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds
        raise WeightsError(f"{name}: no ONNX model that can be run: {one_line(error)[:200]}") from None
