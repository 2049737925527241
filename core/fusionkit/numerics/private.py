"""Private functions of PyTorch, all optional: without one, work takes longer and results stay."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

LOSS = {
    "_nnpack_spatial_convolution": "convolutions in float32 take two to three times as long",
    "_nnpack_available": "convolutions in float32 take two to three times as long",
    "cpu._is_avx512_bf16_supported": "`precision=auto` cleans in float32 on every CPU",
    "_foreach_lerp_": "training averages its weights one by one",
    "ops.aten._nnpack_spatial_convolution": "`bench` does not count operations of NNPACK's convolutions",
}


def missing() -> list[str]:
    """Names, without `torch.`, of the functions that this PyTorch lacks."""
    return [name for name in LOSS if _find(name) is None]


def has_winograd() -> bool:
    """Whether PyTorch and the processor support NNPACK's convolution by Winograd's algorithm."""
    return _find("_nnpack_spatial_convolution") is not None and _nnpack_starts()


def winograd_operator() -> object | None:
    """Operator of NNPACK's convolution, as counters of operations see it; None without one."""
    return _find("ops.aten._nnpack_spatial_convolution")


def has_avx512_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by AVX512-BF16."""
    supported = _find("cpu._is_avx512_bf16_supported")
    return supported is not None and bool(supported())


def average_into(averages: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """Move each average by `weight` towards its value, in place."""
    together = _find("_foreach_lerp_")
    if together is not None:
        together(averages, values, weight)
        return
    for average, value in zip(averages, values, strict=True):
        average.lerp_(value, weight)


@cache
def _nnpack_starts() -> bool:
    """Start NNPACK, as its use requires; False on processors that are too old for it."""
    available = _find("_nnpack_available")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on those processors
        return available is not None and bool(available())


def _find(name: str) -> Callable[..., Any] | None:
    try:
        return attrgetter(name)(torch)
    except AttributeError:
        return None
