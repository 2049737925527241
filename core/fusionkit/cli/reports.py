"""Reports of commands: tables on the terminal, and files."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..storage.atomic import check_place, write_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def check_report(output: Path | None, *kinds: str, force: bool) -> None:
    """Refuse, before any work, a report of another kind (its extension) than these, or one that is there already."""
    if output is None:
        return
    if output.suffix.lower() not in kinds:
        expected = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
        raise OptionError(f"--output {output}: expected {expected}")
    check_place(output, replaceable=force)


def write_record(output: Path, record: Any) -> None:
    """Write a record as JSON; undefined values are null."""
    from ..scoring.statistics import nullable

    write_text(output, json.dumps(nullable(record), indent=2) + "\n")


def wide_enough(columns: int) -> "Console":
    """A console for tables: as wide as the terminal; in files and pipes, as wide as they need. Names are no markup."""
    from rich.console import Console

    console = Console(markup=False)
    return console if console.is_terminal else Console(width=max(console.width, columns), markup=False)


def finite(form: str, *values: float) -> str:
    """Print numbers by a format, such as the ends of an interval; those that are none are left out, "-" without any."""
    return " to ".join(format(value, form) for value in values if math.isfinite(value)) or "-"


def print_table(heads: Sequence[str], rows: Iterable[Sequence["RenderableType"]], columns: int = 0) -> None:
    """Print a table. columns: that it needs in files and pipes."""
    from rich import box
    from rich.table import Table

    table = Table(*heads, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    wide_enough(columns).print(table)
