"""How far a command is: one line that changes on a terminal, a line now and then in a log."""

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
    """A function that says where the command is."""
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
    """A console for tables: a terminal's own width, in files and pipes as wide as they need."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, columns))
