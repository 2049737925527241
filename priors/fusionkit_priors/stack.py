"""Focus stacks: decided over all frames at once, and cleared of the veil of nearer things that were out of focus."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Frame, Frames
from fusionkit.numerics.strips import strips
from fusionkit.numerics.window import box_max, box_mean, enlarged_rows, reduced

from .decision import LEVEL, Decision, reduction, sum_modified_laplacian
from .defocus import Near, Optics, cleared, fit, reached, rescued, slimmed, trusted, veil

AT_ONCE, SEEN = 2**23, 64  # samples of all frames that the network sees at once, 60 bytes each; rows that it sees more


class Stack:
    """F = (Σ_i W_i S_i - veil) / (1 - cover), for any number of frames in two passes.

    Pass 1 keeps reduced copies in 8 bits, on which a network compares all frames. Σ_i i W_i is the depth. A frame that
    is focused on something far shows what is nearer as discs, whose light lies over the far: a halo around every near
    edge. Depth, and the width of the discs a frame of distance, which the copies tell, say how much of each pixel they
    cover, and with what light (`defocus.veil`): pass 2 sums, and `conclude` takes it away. So the near wins where it
    covers, with its sharp edge, and the far keeps its own sharp frame beside it, as far as what is left after the veil
    can be trusted: else the frame that is focused on the near thing, which shows the far without a veil, but blurred.

    near: whether the first or the last frame is focused nearest; auto: as their focus distances say, else as the
    copies show. State: four planes, a byte for each sample of the copies a frame.
    """

    passes = 2

    def __init__(self, decision: Decision, near: Near = "auto") -> None:
        self.decision, self.near = decision, near

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """Nothing is kept yet; before the second pass the weights of all frames, their depth and optics."""
        if turn == 0:
            return {"small": []}
        small, factor = torch.cat(state["small"]).float() / 255, reduction(*frames.size)
        weights = self._weights(small)
        depth = _mean(weights, torch.arange(len(small), dtype=torch.float32, device=small.device).view(-1, 1, 1, 1))
        optics = fit(small, _mean(weights, small), depth, self._told(frames))
        if not optics.blur:
            frames.report.note("halos stay: how blur grows from frame to frame was not seen")
        elif optics.near is None:
            frames.report.note("halos stay: which end is near was not seen; the prior's option near=first | last tells")
        frames.report.record("stack", near=optics.near, blur=round(optics.blur * factor, 3))
        weights, depth = _ordered(weights, depth, small, optics)
        levels = list((255 * weights).round().to(torch.uint8).chunk(len(small)))
        blur = optics.near and optics.blur
        near = reached(depth, box_max(depth, 1), blur)[1] if blur else depth
        beside = torch.where(near < depth, near if optics.near == "first" else len(small) - 1 - near, -1).round()
        return {"weights": levels, "depth": depth, "blur": blur, "near": beside, "sum": None}

    def _weights(self, small: Tensor) -> Tensor:
        """Weights of copies (N, 1, h, w), which sum to one; large ones in strips, so that their features fit."""
        network, (height, width) = self.decision.on(small.device), small.shape[-2:]
        rows = max(SEEN, AT_ONCE // (len(small) * width))
        parts = []
        for start in range(0, height, rows):
            first, last = max(0, start - SEEN), min(height, start + rows + SEEN)
            seen = network.each(list(small[..., first:last, :].chunk(len(small))))[:, 0]
            parts.append(seen[..., start - first : start - first + rows, :])
        return torch.cat(parts, -2)

    def _told(self, frames: Frames) -> Near:
        """The end that is near, by the option or by the focus distances that the camera wrote."""
        ends = [frames.settings[i].distance for i in (0, -1)]
        if self.near != "auto" or None in ends or ends[0] == ends[1]:
            return self.near
        return "first" if (ends[0] or 0) < (ends[1] or 0) else "last"

    def accumulate(self, state: dict[str, Any], frame: Frame, turn: int) -> dict[str, Any]:
        """A frame's copy, or its share of the sum."""
        height, width = frame.luma.shape[-2:]
        factor = reduction(height, width)
        if turn == 0:
            state["small"].append((255 * reduced(frame.luma, factor)).round().to(torch.uint8))
            return state
        weight, near = state["weights"][frame.index], state["near"] == frame.index
        for part in strips(height, width, 0, factor):
            low, high = part.place.start // factor, -(-part.place.stop // factor)
            few, shown = (..., slice(low, high), slice(None)), bool(near[..., low:high, :].any())
            if not weight[..., max(0, low - 1) : high + 1, :].any() and not shown and state["sum"] is not None:
                continue
            strip, rows = frame.rows(part.place), (..., part.place, slice(None))
            if state["sum"] is None:
                state["sum"] = strip.luma.new_zeros(1, strip.planes.shape[1], height, width)
                state["total"] = strip.luma.new_zeros(1, 1, height, width)
                state["beside"] = strip.luma.new_zeros(1, strip.planes.shape[1], *near.shape[-2:])
            image = strip.luma if state["sum"].shape[1] == 1 else strip.image
            if shown:
                state["beside"][few].addcmul_(near[few], reduced(image, factor))
            share = enlarged_rows(weight.float(), factor, part.place, width)
            state["sum"][rows].addcmul_(share, image)
            state["total"][rows].add_(share)
        return state

    def conclude(self, frames: Frames, state: dict[str, Any]) -> Tensor:
        """The planes of the mean, cleared; the depth goes to the report."""
        (height, width), factor = frames.size, reduction(*frames.size)
        fused, depth = state["sum"], state["depth"]
        for part in strips(height, width, 0):
            fused[..., part.place, :] /= state["total"][..., part.place, :].clamp_min_(1)
        whole = enlarged_rows(depth, factor, slice(0, height), width)
        frames.report.planes["depth"] = whole.div(max(1, len(frames) - 1)).clamp_(0, 1)
        if not state["blur"]:
            return frames.planes(fused)
        cover, spread = veil(few := reduced(fused, factor), depth, box_max(depth, 1), state["blur"])
        share = trusted(few, state["beside"], cover, spread)
        small = torch.cat([cover, share, spread, (1 - share) * state["beside"]], 1)
        for part in strips(height, width, 0):
            shown, image = enlarged_rows(small, factor, part.place, width), fused[..., part.place, :]
            cover, share, (spread, beside) = shown[:, :1], shown[:, 1:2], shown[:, 2:].chunk(2, 1)
            if cover.any():
                below = cleared(image, cover, spread).mul_(share).add_(beside)
                fused[..., part.place, :] = torch.where(cover > 0, below, image)
        return frames.planes(fused)


def _ordered(weights: Tensor, depth: Tensor, small: Tensor, optics: Optics) -> tuple[Tensor, Tensor]:
    """Weights, and depth from the near end, with thin things that were missed, and near regions as wide as they are."""
    last = len(small) - 1
    if not (optics.blur and optics.near):
        return weights, depth if optics.near != "last" else last - depth
    order = torch.arange(last + 1, dtype=torch.float32, device=small.device).view(-1, 1, 1, 1)
    if optics.near == "last":
        weights, depth, small = weights.flip(0), last - depth, small.flip(0)
    sharp = torch.cat([box_mean(sum_modified_laplacian(y), 1).add_(LEVEL) for y in small.chunk(last + 1)])
    shaped = slimmed(rescued(depth, sharp, optics.blur), small, sharp, optics.blur)
    around = F.unfold(F.pad(shaped, (1, 1, 1, 1), mode="replicate"), 3)
    shaped = around.median(1)[0].view_as(shaped)  # without single pixels
    moved = (shaped - depth).abs() > 0.5
    weights = torch.where(moved, ((shaped - order).abs() <= 0.5).float(), weights)
    return weights.flip(0) if optics.near == "last" else weights, shaped


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    """Σ_i W_i V_i over frames: (N, 1, h, w) each -> (1, 1, h, w)."""
    return (weights * values).sum(0, keepdim=True)
