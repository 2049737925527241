"""Arithmetic of networks: float32, or bfloat16 where the device has it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from .fastest import timed
from .layers import winograd
from .private import has_avx512_bfloat16


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32: GPUs since Ampere, x86 with AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_avx512_bfloat16()


def cleans_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a precision ("auto", "float32", "bfloat16") cleans sources in bfloat16 on this device."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def arithmetic(device: torch.device, precision: str, *, cleaning: bool = False) -> AbstractContextManager[object]:
    """Inside, networks compute as fast as a precision allows.

    bfloat16: convolutions and products; reductions stay in float32. float32: PyTorch's usual algorithms. auto: bfloat16
    for the one evaluation that cleans a source, where the device has it; otherwise float32 by algorithms that err by
    1e-4 at most, since errors of many steps add up, and of these by the one that was faster on this machine.
    """
    if cleans_in_bfloat16(precision, device) if cleaning else precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return winograd() if precision == "auto" and device.type == "cpu" and takes_winograd() else nullcontext()


def takes_winograd() -> bool:
    """Whether `auto` convolves by Winograd's algorithm: where there is one, and it is faster on this machine."""
    found = timed()
    return found is not None and found.pays
