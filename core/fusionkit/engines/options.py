"""Which engine, and how many workers. Imports nothing heavy: the command line is made from it."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from ..options import Options
from ..storage.outcome import lost
from .engine import Engine, SerialEngine

__all__ = ["EngineOptions"]


class EngineOptions(Options):
    """Who does the work."""

    engine: Literal["processes", "ray"] = Field(
        "processes", description="processes of this machine, or actors of a Ray cluster"
    )
    jobs: int = Field(
        0, ge=0, le=100_000, description="workers side by side; 0: one, or as many as a Ray cluster has cores"
    )
    address: str = Field(
        "", description="of a running Ray cluster, such as auto or ray://HOST:10001; by default one is started here"
    )

    def make(self, lost: Callable[[Any], Any] = lost) -> Engine:
        """The engine; `lost(task)` is the result of a task whose process was killed each time."""
        if self.engine == "ray":
            from .cluster import RayEngine

            return RayEngine(self.jobs, self.address, lost)
        if self.jobs <= 1:
            return SerialEngine()
        from .processes import ProcessEngine

        return ProcessEngine(self.jobs, lost)
