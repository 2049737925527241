"""Layers of networks: fast convolution and attention, and the memory format that suits them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .private import has_winograd

LEAST, LARGE = 48, 1024  # numbers of channels, in and out, and of pixels from which Winograd's algorithm pays
QUERIES = 512  # rows of a long attention computed at once

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
    """`nn.Conv2d`; inside `winograd` by Winograd's algorithm where that pays.

    F(6x6, 3x3): a fifth of the multiplications (Winograd, 1980; Lavin & Gray, "Fast algorithms for convolutional neural
    networks", CVPR 2016). PyTorch has it on CPUs in NNPACK, for contiguous float32, and does not choose it by itself.
    Two to three times as fast on 96 to 512 channels, and within about 1e-5 of the largest value. Other sizes, strides,
    devices, types and gradients take PyTorch's usual way.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve: (B, C, H, W) -> (B, C', H', W')."""
        large = input.shape[-2] * input.shape[-1] >= LARGE
        if self._suits and large and _by_winograd(input) and not input.is_contiguous(memory_format=torch.channels_last):
            return torch._nnpack_spatial_convolution(input.contiguous(), self.weight.contiguous(), self.bias, 1, 1)
        return super().forward(input)

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
    """Convert a network's input (B, C, H, W) to the memory format in which its convolutions are fastest.

    Layers keep the format. Channels last takes down to half the time, except where a `Convolution` uses Winograd's
    algorithm.
    """
    return x.contiguous(memory_format=torch.contiguous_format if _by_winograd(x) else torch.channels_last)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax(q kᵀ / sqrt(C)) v of one head, (B, N, C) each, without the whole matrix of scores in memory.

    By PyTorch's function, except in bfloat16 on a CPU, where plain products in chunks of queries take half its time.
    """
    q, k, v = (x.contiguous() for x in (q, k, v))  # with other strides PyTorch's function holds the matrix
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    keys = k.mT * k.shape[-1] ** -0.5
    return torch.cat([(part @ keys).softmax(-1) @ v for part in torch.split(q, QUERIES, 1)], dim=1)


def _by_winograd(x: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return _allowed.get() and plain and not torch.is_grad_enabled() and has_winograd()


def pad_to_multiple(x: Tensor, multiple: int, mode: Literal["reflect", "replicate"] = "reflect") -> Tensor:
    """Pad x (B, C, H, W) right and below to a multiple; images too small to be reflected are replicated."""
    height, width = x.shape[-2:]
    pad_h, pad_w = -height % multiple, -width % multiple
    if not (pad_h or pad_w):
        return x
    return F.pad(x, (0, pad_w, 0, pad_h), mode=mode if pad_h < height and pad_w < width else "replicate")
