"""Frames a second, memory and flicker of a made video of 640x480 through `--task ivif`, with one process and with two.

    python benchmarks/video.py [--frames N] [--noise LEVELS]

A scene larger than the frames is panned over; both streams are H.264, 25 and 30 frames a second. Of the part of the
scene that all frames show, brought in place by the pan, which is known: warp error, the root mean square of what
changes from frame to frame, and flicker of second order, the mean of |f(k-1) - 2 f(k) + f(k+1)| / 2, both in levels of
the luma. With noise a third run cleans frame by frame, as if each was a shot of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fusionkit.scenes import infrared_visible

RUN = """
import resource, sys
from fusionkit.cli.app import main
from fusionkit.sources import ShotMemory
if sys.argv.pop(1) == "alone":
    ShotMemory.last = lambda memory, name: None
try:
    main()
finally:
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print("peak", most, spent, file=sys.stderr)
"""
HEIGHT, WIDTH = 480, 640
PAN = 70, 110  # pixels, down and right, over which the frames move


def write(path: Path, scene: np.ndarray, rate: int, count: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for k in range(count):
            y, x = place(k, rate)
            image = 255 * scene[y : y + HEIGHT, x : x + WIDTH]  # an infrared camera's noise has one channel, too
            image = (image + noise * rng.standard_normal(image.shape)).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(image, 3 // image.shape[2], 2), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def place(k: int, rate: int) -> tuple[int, int]:
    """Down and right in the scene of a frame's corner."""
    y, x = (int(speed * k / rate) % room for speed, room in ((10, PAN[0]), (20, PAN[1])))
    return y, x


def steadiness(path: Path, rate: int) -> tuple[float, float]:
    """Warp error and flicker of second order, levels."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray").astype(np.float32) for frame in container.decode(video=0)]
    parts, changes, bends = [], [], []
    for k, frame in enumerate(frames):
        y, x = place(k, rate)
        parts.append(frame[PAN[0] - y : HEIGHT - y, PAN[1] - x : WIDTH - x])
        if k >= 1:
            changes.append(np.square(parts[-1] - parts[-2]).mean())
        if k >= 2:
            bends.append(np.abs(parts[-3] - 2 * parts[-2] + parts[-1]).mean() / 2)
            del parts[0]
    return float(np.sqrt(np.mean(changes))), float(np.mean(bends))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--noise", type=float, default=0.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        infrared, visible = infrared_visible((HEIGHT + 80, WIDTH + 120), seed=3)
        write(folder / "ir.mp4", infrared, 25, arguments.frames * 25 // 30, arguments.noise, 1)
        write(folder / "vis.mp4", visible, 30, arguments.frames, arguments.noise, 2)
        runs = [("over time", 1), ("over time", 2)] + [("alone", 1)] * bool(arguments.noise)
        for how, jobs in runs:
            out = folder / f"{how.split()[0]}{jobs}.mp4"
            command = ["run", "--task", "ivif", "--jobs", str(jobs), "--segment", "5", "--device", "cpu"]
            if not arguments.noise:
                command += ["--restore", "none"]
            files = [str(folder / "ir.mp4"), str(folder / "vis.mp4"), "-o", str(out)]
            done = subprocess.run(
                [sys.executable, "-c", RUN, how, *command, *files], check=True, capture_output=True, text=True
            )
            row = json.loads(out.with_name(f"{out.stem}.manifest.jsonl").read_text())
            peak, spent = (float(word) for word in done.stderr.rpartition("peak ")[2].split())
            print(
                f"{how}, jobs {jobs}: {row['frames'] / row['seconds']:.1f} frames/s, {spent / row['frames']:.3f} CPU "
                f"seconds a frame, largest process {peak / 1e3:.0f} MB"
            )
        for file, rate in (("ir.mp4", 25), ("vis.mp4", 30), *((f"{h.split()[0]}{j}.mp4", 30) for h, j in runs)):
            warp, second = steadiness(folder / file, rate)
            print(f"{file}: warp error {warp:.2f}, flicker {second:.2f} levels")


if __name__ == "__main__":
    main()
