"""Frames a second, memory and flicker of a made video of 640x480 through `--task ivif`, with one process and with two.

    python benchmarks/video.py [--frames N] [--noise LEVELS]

A scene larger than the frames is panned over; both streams are H.264, 25 and 30 frames a second. Flicker: how far a
frame's mean luma is from a running average over nine frames, levels, on average, of the sources and of the result.
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
try:
    main()
finally:
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print("peak", most, file=sys.stderr)
"""
HEIGHT, WIDTH = 480, 640


def write(path: Path, scene: np.ndarray, rate: int, count: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for k in range(count):
            y, x = (int(speed * k / rate) % room for speed, room in ((10, 70), (20, 110)))
            image = 255 * np.broadcast_to(scene[y : y + HEIGHT, x : x + WIDTH], (HEIGHT, WIDTH, 3))
            image = (image + noise * rng.standard_normal(image.shape)).clip(0, 255)
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def flicker(path: Path) -> float:
    with av.open(str(path)) as container:
        means = np.array([frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)])
    smooth = np.convolve(means, np.ones(9) / 9, "valid")
    return float(np.abs(means[4:-4] - smooth).mean())


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
        for jobs in (1, 2):
            out = folder / f"out{jobs}.mp4"
            command = ["run", "--task", "ivif", "--jobs", str(jobs), "--segment", "5", "--device", "cpu"]
            if not arguments.noise:
                command += ["--restore", "none"]
            files = [str(folder / "ir.mp4"), str(folder / "vis.mp4"), "-o", str(out)]
            done = subprocess.run(
                [sys.executable, "-c", RUN, *command, *files], check=True, capture_output=True, text=True
            )
            row = json.loads((folder / f"out{jobs}.manifest.jsonl").read_text())
            peak = int(done.stderr.rpartition("peak ")[2]) / 1e3
            print(f"jobs {jobs}: {row['frames'] / row['seconds']:.1f} frames/s, largest process {peak:.0f} MB")
        levels = ", ".join(f"{name} {flicker(folder / name):.3f}" for name in ("ir.mp4", "vis.mp4", "out1.mp4"))
        print(f"flicker, levels: {levels}")


if __name__ == "__main__":
    main()
