"""The engine and its workers. Imports nothing heavy: the command line derives its options from it."""

from typing import Annotated, Literal

from pydantic import Field

from ..options import Options, When
from ..storage.outcome import lost
from .engine import Engine, SerialEngine


class EngineOptions(Options):
    """The workers that run a batch."""

    engine: Literal["processes", "ray"] = Field(
        "processes", description="kind of workers: processes on this machine, or actors on a Ray cluster"
    )
    jobs: int = Field(
        0, ge=0, le=100_000, description="number of parallel workers; 0: one, or one per core of a Ray cluster"
    )
    address: Annotated[str, When("engine", "ray")] = Field(
        "",
        description="running Ray cluster, such as auto or ray://HOST:10001; by default one is started here",
    )

    def make(self) -> Engine:
        """Make the engine."""
        if self.engine == "ray":
            from .cluster import RayEngine

            return RayEngine(self.jobs, self.address, lost)
        if self.jobs <= 1:
            return SerialEngine()
        from .processes import ProcessEngine

        return ProcessEngine(self.jobs, lost)
