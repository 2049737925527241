"""Ray: a real cluster on this machine, whose processes are killed. Skipped where Ray is not installed."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fusionkit.engines.engine import TRIES
from fusionkit.scenes import infrared_visible
from fusionkit.writing import write_image
from harness import dies_once, lost

pytest.importorskip("ray", reason="needs the extra ray")

from fusionkit.engines.cluster import RayEngine

# Ray's own, of its threads and sockets when it ends
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
COUNT = int(os.environ.get("FUSIONKIT_RAY_PAIRS", "40"))


def run(*arguments, cwd, wait=True):
    command = [sys.executable, "-m", "fusionkit", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": cwd}
    if wait:
        return subprocess.run(command, check=False, **streams)
    return subprocess.Popen(command, start_new_session=True, **streams)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small pairs, one of them broken, and what one process makes of them."""
    root = tmp_path_factory.mktemp("pairs")
    for seed in range(COUNT):
        for folder, image in zip(("ir", "vis"), infrared_visible((48, 64), seed=seed), strict=True):
            (root / folder).mkdir(exist_ok=True)
            write_image(root / folder / f"{seed:03d}.png", image.astype(np.float32), "8")
    (root / "ir" / "001.png").write_bytes(b"broken")
    done = run("run", "--prior", "laplacian", "--pairs", "ir", "vis", "-o", "serial", cwd=root)
    assert done.returncode == 1, done.stdout
    return root


def made(folder: Path):
    return {p.name: p.read_bytes() for p in sorted(folder.glob("[0-9]*.png"))}


def entered(folder: Path):
    """Keys that are finished, and those that failed."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return {s: sorted({r["key"] for r in rows if r.get("status") == s}) for s in ("ok", "failed")}


def workers():
    """Processes that run the engine's actors."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "ray::_Worker" in line]


def test_a_killed_actor_costs_its_own_task_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # workers import the harness
    found = list(RayEngine(2, "", lost).map(partial(dies_once, tmp_path), range(8)))
    assert found == [(task, "lost" if task == 5 else "done") for task in range(8)]
    assert len(list(tmp_path.glob("2-*"))) == 2
    assert len(list(tmp_path.glob("5-*"))) == TRIES


def test_killed_workers_and_a_killed_driver_leave_what_one_process_makes(folders):
    arguments = ["run", "--prior", "laplacian", "--pairs", "ir", "vis", "-o", "ray", "--engine", "ray", "--jobs", "2"]
    driver = run(*arguments, cwd=folders, wait=False)
    try:
        deadline = time.monotonic() + 120
        while len(made(folders / "ray")) < COUNT // 5 and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.02)
        os.kill(workers()[0], signal.SIGKILL)
        while len(made(folders / "ray")) < COUNT // 2 and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.02)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    assert len(made(folders / "ray")) > 0
    again = run(*arguments, cwd=folders)
    assert again.returncode == 1, again.stdout
    assert made(folders / "ray") == made(folders / "serial")
    assert entered(folders / "ray") == entered(folders / "serial")
    assert not list((folders / "ray").glob(".*"))


def test_evaluation_and_ablation_are_those_of_one_process(folders, tmp_path):
    engines = {"serial": [], "ray": ["--engine", "ray", "--jobs", "2"]}
    for name, engine in engines.items():
        report = ["--no-cache", "--metrics", "EN,SSIM", "-o", tmp_path / f"{name}.csv"]
        done = run("evaluate", "--fused", "a=serial", "--pairs", "ir", "vis", *report, *engine, cwd=folders)
        assert done.returncode == 0, done.stdout
        grid = tmp_path / "grid.toml"
        grid.write_text(
            '[grid]\nprior = ["average", "max"]\n[data]\nscenes = "infrared-visible"\ncount = 2\nsize = [48, 64]\n'
            '[report]\nmetrics = ["EN"]\nattribution = "none"\n'
        )
        done = run("ablate", grid, "-o", tmp_path / name, *engine, cwd=folders)
        assert done.returncode == 0, done.stdout
    assert (tmp_path / "ray.csv").read_text() == (tmp_path / "serial.csv").read_text()
    ray, serial = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("ray", "serial"))
    assert [m["values"] for m in ray["methods"].values()] == [m["values"] for m in serial["methods"].values()]
    assert [c["id"] for c in ray["cells"]] == [c["id"] for c in serial["cells"]]


def test_an_address_without_a_cluster_is_one_line(folders):
    done = run("run", "--pairs", "ir", "vis", "-o", "none", "--engine", "ray", "--address", "127.0.0.1:1", cwd=folders)
    assert done.returncode == 2
    assert "no Ray cluster answers there" in done.stdout
