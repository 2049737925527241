"""Progress of a command: a bar on a terminal, a line every few seconds in a log; both with rate and time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 5.0  # seconds between lines in a log
LOOK = 0.5  # seconds between looks at a count that nobody reports


@dataclass
class Progress:
    """State of a command. unit: what is counted. total: how many there are, 0 where that is not known.

    before: how many were finished before this command, which says nothing about its rate.
    """

    show: Callable[["Progress"], None]
    unit: str = ""
    total: int = 0
    done: int = 0
    before: int = 0
    text: str = ""
    began: float = field(default_factory=time.monotonic)

    def __call__(self, text: str = "", done: int | None = None, total: int | None = None) -> None:
        """Show a new state; what is not given stays."""
        self.text = text or self.text
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.show(self)

    def __str__(self) -> str:
        """One line: how many of how many, how fast, how long still, and what now."""
        if not self.done and not self.total:
            return self.text
        unit, made = f" {self.unit}" if self.unit else "", self.done - self.before
        said = [f"{self.done} of {self.total}{unit}" if self.total else f"{self.done}{unit}"]
        if made > 0 and self.unit:
            rate = made / max(1e-9, time.monotonic() - self.began)
            said.append(f"{rate:.3g}{unit}/s")
            if self.total > self.done:
                said.append(f"{_clock((self.total - self.done) / rate)} left")
        return ", ".join(said) + (f": {self.text}" if self.text else "")


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(unit: str = "", total: int = 0, *, count: Callable[[], int] | None = None) -> Iterator[Progress]:
    """Yield the progress of a command, which is called with each new state.

    count: asked for the number that is done where the work reports it too rarely, as a long segment of a video.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with _bar(console) if console.is_terminal else nullcontext(_lines(console)) as show:
        state = Progress(show, unit, total)
        with _counted(state, count):
            yield state


@contextmanager
def _bar(console: "Console") -> Iterator[Callable[[Progress], None]]:
    """Draws a state as a bar with a line of text."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    with Bars(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=None)
        yield lambda state: bar.update(task, completed=state.done, total=state.total or None, description=str(state))


def _lines(console: "Console") -> Callable[[Progress], None]:
    """Prints a state that is new, at most once in a while."""
    last, said = time.monotonic(), ""

    def line(state: Progress) -> None:
        nonlocal last, said
        if time.monotonic() - last >= EVERY and f"{state.done} {state.text}" != said:
            last, said = time.monotonic(), f"{state.done} {state.text}"
            console.print(str(state), markup=False, highlight=False, soft_wrap=True)

    return line


@contextmanager
def _counted(state: Progress, count: Callable[[], int] | None) -> Iterator[None]:
    """Look at the count again and again, until the block ends."""
    if count is None:
        yield
        return
    state.done = state.before = count()
    over = Event()

    def look() -> None:
        while not over.wait(LOOK):
            done = count()
            state.before = min(state.before, done)  # what was half finished, or of another method, begins anew
            state(done=done)

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
