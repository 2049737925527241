"""A folder of pairs by one process and by several: seconds, their ratio, whether the bytes are the same, memory.

    python benchmarks/folders.py [--pairs 200] [--size 480 640] [--jobs 2] [--prior em_tv]

The pairs are eight procedural scenes, repeated. Wall seconds of the whole command with its start, in one run, one after
the other; memory is the largest that the parent and its workers had together, sampled.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fusionkit.scenes import infrared_visible
from fusionkit.writing import write_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--prior", default="em_tv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _make(root, options.pairs, tuple(options.size))
        seconds, digests = {}, {}
        for jobs in (1, options.jobs):
            command = ["run", "-q", "--restore", "none", "--prior", options.prior, "--jobs", str(jobs)]
            files = ["--pairs", str(root / "ir"), str(root / "vis"), "-o", str(root / f"out{jobs}")]
            start = time.perf_counter()
            process = subprocess.Popen([sys.executable, "-m", "fusionkit", *command, *files])
            most = _watch(process)
            seconds[jobs] = time.perf_counter() - start
            digests[jobs] = [
                hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((root / f"out{jobs}").glob("*.png"))
            ]
            print(
                f"{jobs} process(es): {seconds[jobs]:.1f} s, {options.pairs / seconds[jobs]:.1f} pairs/s, {most:.0f} MB"
            )
        same = digests[1] == digests[options.jobs]
        print(f"ratio {seconds[1] / seconds[options.jobs]:.2f}; the same bytes: {same}, {len(digests[1])} results")


def _make(root: Path, count: int, size: tuple[int, int]) -> None:
    scenes = [infrared_visible(size, seed=seed) for seed in range(8)]
    for folder, index in (("ir", 0), ("vis", 1)):
        (root / folder).mkdir()
        for i in range(count):
            write_image(root / folder / f"{i:05d}.png", scenes[i % 8][index].astype(np.float32), "8")


def _watch(process: "subprocess.Popen[bytes]") -> float:
    """Most megabytes that a process and its children hold at once, until it ends; 0 where /proc is not there."""
    most = 0.0
    while process.poll() is None:
        pages = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if process.pid in (parent, int(stat.parent.name)):
                    pages += int((stat.parent / "statm").read_text().split()[1])
            except (OSError, ValueError):
                continue
        most = max(most, pages * 4096 / 1e6)
        time.sleep(0.2)
    return most


if __name__ == "__main__":
    main()
