"""Muon: momentum whose steps are made orthogonal, for the weights of hidden layers; Adam for all others."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM, DECAY = 0.95, 0.01  # share of the average that stays at a step; of the weights that goes, times the rate
ADAM = 0.1  # rate of AdamW beside Muon's


class Muon(torch.optim.Optimizer):
    """W <- W - lr sqrt(max(1, rows / columns)) U, with U the orthogonal factor of the averaged gradient.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). A convolution's weight is a matrix
    of its output channels by all else. Half as many steps as Adam for the shipped flow's network. Parameters that are
    no matrices, or thin ones (at most 8 rows or columns), go to AdamW at a tenth of the rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        every = list(parameters)
        wide = [p for p in every if p.ndim > 1 and min(p.shape[0], p.shape[1]) > 8]
        names = {id(p) for p in wide}
        self._adam = torch.optim.AdamW([p for p in every if id(p) not in names], lr=ADAM * lr, betas=(0.9, 0.99))
        super().__init__(wide, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change the parameters by one step."""
        for group in self.param_groups:
            for own in self._adam.param_groups:
                own["lr"] = ADAM * group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - MOMENTUM)
                direction = orthogonalised(p.grad.lerp(average, MOMENTUM).flatten(1)).view_as(p)
                rows, columns = p.shape[0], p[0].numel()
                p.mul_(1 - DECAY * group["lr"])
                p.add_(direction, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))
        self._adam.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset all gradients."""
        super().zero_grad(set_to_none)
        self._adam.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return both optimisers' states."""
        return {**super().state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both optimisers' states."""
        state = dict(state_dict)
        self._adam.load_state_dict(state.pop("adam"))
        super().load_state_dict(state)


def orthogonalised(g: Tensor, steps: int = 5) -> Tensor:
    """Approximate U Vᵀ of a matrix g = U S Vᵀ by Newton-Schulz iterations: singular values between 0.7 and 1.2."""
    x = g.mT if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if g.shape[0] > g.shape[1] else x
