"""The flow's clean estimates of pictures with white noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..contracts import Backbone, Decoder
from ..contracts.base import check_answer
from ..flow.path import x0_from_velocity
from ..flow.restoring import Ask
from ..memory import release_pages
from ..numerics.precision import arithmetic
from ..timing import Stopwatch
from .config import Precision

TOGETHER = 2**20  # pixels that go through the flow at once


@dataclass(frozen=True)
class Cleaner:
    """Answers what restorations ask: x̂₀ of pictures (1, 1, H, W), each at its own deviation of noise."""

    backbone: Backbone
    decoder: Decoder
    precision: Precision

    @property
    def able(self) -> bool:
        """Whether this backbone and decoder restore anything."""
        one = self.backbone.channels in (None, 1)
        return self.backbone.restores > 0 and one and self.decoder.lossless and self.decoder.factor == 1

    def __call__(self, asked: Sequence[Ask], watch: Stopwatch) -> Sequence[Tensor]:
        """The flow's clean estimates: pictures of one size together, in chunks, so memory does not grow with them."""
        answers: dict[int, Tensor] = {}
        for shape in dict.fromkeys(x.shape for x, _ in asked):
            alike = [i for i, (x, _) in enumerate(asked) if x.shape == shape]
            count = max(1, TOGETHER // shape.numel())
            for first in range(0, len(alike), count):
                some = alike[first : first + count]
                with watch.stage("restore"):
                    answers |= zip(some, self._alike([asked[i] for i in some]), strict=True)
                if shape.numel() > TOGETHER:
                    release_pages()  # the network's
        return [answers[i] for i in range(len(asked))]

    def _alike(self, asked: Sequence[Ask]) -> Sequence[Tensor]:
        """Those of one size: x̂₀ at t = s / (1 + s), in the shape of each."""
        x, device = torch.cat([x for x, _ in asked]), asked[0][0].device
        ends = self.decoder.encode(torch.tensor([0.0, 1.0], device=device).view(2, 1, 1, 1)).flatten()
        every = [torch.as_tensor(s, dtype=x.dtype, device=device).expand(len(x)) for x, s in asked]
        s = torch.cat(every) * (ends[1] - ends[0])
        t = (s / (1 + s)).clamp_max(self.backbone.restores)
        time = t.view(-1, 1, 1, 1)
        x_t = self.decoder.encode(x).mul(1 - time)
        del x
        with arithmetic(device, self.precision, cleaning=True):
            v = self.backbone.velocity(x_t, t)
        check_answer(v, x_t.shape, "velocity", self.backbone)
        height, width = x_t.shape[-2:]
        x0 = self.decoder.decode(x0_from_velocity(x_t, v.float(), time), (height, width))
        return torch.split(x0, [len(x) for x, _ in asked])
