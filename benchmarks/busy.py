"""A clean pair and the usual metrics on quiet cores and beside busy processes.

Each in processes of its own: one thread; all, as PyTorch has them wait; all, as fusionkit has them wait. In turn, so
that other work on the machine meets all of them; the fastest of all runs counts.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORMS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "all, PyTorch's waiting": {"GOMP_SPINCOUNT": "300000"},
    "all, as it is": {},
}
POLICIES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SLOW = 5.0  # seconds after which a form is not run again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="768x1024", help="height x width")
    parser.add_argument("--runs", type=int, default=5, help="of each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each form")
    parser.add_argument("--busy", type=int, default=1, help="processes that keep a core each")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        measure(arguments.inside, arguments.size, arguments.runs)
        return
    for job in ("pair", "metrics"):
        for count in (0, arguments.busy):
            print(f"{job}, {count} busy", flush=True)
            with neighbours(count):
                compare(job, arguments)


def compare(job: str, arguments: argparse.Namespace) -> None:
    """Wall and CPU seconds of each form, and the wall's ratio to one thread's."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(arguments.rounds):
        for form, settings in FORMS.items():
            if best.get(form, (0.0, 0.0))[0] > SLOW:
                continue
            clean = {name: value for name, value in os.environ.items() if name not in POLICIES}
            how = ["--inside", job, "--size", arguments.size, "--runs", str(arguments.runs)]
            done = subprocess.run(
                [sys.executable, __file__, *how], env=clean | settings, stdout=subprocess.PIPE, text=True, check=True
            )
            wall, cpu = map(float, done.stdout.split())
            best[form] = min(best.get(form, (wall, cpu)), (wall, cpu))
    for form, (wall, cpu) in best.items():
        print(f"    {form:24} {wall:8.3f} s {cpu:8.3f} CPU s {wall / best['one thread'][0]:8.2f}", flush=True)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that compute without end."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure(job: str, size: str, runs: int) -> None:
    """Print the wall and CPU seconds of the fastest run after one that warms up."""
    from fusionkit import Pipeline  # before torch, which reads how its threads wait
    from fusionkit.contracts import Sources
    from fusionkit.scenes import infrared_visible
    from fusionkit.scoring.evaluation import score_images
    from fusionkit.scoring.metrics import load_metrics

    import torch  # isort: skip

    from fusionkit.numerics.window import gaussian_blur

    height, width = map(int, size.split("x"))
    made = infrared_visible((height, width))
    images = [gaussian_blur(torch.from_numpy(image).float().movedim(-1, 0)[None], 1.5) for image in made]
    pipeline, sources = Pipeline(device="cpu"), Sources.of(images)
    fused, metrics = {"average": (images[0] + images[1]) / 2}, load_metrics(None, None)

    def run() -> object:
        if job == "pair":
            return pipeline.run(images)
        return list(score_images(fused, sources, metrics, baselines=False))

    run()
    taken = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
        if taken[-1][0] > SLOW:
            break
    print(*min(taken))


if __name__ == "__main__":
    main()
