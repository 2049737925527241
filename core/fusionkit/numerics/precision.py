"""In which numbers networks compute: float32, or bfloat16 where the processor has it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from .layers import winograd

__all__ = ["arithmetic", "cleans_in_bfloat16", "has_bfloat16"]


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself, faster than float32: GPUs since Ampere, x86 with AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name tells
    return device.type == "cpu" and known is not None and bool(known())


def cleans_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether sources are cleaned in bfloat16 where a precision, "auto" perhaps, is asked for."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def arithmetic(device: torch.device, precision: str, *, cleaning: bool = False) -> AbstractContextManager[object]:
    """Inside, networks compute as fast as a precision allows.

    bfloat16: convolutions and products (what sums needs stays float32). float32: as they are defined, to the last bits.
    auto: bfloat16 for the one evaluation that cleans a source, where the device has it; otherwise float32, since errors
    of many steps add up, by algorithms that err by one in 10,000 at most.
    """
    if cleans_in_bfloat16(precision, device) if cleaning else precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return winograd() if precision == "auto" else nullcontext()
