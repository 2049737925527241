"""Processes side by side: the order of one, the bytes of one, and what a killed process costs."""

import json
import os
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import numpy as np
import pytest

from fusionkit.engines.engine import TRIES, SerialEngine
from fusionkit.engines.processes import ProcessEngine, _Pending
from fusionkit.errors import OptionError
from fusionkit.scenes import infrared_visible
from fusionkit.writing import write_image
from harness import dies_once, lost, run_cli


def slow_first(task):
    time.sleep(0.3 if task == 0 else 0)
    return task, os.getpid()


def test_results_come_in_order_from_other_processes():
    found = list(ProcessEngine(2, lost).map(slow_first, range(8)))
    assert [task for task, _ in found] == list(range(8))
    assert os.getpid() not in {pid for _, pid in found}
    assert [task for task, _ in SerialEngine().map(slow_first, range(3))] == [0, 1, 2]
    assert list(ProcessEngine(2, lost).map(slow_first, [])) == []


def test_a_killed_process_costs_its_own_task_and_no_other(tmp_path):
    found = list(ProcessEngine(2, lost).map(partial(dies_once, tmp_path), range(8)))
    assert found == [(task, "lost" if task == 5 else "done") for task in range(8)]
    assert len(list(tmp_path.glob("2-*"))) == 2
    assert len(list(tmp_path.glob("5-*"))) == TRIES


def test_a_pool_that_breaks_before_a_task_is_handed_over_is_made_again(monkeypatch):
    original, calls = ProcessPoolExecutor.submit, []

    def submit(self, *given):
        calls.append(1)
        if len(calls) == 3:
            raise BrokenProcessPool("a worker died")
        return original(self, *given)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    assert [task for task, _ in ProcessEngine(2, lost).map(slow_first, range(6))] == list(range(6))


def test_what_cannot_be_sent_is_one_line():
    with pytest.raises(OptionError, match="`jobs=2`: the method cannot be sent"):
        next(ProcessEngine(2, lost).map(lambda task: task, range(3)))


def test_a_folder_by_two_processes_is_that_by_one(tmp_path):
    for seed in range(4):
        for folder, image in zip(("ir", "vis"), infrared_visible((48, 64), seed=seed), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_image(tmp_path / folder / f"{seed}.png", image.astype(np.float32), "8")
    (tmp_path / "ir" / "1.png").write_bytes(b"broken")
    rows = {}
    for jobs in (1, 2):
        out = tmp_path / f"out{jobs}"
        done = run_cli(
            "run", "--prior", "laplacian", "--pairs", tmp_path / "ir", tmp_path / "vis", "-o", out, "--jobs", jobs
        )
        assert (done.returncode, "3 fused, 0 finished before, 1 failed" in done.stdout) == (1, True), done.stderr
        lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
        rows[jobs] = [(r["key"], r["status"], r.get("output", {}).get("sha256")) for r in lines if r["event"] == "pair"]
        assert not list(out.glob(".*"))
    assert rows[1] == rows[2]
    again = run_cli(
        "run",
        "--prior",
        "laplacian",
        "--pairs",
        tmp_path / "ir",
        tmp_path / "vis",
        "-o",
        tmp_path / "out1",
        "--jobs",
        2,
    )
    assert "3 finished before, 1 failed" in again.stdout


def test_a_task_cancelled_with_its_broken_pool_is_started_again():
    future = Future()
    future.cancel()
    assert not _Pending("task", future).finished
