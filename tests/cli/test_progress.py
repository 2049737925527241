"""Progress: a line with count, rate and time left; in a log once in a while, on a terminal in place."""

import io
import time

import pytest
from rich.console import Console

from fusionkit.cli import progress as module
from fusionkit.cli.progress import Progress, progress


@pytest.fixture
def log(monkeypatch):
    """What a command prints into a file, each state at once."""
    stream = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **more: Console(file=stream, width=80))
    monkeypatch.setattr(module, "EVERY", 0.0)
    return stream


def at(seconds: float, **state) -> str:
    return str(Progress(lambda one: None, began=time.monotonic() - seconds, **state))


def test_a_state_says_how_many_how_fast_and_how_long_still():
    assert at(100, unit="pairs", total=30, done=10, text="x") == "10 of 30 pairs, 0.1 pairs/s, 3:20 left: x"
    assert at(100, unit="frames", total=8010, done=10).endswith("0.1 frames/s, 22:13:20 left")
    assert at(10, unit="frames", done=50) == "50 frames, 5 frames/s"
    assert at(10, unit="pairs", total=3, done=3) == "3 of 3 pairs, 0.3 pairs/s"
    assert at(10, text="only a text") == "only a text"


def test_what_was_finished_before_says_nothing_of_the_rate():
    assert at(10, unit="pairs", total=40, done=30, before=20, text="x") == "30 of 40 pairs, 1 pairs/s, 0:10 left: x"
    assert at(10, unit="pairs", total=40, done=20, before=20) == "20 of 40 pairs"


def test_a_log_gets_lines_but_none_twice(log):
    with progress("pairs", 3) as state:
        for done in (1, 1, 2):
            state("a", done)
    lines = log.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["1 of 3 pairs", "2 of 3 pairs"]


def test_a_log_gets_a_line_only_once_in_a_while(log, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 1000.0)
    with progress("pairs", 3) as state:
        state("a", 1)
    assert log.getvalue() == ""


def test_a_count_is_looked_at_while_the_work_is_silent(log, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.01)
    counts = iter([5, 2, *range(3, 1000)])
    with progress("frames", 2000, count=lambda: next(counts)) as state:
        assert (state.done, state.before) == (5, 5)
        deadline = time.monotonic() + 10
        while "8 of 2000" not in log.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state.before == 2, "what was half finished began anew"
    assert "8 of 2000 frames" in log.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **more: Console(file=stream, width=80, force_terminal=True))
    with progress("pairs", 4) as state:
        state("one.png", 2)
    assert "2 of 4 pairs" in stream.getvalue()
    assert "one.png" in stream.getvalue()
