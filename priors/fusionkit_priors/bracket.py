"""Brackets of many frames with the gradients of all: the E-step of `em_tv` as sums over frames."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fusionkit.contracts import Frame, Frames
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.strips import strips

from .decision import Decision
from .evidence import frame_gradient, grain_floor, own_energy
from .exposure import Bracket

Solve = Callable[[Tensor, Callable[[slice], tuple[Tensor, Tensor]], Tensor, Tensor], Tensor]
"""The M-step: of T, which it may overwrite, G at given rows, and the least and largest luma of all frames."""


class ExplainedBracket(Bracket):
    """The mixture's contrast is that of the frame with the strongest gradient at each place, as few frames have it.

    Σ_i a_i ∇S_i and Σ_i a_i are sums over frames: a_i is the squared energy of ∇S_i, times the contrast of the tone to
    the fourth. Mixed alone, edges of many frames would be averaged. State: three planes more.
    """

    def __init__(self, decision: Decision, solve: Solve) -> None:
        super().__init__(decision)
        self.solve = solve

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """Empty sums."""
        begun = super().begin(frames, state, turn)
        return {**begun, "gradients": torch.zeros(1, 3, *frames.size, device=frames.device)} if turn else begun

    def accumulate(self, state: dict[str, Any], frame: Frame, turn: int) -> dict[str, Any]:
        """Add a frame's gradient, as far as it explains the result's."""
        state = super().accumulate(state, frame, turn)
        if not turn:
            return state
        (height, width), floor = frame.luma.shape[-2:], grain_floor(frame.luma)
        for part in strips(height, width, 2):
            gx, gy, weight = frame_gradient(frame.luma[..., part.rows, :], floor)
            for i, plane in enumerate((gx.mul_(weight), gy.mul_(weight), weight)):
                state["gradients"][:, i : i + 1, part.place].add_(plane[..., part.inner, :])
        return state

    def finished(self, toned: Tensor, contrast: Tensor, state: dict[str, Any]) -> Tensor:
        """The M-step's answer."""
        floor, sums, share = grain_floor(toned), state.pop("gradients"), contrast**4
        mixture = toned.clone()  # which gives the gradients while the answer is made

        def explained(rows: slice) -> tuple[Tensor, Tensor]:
            cx, cy = gradient(mixture[..., rows, :])
            own, (x, y, total) = own_energy(cx, cy, floor), sums[..., rows, :].mul(share).chunk(3, 1)
            total = total.add_(own)
            return x.add_(cx.mul_(own)).div_(total), y.add_(cy.mul_(own)).div_(total)

        return self.solve(toned, explained, state["low"], state["high"])
