"""How networks compute: float32, or bfloat16 where the processor has it; channels last in memory."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import torch
from torch import nn

__all__ = ["arithmetic", "channels_last", "cleans_in_bfloat16", "has_bfloat16"]

Network = TypeVar("Network", bound=nn.Module)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself, faster than float32: GPUs since Ampere, x86 with AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name tells
    return device.type == "cpu" and known is not None and bool(known())


def cleans_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether sources are cleaned in bfloat16 where a precision, "auto" perhaps, is asked for."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def arithmetic(device: torch.device, *, bfloat16: bool) -> AbstractContextManager[object]:
    """Inside, convolutions and products of a network run in bfloat16 (what sums needs stays float32), or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()


def channels_last(network: Network) -> Network:
    """The network, its weights laid out so that convolutions of inputs of that layout take up to half the time."""
    return cast(Network, cast(Any, network).to(memory_format=torch.channels_last))
