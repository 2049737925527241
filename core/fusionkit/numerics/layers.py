"""Layers of networks: by which algorithm they compute, and how what they work on lies in memory."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Convolution", "attention", "fastest_format", "winograd"]

LEAST, LARGE = 48, 1024  # channels on either side, and pixels, from which Winograd's algorithm pays
QUERIES = 512  # of a long attention that are answered at once

_allowed = ContextVar("_allowed", default=False)


@contextmanager
def winograd() -> Iterator[None]:
    """Inside, a `Convolution` may take Winograd's algorithm."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


class Convolution(nn.Conv2d):
    """`nn.Conv2d`, inside `winograd` by Winograd's algorithm where it suits.

    F(6x6, 3x3): a fifth of the multiplications (Winograd, 1980; Lavin & Gray, "Fast algorithms for convolutional neural
    networks", CVPR 2016). PyTorch's convolutions on CPUs do not choose it, though it carries NNPACK, which has it: in
    float32, for images whose channels lie one after the other. Two to three times as fast on 96 to 512 channels, and
    within 1e-5 of the largest value or so. Everything else goes PyTorch's way: other sizes and strides, other devices
    and arithmetic, gradients.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        large = input.shape[-2] * input.shape[-1] >= LARGE
        if self._suits and large and _by_winograd(input) and not input.is_contiguous(memory_format=torch.channels_last):
            return torch._nnpack_spatial_convolution(input.contiguous(), weight.contiguous(), bias, 1, 1)
        return super()._conv_forward(input, weight, bias)

    @property
    def _suits(self) -> bool:
        shape = self.kernel_size, self.stride, self.padding, self.dilation
        return (
            shape == ((3, 3), (1, 1), (1, 1), (1, 1))
            and self.groups == 1
            and self.padding_mode == "zeros"
            and min(self.in_channels, self.out_channels) >= LEAST
        )


def fastest_format(x: Tensor) -> Tensor:
    """What a network is given, (B, C, H, W), so laid out that its convolutions take the least time.

    Layers keep the layout. Channels last takes up to half the time of the other one, but where a `Convolution` goes by
    Winograd's algorithm.
    """
    return x.contiguous(memory_format=torch.contiguous_format if _by_winograd(x) else torch.channels_last)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(C)) v of one head, (B, N, C) each; the matrix of scores never stands in memory as a whole.

    PyTorch's own, but in bfloat16 on a CPU, where plain products, some queries at a time, take half its time.
    """
    q, k, v = (x.contiguous() for x in (q, k, v))  # PyTorch's holds the matrix where strides are others
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    keys = k.mT * k.shape[-1] ** -0.5
    return torch.cat([(part @ keys).softmax(-1) @ v for part in torch.split(q, QUERIES, 1)], dim=1)


def _by_winograd(x: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return _allowed.get() and plain and not torch.is_grad_enabled() and _has_nnpack()


@cache
def _has_nnpack() -> bool:
    """Whether this PyTorch and this processor have NNPACK; asking starts it, without which it computes nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, on processors that are too old for it
        return hasattr(torch, "_nnpack_spatial_convolution") and torch._nnpack_available()
