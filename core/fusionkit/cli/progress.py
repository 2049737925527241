"""Progress of a command: one changing line on a terminal, a line every few seconds in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["progress", "wide_enough"]

EVERY = 5.0  # seconds between lines in a log


@contextmanager
def progress(console: "Console") -> Iterator[Callable[[str], None]]:
    """Yield a function that prints the state of the command."""
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
        return
    last = time.monotonic()

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    yield line


def wide_enough(columns: int) -> "Console":
    """A console for tables: as wide as the terminal; in files and pipes, as wide as they need."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, columns))
