"""Networks that decide which source each pixel is taken from, trained on rendered scenes."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial, reduce
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

LEVEL = 1 / 255
WINDOW = 2  # radius over which sharpness is summed
EXPOSEDNESS = 0.2  # deviation of the Gaussian around mid-grey by which well exposed is judged
EDGE_RADIUS, EDGE_EPS = 4, 1e-3  # of the guided filter that enlarges weights, in samples of the reduced copy
BORDER = 4  # pixels along the border where the padding with zeros is seen in plain skies; they follow their neighbours
ROWS = 480  # least height or width of the reduced copy, below twice that: defocus in pixels grows with the image


class DecisionNetConfig(Options):
    """Architecture of a `DecisionNet`."""

    widths: tuple[int, ...] = Field(
        (16, 24, 32, 32, 32), min_length=1, description="channels at a half of the resolution, a quarter, and so on"
    )


class _Block(nn.Module):
    """Features of each source, then combined with the maximum over sources: (N B, C, h, w) -> (N B, width, h, w)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels, width, 3, stride, padding=1)
        self.beside = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x: Tensor, count: int) -> Tensor:
        """Features of N = `count` sources."""
        own = F.relu_(self.own(x))
        largest = reduce(torch.maximum, own.chunk(count))  # the same for all sources, so it is convolved once
        return F.relu_(_convolved(self.beside, own, largest))

    def each(self, sources: Sequence[Tensor]) -> list[Tensor]:
        """The same, of sources one after another: (B, C, h, w) each, kept in half precision; own features are not."""
        largest = reduce(torch.maximum, (F.relu_(self.own(x.float())) for x in sources))
        every = (F.relu_(self.own(x.float())) for x in sources)
        return [F.relu_(_convolved(self.beside, own, largest)).half() for own in every]


def _convolved(conv: nn.Conv2d, x: Tensor, y: Tensor) -> Tensor:
    """Apply `conv` to x (N B, ...) and y (B or N B, ...), concatenated along channels, without copying them."""
    first, second = conv.weight[:, : x.shape[1]], conv.weight[:, x.shape[1] :]
    result, other = F.conv2d(x, first, conv.bias, padding=1), F.conv2d(y, second, padding=1)
    result.view(-1, *other.shape).add_(other)
    return result


class DecisionNet(nn.Module, ABC):
    """Weights of N sources in any order: a U-Net (Ronneberger et al., 2015) corrects a measure of each source.

        softmax over sources of  measure(S_i) + network(S_i, feature(S_i); maximum of features over sources)

    The untrained network decides by the measure alone. prior: name of the prior whose trainer trains it. enlarging:
    interpolation of coarse features. follows_edges: weights of a reduced copy are refined along the sources' edges (He
    & Sun, "Fast guided filter", 2015).
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
        """Compute feature and measure, (B, 1, H, W) each, of lumas (B, 1, H, W) in [0, 1]."""

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of it."""
        return int(2 ** len(self.config.widths))

    def forward(self, lumas: Sequence[Tensor]) -> Tensor:
        """Weights (N, B, 1, H, W), which sum to one, of N lumas (B, 1, H, W) in [0, 1]."""
        count, (height, width) = len(lumas), lumas[0].shape[-2:]
        x, measure = self._taken(torch.cat(list(lumas)))
        seen = []
        for block in self.down:
            x = block(x, count)
            seen.append(x)
        logits = self._logits(seen, measure)
        weights = torch.softmax(logits.view(count, -1, *logits.shape[1:]), dim=0)
        return weights[..., :height, :width]

    def each(self, lumas: Sequence[Tensor]) -> Tensor:
        """The same weights, source by source: only their features are in memory together, 12 bytes a pixel each."""
        height, width = lumas[0].shape[-2:]
        features, measures, seen = list[Tensor](), list[Tensor](), list[deque[Tensor]]()
        for x, measure in map(self._taken, lumas):
            features.append(x.half())
            measures.append(measure)
        for block in self.down:
            assert isinstance(block, _Block)
            features = block.each(features)
            seen.append(deque(features))
        del features  # so that those of each source are freed once they have been used
        logits = [self._logits([level.popleft().float() for level in seen], measure) for measure in measures]
        measures.clear()
        every = torch.stack(logits)
        logits.clear()
        return torch.softmax(every, dim=0)[..., :height, :width]

    def _taken(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block takes of lumas, and their measure, padded."""
        y = pad_to_multiple(y, self.multiple, "replicate")
        feature, measure = self.measured(y)
        return fastest_format(F.pixel_unshuffle(torch.cat([2 * y - 1, feature], dim=1), 2)), measure

    def _logits(self, seen: Sequence[Tensor], measure: Tensor) -> Tensor:
        """Measure and correction, from the features of all blocks."""
        x = seen[-1]
        for conv, beside in zip(reversed(self.up), reversed(seen[:-1]), strict=True):
            assert isinstance(conv, nn.Conv2d)
            x = F.relu_(_convolved(conv, F.interpolate(x, scale_factor=2.0, mode=self.enlarging), beside))
        return F.pixel_shuffle(self.last(x), 2) + measure


class InFocus(DecisionNet):
    """The source that is in focus; measure: twice the logarithm of the sum-modified Laplacian over 5x5 pixels.

    Nayar & Nakagawa, "Shape from focus", 1994.
    """

    prior = "focus"

    @staticmethod
    def measured(y: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithm of the sharpness, as feature and as measure."""
        sharp = torch.log(box_mean(sum_modified_laplacian(y), WINDOW) + LEVEL)
        return sharp / 4 + 1, 2 * sharp


class Exposed(DecisionNet):
    """The source that is well exposed; measure: the logarithm of Mertens' exposedness, nearness to mid-grey."""

    prior = "exposure"
    enlarging = "bilinear"  # "nearest" leaves steps in skies, where only coarse features carry information
    follows_edges = True

    @staticmethod
    def measured(y: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithm of the brightness as feature, exposedness as measure."""
        return torch.log(y + 4 * LEVEL) / 3 + 0.5, -(y - 0.5).square() / (2 * EXPOSEDNESS**2)


class Decision(Network[DecisionNet]):
    """A trained `DecisionNet` and the weights that it gives to sources of any size."""

    def __init__(self, network: type[DecisionNet], weights: str, otherwise: str) -> None:
        kind = f"prior {network.prior}"
        super().__init__(weights, network, DecisionNetConfig, kind=kind, otherwise=otherwise)
        self.provenance = {f"{network.prior}_{key}": value for key, value in self.provenance.items()}

    def weights(self, lumas: Sequence[Tensor]) -> list[Tensor]:
        """Weights (B, 1, H, W) of the lumas (B, 1, H, W) in [0, 1]; they sum to one.

        Large images are decided on copies whose smaller side has 480 to 960 pixels, 1.5 dB better for defocus on 1440
        rows.
        """
        height, width = lumas[0].shape[-2:]
        factor = reduction(height, width)
        small = [F.avg_pool2d(y, factor, ceil_mode=True) for y in lumas] if factor > 1 else lumas
        network = self.on(lumas[0].device)
        weights = network(small)
        if network.follows_edges:
            weights = without_border(weights)

        enlarged = partial(enlarged_rows, factor=factor, rows=slice(0, height), width=width)
        if factor == 1 or not network.follows_edges:
            return [enlarged(w) for w in weights]
        guide, shown = (reduce(torch.add, y) / len(lumas) for y in (small, lumas))
        followed = []
        for w in weights:
            gain, offset = guided_line(guide, w, EDGE_RADIUS, EDGE_EPS)
            followed.append(torch.addcmul(enlarged(offset), enlarged(gain), shown).clamp_(0, 1))
        total = reduce(torch.add, followed)
        return [w.div_(total) for w in followed]


def reduction(height: int, width: int) -> int:
    """Size of an image over that of the copy on which a network decides."""
    return max(1, min(height, width) // ROWS)


def without_border(weights: Tensor) -> Tensor:
    """Weights (N, B, 1, H, W) whose outermost pixels are those of the next ones further in."""
    height, width = weights.shape[-2:]
    if min(height, width) <= 2 * BORDER:
        return weights
    inner = weights[..., BORDER:-BORDER, BORDER:-BORDER].flatten(0, 1)
    return F.pad(inner, (BORDER,) * 4, mode="replicate").view(weights.shape)


def mixed(weights: Iterable[Tensor], lumas: Iterable[Tensor]) -> Tensor:
    """Σ w_i S_i, pixel by pixel."""
    return reduce(torch.add, [w * y for w, y in zip(weights, lumas, strict=True)])


def sum_modified_laplacian(x: Tensor) -> Tensor:
    """Compute |2x - left - right| + |2x - up - down| of (B, 1, H, W), borders replicated."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    along_x = torch.sub(2 * x, p[..., 1:-1, :-2]).sub_(p[..., 1:-1, 2:]).abs_()
    along_y = torch.sub(2 * x, p[..., :-2, 1:-1]).sub_(p[..., 2:, 1:-1]).abs_()
    return along_x.add_(along_y)
