"""The application: its commands, and errors in one line."""

import difflib
import signal
import sys
from typing import Annotated, Any

import typer

from ..errors import FusionkitError
from ..extras import DISTRIBUTION, culprit
from ..memory import keep_pages
from ..storage.outcome import Stopped
from ..streams import own_streams
from .lazy import Commands

MEMORY = "not enough memory; a smaller --tile, smaller images or fewer at once need less"
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # Typer has its own copy of Click, which does not export it

app = typer.Typer(
    cls=Commands,
    name="fusionkit",
    help="Fuse registered images of one scene into one. Every part is a plug-in: see `fusionkit plugins list`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"fusionkit {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: an error that a user can cause is one line on stderr and exit code 2."""
    keep_pages()
    own_streams()
    signal.signal(signal.SIGTERM, _stopped)
    signal.signal(signal.SIGINT, _stopped)
    try:
        status = app(prog_name="fusionkit", standalone_mode=False)
    except Stopped:
        raise
    except (Exception, SystemExit) as error:
        from .messages import printable

        if reason := _reason(error):
            print(f"fusionkit: error: {printable(reason)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status)


def _reason(error: Any) -> str:
    """An error in a line, empty where help was printed instead; one of the program's own is raised again."""
    if isinstance(error, UsageError):
        return _misuse(error)
    if isinstance(error, FusionkitError):
        return str(error)
    if theirs := culprit(error):
        return theirs
    if isinstance(error, OSError):  # disks, permissions and names too long that nothing nearer has put into words
        return (f"{error.filename}: " if error.filename else "") + (error.strerror or str(error))
    if "null byte" in str(error):  # of the operating system, for any path
        return "a file's name holds a NUL byte, which no file can have; look through the tables and settings given"
    if isinstance(error, MemoryError) or "memory" in str(error):
        return MEMORY
    raise error


def _misuse(error: Any) -> str:
    """What is wrong with the words of a command, and the nearest option that exists, or the help that lists all."""
    command = error.ctx.command_path if error.ctx else " ".join(["fusionkit", *sys.argv[1:2]])
    possible = getattr(error, "possibilities", None) or ()
    near = difflib.get_close_matches(getattr(error, "option_name", ""), possible, n=1)
    said = error.message if possible else error.format_message().rstrip(".")
    way = f"; did you mean {near[0]}?" if near else f"; `{command} -h` says what it takes"
    return said and said[0].lower() + said[1:] + ("" if said.endswith("?") else way)


def _stopped(number: int, _: object) -> None:
    """Stop on Ctrl-C or SIGTERM: unfinished results are removed on the way out, finished ones stay."""
    print("fusionkit: stopped; what was finished is kept", file=sys.stderr)
    raise Stopped(128 + number)
