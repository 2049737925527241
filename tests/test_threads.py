"""How PyTorch's threads wait, and tasks side by side."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from fusionkit.threads import POLICIES, TURNS, side_by_side


def told(code, **settings):
    """What a fresh interpreter prints, with no policy in its environment but these."""
    clean = {name: value for name, value in os.environ.items() if name not in POLICIES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | settings, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class TestWaiting:
    def test_importing_the_package_shortens_it_without_importing_torch(self):
        code = "import fusionkit, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
        assert told(code) == f"{TURNS[1]} False"

    @pytest.mark.parametrize("name", POLICIES)
    def test_what_the_user_set_stays(self, name):
        code = f"import fusionkit, os; print({{n: os.environ[n] for n in {POLICIES} if n in os.environ}})"
        assert told(code, **{name: "7"}) == str({name: "7"})

    def test_after_torch_it_is_too_late_and_said(self):
        code = "import sys; sys.modules['torch'] = None; import fusionkit.threads as t; print(t.waiting())"
        assert "too late" in told(code)
        assert "too late" not in told("import fusionkit.threads as t; print(t.waiting())")

    def test_processes_that_are_started_inherit_it(self):
        code = (
            "import fusionkit, subprocess, sys\n"
            "inner = 'import os, torch, fusionkit.threads as t; print(t.waiting())'\n"
            "print(subprocess.run([sys.executable, '-c', inner], capture_output=True, text=True).stdout)"
        )
        assert told(code) == "=".join(TURNS)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class TestSideBySide:
    def test_tasks_meet_and_have_one_thread_each(self, two_threads):
        together = threading.Barrier(2)

        def task(i):
            together.wait(timeout=30)  # never passed one after another
            return i, torch.get_num_threads()

        assert side_by_side(task, range(4)) == [(i, 1) for i in range(4)]

    def test_other_threads_keep_their_number(self, two_threads):
        side_by_side(str, range(2))
        seen = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert [torch.get_num_threads(), *seen] == [2, 2]

    def test_inside_of_itself_it_is_a_loop(self, two_threads):
        def outer(i):
            return side_by_side(lambda j: (j, threading.current_thread()), range(3)), threading.current_thread()

        for inner, mine in side_by_side(outer, range(4)):
            assert [j for j, _ in inner] == [0, 1, 2]
            assert {thread for _, thread in inner} == {mine}

    def test_an_error_is_the_callers(self, two_threads):
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda i: 1 // i, [1, 0, 2])

    def test_with_one_thread_nothing_is_started(self):
        assert set(side_by_side(lambda _: threading.current_thread(), range(3))) == {threading.current_thread()}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_forked_child_starts_its_own(self):
        code = (
            "import os, torch; from fusionkit.threads import side_by_side as s\n"
            "torch.set_num_threads(2); s(str, range(2)); pid = os.fork()\n"
            "if not pid: os._exit(0 if s(str, range(3)) == ['0', '1', '2'] else 1)\n"
            "print(os.waitpid(pid, 0)[1])"
        )
        assert told(code) == "0"
