"""Which source is in focus: a small network in place of a measure of sharpness."""

from collections.abc import Sequence
from functools import cached_property, reduce
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fusionkit.contracts import Options
from fusionkit.numerics.window import box_mean, enlarged_rows
from fusionkit.weights import find_weights, load_network

__all__ = ["FocusDecision", "InFocus", "InFocusConfig", "sum_modified_laplacian"]

LEVEL = 1 / 255
WINDOW = 2  # radius over which sharpness is summed
ROWS = 480  # of the copy that is looked at, less than twice that: defocus grows with the number of pixels


class InFocusConfig(Options):
    """What `InFocus` is built from."""

    widths: tuple[int, ...] = Field(
        (16, 24, 32, 32, 32), min_length=1, description="channels at a half of the resolution, a quarter, and so on"
    )


class _Block(nn.Module):
    """Features of each source, then of each beside the largest of all: (N B, C, h, w) -> (N B, width, h, w)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels, width, 3, stride, padding=1)
        self.beside = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x: Tensor, count: int) -> Tensor:
        """Features of N = `count` sources."""
        own = F.relu_(self.own(x))
        largest = reduce(torch.maximum, own.chunk(count))  # one for all: so is what the network makes of it
        return F.relu_(_joined(self.beside, own, largest))


def _joined(conv: nn.Conv2d, x: Tensor, y: Tensor) -> Tensor:
    """`conv` of the channels of x (N B, ...) and, after them, of y (B, ...) or (N B, ...), which are not copied."""
    first, second = conv.weight[:, : x.shape[1]], conv.weight[:, x.shape[1] :]
    result, other = F.conv2d(x, first, conv.bias, padding=1), F.conv2d(y, second, padding=1)
    result.view(-1, *other.shape).add_(other)
    return result


class InFocus(nn.Module):
    """Weights of N sources by which of them is in focus, equal in rights: a U-Net (Ronneberger et al., 2015).

        softmax over sources of  2 log M_i + network(S_i, log M_i; the largest features of all sources)

    M_i the sum-modified Laplacian of source i (Nayar & Nakagawa, 1994), over 5x5 pixels: what the untrained network
    decides by.
    """

    def __init__(self, config: InFocusConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.down = nn.ModuleList(
            _Block(channels, width, 2 if level else 1)
            for level, (channels, width) in enumerate(zip((8, *widths), widths, strict=False))
        )
        self.up = nn.ModuleList(nn.Conv2d(above + width, width, 3, padding=1) for width, above in pairwise(widths))
        self.last = nn.Conv2d(widths[0], 4, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    @property
    def multiple(self) -> int:
        """Sides are filled up to a multiple of this."""
        return int(2 ** len(self.config.widths))

    def forward(self, lumas: Sequence[Tensor]) -> Tensor:
        """Weights (N, B, 1, H, W), which sum to one, of N lumas (B, 1, H, W) in [0, 1]."""
        count, (height, width) = len(lumas), lumas[0].shape[-2:]
        y = F.pad(torch.cat(list(lumas)), (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        sharp = torch.log(box_mean(sum_modified_laplacian(y), WINDOW) + LEVEL)
        x = F.pixel_unshuffle(torch.cat([2 * y - 1, sharp / 4 + 1], dim=1), 2)
        x = x.contiguous(memory_format=torch.channels_last)
        seen = []
        for block in self.down:
            x = block(x, count)
            seen.append(x)
        for conv, beside in zip(reversed(self.up), reversed(seen[:-1]), strict=True):
            assert isinstance(conv, nn.Conv2d)
            x = F.relu_(_joined(conv, F.interpolate(x, scale_factor=2.0), beside))
        logits = F.pixel_shuffle(self.last(x), 2) + 2 * sharp
        weights = torch.softmax(logits.view(count, -1, *logits.shape[1:]), dim=0)
        return weights[..., :height, :width]


class FocusDecision:
    """Weights of sources by a trained `InFocus`, which is read when it is first needed.

    weights: their name, or a .safetensors file with its .json. Raises WeightsError where there are none.
    """

    def __init__(self, weights: str) -> None:
        self._file = find_weights(weights, "fusionkit_priors", "`prior=focus` needs none")
        self.provenance = {"focus_weights": self._file.path.name, "focus_sha256": self._file.info.get("sha256")}

    @cached_property
    def network(self) -> InFocus:
        """The network, on the CPU until it is used elsewhere."""
        network = load_network(self._file, InFocus, self._file.architecture(InFocusConfig))
        return network.requires_grad_(False).eval()

    def weights(self, lumas: Sequence[Tensor]) -> list[Tensor]:
        """For each of the lumas (B, 1, H, W) in [0, 1] its weight (B, 1, H, W); together they are one.

        Of large images decided on copies of 480 to 960 rows: on 1440 rows that is 1.5 dB nearer to the truth.
        """
        height, width = lumas[0].shape[-2:]
        factor = max(1, min(height, width) // ROWS)
        small = [F.avg_pool2d(y, factor, ceil_mode=True) for y in lumas] if factor > 1 else lumas
        weights = self.network.to(lumas[0].device)(small)
        return [enlarged_rows(w, factor, slice(0, height), width) for w in weights]


def sum_modified_laplacian(x: Tensor) -> Tensor:
    """|2x - left - right| + |2x - up - down|, borders replicated: (B, 1, H, W)."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    along_x = torch.sub(2 * x, p[..., 1:-1, :-2]).sub_(p[..., 1:-1, 2:]).abs_()
    along_y = torch.sub(2 * x, p[..., :-2, 1:-1]).sub_(p[..., 2:, 1:-1]).abs_()
    return along_x.add_(along_y)
