"""Where the time of a run goes, and how much memory it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch", "peak_memory_mb"]


class Stopwatch:
    """Seconds a stage, summed over calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block as `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """Seconds with milliseconds, for the manifest."""
        return {name: round(value, 3) for name, value in self.seconds.items()}


def peak_memory_mb() -> float | None:
    """Largest resident size of this process so far, in MB (1e6 bytes); None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
