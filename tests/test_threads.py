"""How PyTorch's threads wait, how many there are beside other programs, and tasks side by side."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fusionkit import Pipeline, threads
from fusionkit.scenes import infrared_visible
from fusionkit.threads import POLICIES, TURNS, on_free_cores, side_by_side


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


class TestOnFreeCores:
    @pytest.mark.parametrize(("others", "number"), [(0, 2), (1, 1), (7, 1)])
    def test_takes_what_others_leave(self, two_threads, monkeypatch, others, number):
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        monkeypatch.setattr(threads, "_other_tasks", lambda: others)
        with on_free_cores():
            assert torch.get_num_threads() == number
            seen = []
            new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            new.start()
            new.join()
        assert [torch.get_num_threads(), *seen] == [2, 2]

    def test_the_number_is_given_back_after_an_error(self, two_threads, monkeypatch):
        monkeypatch.setattr(threads, "_other_tasks", lambda: 1000)
        with pytest.raises(ZeroDivisionError), on_free_cores():
            print(1 // 0)
        assert torch.get_num_threads() == 2

    def test_one_thread_of_the_users_stays_one(self, monkeypatch):
        monkeypatch.setattr(threads, "_other_tasks", lambda: pytest.fail("was asked"))
        with on_free_cores():
            assert torch.get_num_threads() == 1

    def test_own_threads_that_spin_do_not_count(self, monkeypatch):
        files = {"loadavg": "0.1 0.2 0.3 4/99 7", "stat": "7 (a) R) R 1 2"}
        monkeypatch.setattr(os, "listdir", lambda path: ["7", "8"])
        monkeypatch.setattr(threads, "_words", lambda path: files[path.split("/")[-1]].rpartition(")")[2].split())
        assert threads._other_tasks() == 2
        files["stat"] = "7 (a) R) S 1 2"
        assert threads._other_tasks() == 4
        files["loadavg"] = "not Linux"
        assert threads._other_tasks() == 0

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
    def test_a_busy_program_counts(self):
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
            try:
                assert any(threads._other_tasks() for _ in range(100_000))
            finally:
                busy.kill()

    def test_no_sum_depends_on_the_number(self):
        found = []

        class Twice(TorchDispatchMode):
            """Computes reductions that are large enough for several threads by two as well."""

            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                once = function(*args, **(kwargs or {}))
                made = not function._schema.is_mutable and function._schema.returns[0].alias_info is None
                large = max((x.numel() for x in args if isinstance(x, torch.Tensor)), default=0)
                if made and large > 2**15 and isinstance(once, torch.Tensor) and once.numel() < large // 64:
                    torch.set_num_threads(2)
                    found.append((str(function), torch.equal(once, function(*args, **(kwargs or {})))))
                    torch.set_num_threads(1)
                return once

        images = [torch.from_numpy(x).movedim(-1, 0)[None].float() for x in infrared_visible((192, 256), seed=3)]
        pipeline = Pipeline(device="cpu")
        with Twice():
            pipeline.run(images)
        assert "aten.mean.dim" in dict(found)
        assert [name for name, same in found if not same] == []


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
