"""Where the time of a run goes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds a stage, summed over calls. settled: waits for what a device still computes; costs what it measures."""

    def __init__(self, settled: Callable[[], object] = lambda: None) -> None:
        self.seconds: dict[str, float] = {}
        self._settled = settled

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block as `name`."""
        self._settled()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._settled()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """Seconds with milliseconds, for the manifest."""
        return {name: round(value, 3) for name, value in self.seconds.items()}
