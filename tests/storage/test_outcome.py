"""One way to try a task, whatever it raises."""

from types import SimpleNamespace

import pytest

from fusionkit.errors import InputError, OutputError
from fusionkit.storage.atomic import stage
from fusionkit.storage.outcome import Outcome, Stopped, attempt, lost

TASK = SimpleNamespace(key="a.tar")


def raising(error):
    def work(task):
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "reason", "blame"),
    [
        (InputError("a.tar: is not there"), "is not there", "files"),
        (InputError("b.png: cannot be read"), "b.png: cannot be read", "files"),
        (ValueError("two\nlines"), "ValueError: two lines", ""),
        (SystemExit(0), "SystemExit: 0", ""),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device", "disk"),
        (MemoryError(), "MemoryError: ; a smaller `tile` or fewer `jobs` need less memory", ""),
    ],
)
def test_an_exception_is_one_line(error, reason, blame):
    outcome = attempt(raising(error), TASK)
    assert (outcome.key, outcome.status, outcome.reason, outcome.blame) == ("a.tar", "failed", reason, blame)


@pytest.mark.parametrize("error", [Stopped(130), KeyboardInterrupt()])
def test_a_stopped_program_ends(error):
    with pytest.raises(type(error)):
        attempt(raising(error), TASK)


def test_a_full_disk_is_told_from_an_output_that_cannot_be(tmp_path):
    def full(task):
        with stage(tmp_path / "x.png"):
            raise OSError(28, "No space left on device")

    assert attempt(full, TASK).blame == "disk"
    assert attempt(raising(OutputError("x.png: is a folder")), TASK).blame == "files"


def test_a_killed_task_has_failed():
    assert attempt(lambda task: Outcome(task.key), TASK).status == "done"
    assert lost(TASK).status == "failed"
    assert "killed" in lost(TASK).reason
