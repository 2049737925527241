"""Peak memory and seconds a frame of focus stacks and brackets of many frames, files included.

A few pictures are made by code and named again and again, as a series of `--frames` files. Seconds a frame are those of
the frames beyond the first ten: what reading a few frames, starting and writing take does not count twice.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from fusionkit.scenes import infrared_visible

DISTINCT = 5  # files that are made
RUN = "from fusionkit.cli.app import main; main()"


def make(folder: Path, task: str, height: int, width: int) -> list[Path]:
    """Frames of a scene: of several exposures, or each sharp in one part."""
    least = min(height, 1500), min(width, 2000)
    often = (-(-height // least[0]), -(-width // least[1]), 1)
    _, scene = infrared_visible(least)
    scene = np.tile(np.asarray(scene, np.float32), often)[:height, :width]
    grain = np.random.default_rng(0).normal(0, 0.02, scene.shape).astype(np.float32)
    scene, blurred, files = (scene + grain).clip(0, 1), ndimage.uniform_filter(scene, (9, 9, 0)), list[Path]()
    for i in range(DISTINCT):
        if task == "mef":
            frame = (scene**2.2 * 2.0 ** (1.5 * (i - DISTINCT // 2))).clip(0, 1) ** (1 / 2.2)
        else:
            near = np.abs(np.linspace(0, DISTINCT, width) - i - 0.5)[None, :, None] < 0.6
            frame = np.where(near, scene, blurred)
        files.append(folder / f"made{i}.jpg")
        exif = Image.Exif()
        exif[271], exif[272] = "Made", "by code"
        if task == "mef":
            exif.get_ifd(0x8769)[33434] = 2.0 ** (1.5 * i) / 100
        Image.fromarray((255 * frame + 0.5).astype(np.uint8)).save(files[-1], quality=92, exif=exif)
    return files


def measure(made: list[Path], count: int, task: str, more: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and peak memory in GB of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder, kinds = Path(name), sorted(made)
        files = [folder / f"{i:03}.jpg" for i in range(count)]
        for i, file in enumerate(files):
            os.symlink(kinds[i * len(kinds) // count], file)
        output = folder / "fused.png"
        command = ["run", "--task", task, "--device", "cpu", *more, *map(str, files), "-o", str(output)]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", RUN, *command], check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        row = json.loads((folder / "fused.manifest.jsonl").read_text())
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, spent, row["peak_memory_mb"] / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 6000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, nargs="+", default=(10, 30, 100))
    parser.add_argument("--task", choices=("mef", "mff"), default="mef")
    parser.add_argument("more", nargs="*", help="options of `fusionkit run`, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made, first = make(Path(name), arguments.task, *arguments.size), None
        for count in arguments.frames:
            seconds, spent, peak = measure(made, count, arguments.task, arguments.more)
            line = f"{count} frames of {arguments.size[0] * arguments.size[1] / 1e6:.0f} MP: {seconds:.1f} s, "
            line += f"{spent:.1f} s of the processor, peak {peak:.2f} GB"
            if first is not None:
                more = count - first[0]
                line += f"; a further frame {(seconds - first[1]) / more:.2f} s, {(spent - first[2]) / more:.2f} s"
            first = first or (count, seconds, spent)
            print(line, flush=True)


if __name__ == "__main__":
    main()
