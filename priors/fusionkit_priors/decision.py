"""Which source each pixel is taken from, decided by a small network that was trained on rendered scenes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fusionkit.contracts import Options, pad_to_multiple
from fusionkit.numerics.layers import fastest_format
from fusionkit.numerics.window import box_mean, enlarged_rows, guided_line
from fusionkit.weights.network import Network

__all__ = ["Decision", "DecisionNet", "DecisionNetConfig", "Exposed", "InFocus", "mixed", "sum_modified_laplacian"]

LEVEL = 1 / 255
WINDOW = 2  # radius over which sharpness is summed
EXPOSEDNESS = 0.2  # deviation of the Gaussian around mid-grey by which well exposed is judged
EDGE_RADIUS, EDGE_EPS = 4, 1e-3  # of the guided filter that enlarges weights, in samples of the copy
ROWS = 480  # of the copy that is looked at, less than twice that: defocus grows with the number of pixels


class DecisionNetConfig(Options):
    """What a `DecisionNet` is built from."""

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
        return F.relu_(_convolved(self.beside, own, largest))


def _convolved(conv: nn.Conv2d, x: Tensor, y: Tensor) -> Tensor:
    """`conv` of the channels of x (N B, ...) and, after them, of y (B, ...) or (N B, ...), which are not copied."""
    first, second = conv.weight[:, : x.shape[1]], conv.weight[:, x.shape[1] :]
    result, other = F.conv2d(x, first, conv.bias, padding=1), F.conv2d(y, second, padding=1)
    result.view(-1, *other.shape).add_(other)
    return result


class DecisionNet(nn.Module, ABC):
    """Weights of N sources, equal in rights: a U-Net (Ronneberger et al., 2015) corrects what a measure says of them.

        softmax over sources of  measure(S_i) + network(S_i, feature(S_i); the largest features of all sources)

    The untrained network decides by the measure alone. prior: whose trainer trains it. enlarging: how coarse features
    become finer ones. follows_edges: weights found on a copy are made to follow the sources' edges (He & Sun, "Fast
    guided filter", 2015).
    """

    prior: ClassVar[str]
    enlarging: ClassVar[str] = "nearest"
    follows_edges: ClassVar[bool] = False

    def __init__(self, config: DecisionNetConfig) -> None:
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

    @staticmethod
    @abstractmethod
    def measured(y: Tensor) -> tuple[Tensor, Tensor]:
        """Of lumas (B, 1, H, W) in [0, 1]: the feature that the network sees beside them, and the measure."""

    @property
    def multiple(self) -> int:
        """Sides are filled up to a multiple of this."""
        return int(2 ** len(self.config.widths))

    def forward(self, lumas: Sequence[Tensor]) -> Tensor:
        """Weights (N, B, 1, H, W), which sum to one, of N lumas (B, 1, H, W) in [0, 1]."""
        count, (height, width) = len(lumas), lumas[0].shape[-2:]
        y = pad_to_multiple(torch.cat(list(lumas)), self.multiple, "replicate")
        feature, measure = self.measured(y)
        x = fastest_format(F.pixel_unshuffle(torch.cat([2 * y - 1, feature], dim=1), 2))
        seen = []
        for block in self.down:
            x = block(x, count)
            seen.append(x)
        for conv, beside in zip(reversed(self.up), reversed(seen[:-1]), strict=True):
            assert isinstance(conv, nn.Conv2d)
            x = F.relu_(_convolved(conv, F.interpolate(x, scale_factor=2.0, mode=self.enlarging), beside))
        logits = F.pixel_shuffle(self.last(x), 2) + measure
        weights = torch.softmax(logits.view(count, -1, *logits.shape[1:]), dim=0)
        return weights[..., :height, :width]


class InFocus(DecisionNet):
    """The source that is in focus; measure: twice the logarithm of the sum-modified Laplacian over 5x5 pixels.

    Nayar & Nakagawa, "Shape from focus", 1994.
    """

    prior = "focus"

    @staticmethod
    def measured(y: Tensor) -> tuple[Tensor, Tensor]:
        """Sharpness as feature and as measure."""
        sharp = torch.log(box_mean(sum_modified_laplacian(y), WINDOW) + LEVEL)
        return sharp / 4 + 1, 2 * sharp


class Exposed(DecisionNet):
    """The source that is well exposed; measure: the logarithm of Mertens' exposedness, nearness to mid-grey."""

    prior = "exposure"
    enlarging = "bilinear"  # the nearest sample leaves steps in skies, where only coarse features tell anything
    follows_edges = True

    @staticmethod
    def measured(y: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of the brightness as feature, exposedness as measure."""
        return torch.log(y + 4 * LEVEL) / 3 + 0.5, -(y - 0.5).square() / (2 * EXPOSEDNESS**2)


class Decision(Network[DecisionNet]):
    """Weights of sources by a trained network.

    weights: their name, or a .safetensors file with its .json. otherwise: what works without them, for the error.
    """

    def __init__(self, network: type[DecisionNet], weights: str, otherwise: str) -> None:
        kind = f"prior {network.prior}"
        super().__init__(weights, network, DecisionNetConfig, kind=kind, otherwise=otherwise)
        self.provenance = {f"{network.prior}_{key}": value for key, value in self.provenance.items()}

    def weights(self, lumas: Sequence[Tensor]) -> list[Tensor]:
        """For each of the lumas (B, 1, H, W) in [0, 1] its weight (B, 1, H, W); together they are one.

        Of large images decided on copies of 480 to 960 rows: defocus on 1440 rows is told 1.5 dB better so.
        """
        height, width = lumas[0].shape[-2:]
        factor = max(1, min(height, width) // ROWS)
        small = [F.avg_pool2d(y, factor, ceil_mode=True) for y in lumas] if factor > 1 else lumas
        network = self.on(lumas[0].device)
        weights = network(small)

        def enlarged(x: Tensor) -> Tensor:
            return enlarged_rows(x, factor, slice(0, height), width)

        if factor == 1 or not network.follows_edges:
            return [enlarged(w) for w in weights]
        guide, shown = (reduce(torch.add, y) / len(lumas) for y in (small, lumas))
        followed = []
        for w in weights:
            gain, offset = guided_line(guide, w, EDGE_RADIUS, EDGE_EPS)
            followed.append(torch.addcmul(enlarged(offset), enlarged(gain), shown).clamp_(0, 1))
        total = reduce(torch.add, followed)
        return [w.div_(total) for w in followed]


def mixed(weights: Iterable[Tensor], lumas: Iterable[Tensor]) -> Tensor:
    """Σ w_i S_i, pixel by pixel."""
    return reduce(torch.add, [w * y for w, y in zip(weights, lumas, strict=True)])


def sum_modified_laplacian(x: Tensor) -> Tensor:
    """|2x - left - right| + |2x - up - down|, borders replicated: (B, 1, H, W)."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    along_x = torch.sub(2 * x, p[..., 1:-1, :-2]).sub_(p[..., 1:-1, 2:]).abs_()
    along_y = torch.sub(2 * x, p[..., :-2, 1:-1]).sub_(p[..., 2:, 1:-1]).abs_()
    return along_x.add_(along_y)
