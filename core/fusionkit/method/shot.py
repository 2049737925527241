"""The state of a video's shot: frames that are fused alike, so that nothing flickers."""

from typing import Any

from ..contracts import ShotMemory

__all__ = ["Shot"]


class Shot:
    """What the frames of one shot share.

    memory: of the method itself, its kinds of scene, noise and places fixed by the first frame, with a part for each
    stage and each degradation. prior: the prior's last state in the frame before.
    """

    def __init__(self) -> None:
        self.memory = ShotMemory()
        self.prior: Any = None

    def settle(self) -> None:
        """Forget averages and the prior's state, keep what the first frame fixed."""
        self.prior = None
        self.memory.settle()
