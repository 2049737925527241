"""What a user would otherwise run, at 768x1024: seconds, CPU seconds, memory, and what comes out.

    python benchmarks/neighbours.py [--runs N] [--openfocus PYTHON]

Each in a process of its own, one after another: one run to warm up, then medians; arrays in and out, files are not
timed; memory is the process's largest. OpenCV's forms always run; loops of diffusers and deepinv around fusionkit's own
network where those are installed; StackMFF V3 where `--openfocus` names a Python that has the package openfocus.
Quality: infrared and visible, with white noise of 20 levels on both, as PSNR to the same rule on the clean sources;
focus as PSNR to the picture that both were blurred from.
"""

import argparse
import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZE, NOISE = (768, 1024), 20.0
Images = list[np.ndarray]


def pair(task: str) -> Images:
    """Two uint8 images."""
    from scipy.ndimage import gaussian_filter
    from skimage import data
    from skimage.transform import resize

    from fusionkit.scenes import infrared_visible, multi_exposure

    if task == "focus":
        sharp = resize(data.coffee(), SIZE, anti_aliasing=True)
        near = (np.hypot(*(np.indices(SIZE) - np.array([384, 512]).reshape(2, 1, 1))) < 300).astype(float)[:, :, None]
        blurred = gaussian_filter(sharp, (3, 3, 0))
        images = (near * sharp + (1 - near) * blurred, near * blurred + (1 - near) * sharp, sharp)
    elif task == "exposures":
        images = multi_exposure(SIZE, seed=1)
    else:
        images = tuple(gaussian_filter(x, (1, 1, 0)) for x in infrared_visible(SIZE, seed=1))  # without its own noise
        if task == "noisy":
            rng = np.random.default_rng(0)
            images = tuple(x + NOISE / 255 * rng.standard_normal(x.shape) for x in images)
    return [(255 * x.clip(0, 1) + 0.5).astype(np.uint8) for x in images]


def pyramid(a: np.ndarray, b: np.ndarray, levels: int = 5) -> np.ndarray:
    """Luma by the larger band, its base averaged; colour of the second."""
    import cv2

    def bands(x: np.ndarray) -> Images:
        found = []
        for _ in range(levels):
            small = cv2.pyrDown(x)
            found.append(x - cv2.pyrUp(small, dstsize=x.shape[1::-1]))
            x = small
        return [*found, x]

    color = cv2.cvtColor(b, cv2.COLOR_RGB2YCrCb)
    grey = a[:, :, 0] if a.shape[2] == 1 else cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)
    first, second = bands(grey.astype(np.float32)), bands(color[:, :, 0].astype(np.float32))
    x = (first[-1] + second[-1]) / 2
    for p, q in zip(first[-2::-1], second[-2::-1], strict=True):
        x = cv2.pyrUp(x, dstsize=p.shape[1::-1]) + np.where(np.abs(p) >= np.abs(q), p, q)
    color[:, :, 0] = x.round().clip(0, 255)
    return cv2.cvtColor(color, cv2.COLOR_YCrCb2RGB)


def mertens(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    import cv2

    return (255 * cv2.createMergeMertens().process([a, b])).round().clip(0, 255).astype(np.uint8)


def non_local_means(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    import cv2

    clean = cv2.fastNlMeansDenoising(a, None, NOISE)
    colored = cv2.fastNlMeansDenoisingColored(b, None, 0.67 * NOISE, 0.67 * NOISE)
    return pyramid(clean[:, :, None], colored)


def by_planes(clean: Callable[[Any, float], Any]) -> Callable[..., np.ndarray]:
    """Infrared, Y, Cr and Cb through `clean(plane in [0, 1], deviation)`, then OpenCV's pyramid."""

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        import cv2
        import torch

        color = cv2.split(cv2.cvtColor(b, cv2.COLOR_RGB2YCrCb))
        done = []
        for plane, share in zip((a[:, :, 0], *color), (1.0, 0.669, 0.657, 0.623), strict=True):
            x = torch.from_numpy(np.ascontiguousarray(plane)).float()[None, None] / 255
            cleaned = clean(x, share * NOISE / 255)[0, 0].clamp(0, 1)
            done.append((255 * cleaned + 0.5).to(torch.uint8).numpy())
        return pyramid(done[0][:, :, None], cv2.cvtColor(cv2.merge(done[1:]), cv2.COLOR_YCrCb2RGB))

    return run


def network() -> Any:
    from fusionkit.numerics.precision import arithmetic
    from fusionkit_backbones.rf import RectifiedFlow, RFOptions

    flow = RectifiedFlow(RFOptions())
    flow.prepare()

    def velocity(x: Any, t: float) -> Any:
        import torch

        with torch.no_grad(), arithmetic(x.device, "bfloat16"):
            return flow.velocity(x, torch.full((1,), t)).float()

    return velocity


def diffusers_loop() -> Callable[..., np.ndarray]:
    """Its Euler scheduler, four steps from the noise's own place on the path: our idea, lent."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    velocity = network()

    def clean(plane: Any, deviation: float) -> Any:
        t = 2 * deviation / (1 + 2 * deviation)
        x, scheduler = (1 - t) * (2 * plane - 1), FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=np.linspace(t, 0, 5)[:-1].tolist())
        for step in scheduler.timesteps:
            x = scheduler.step(velocity(x, float(step) / 1000), step, x).prev_sample
        return (x + 1) / 2

    return by_planes(clean)


def deepinv_loop() -> Callable[..., np.ndarray]:
    """Its DPIR, eight iterations, as it stands, around our network as a denoiser; the deviation is told."""
    import deepinv
    import torch

    velocity = network()

    class Denoiser(deepinv.models.Denoiser):
        def forward(self, x: Any, sigma: Any = None, **_: Any) -> Any:
            deviation = float(2 * torch.as_tensor(sigma).reshape(-1)[0].clamp(5e-4, 0.33))
            t = deviation / (1 + deviation)
            noisy = (1 - t) * (2 * x - 1)
            return (noisy - t * velocity(noisy, t) + 1) / 2

    def clean(plane: Any, deviation: float) -> Any:
        physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(deviation))
        with torch.no_grad():
            return deepinv.optim.DPIR(sigma=deviation, denoiser=Denoiser())(plane, physics).float()

    return by_planes(clean)


def openfocus() -> Callable[..., np.ndarray]:
    """StackMFF V3, exposures not matched, which serves these pairs better than its default."""
    from core.cli import _fuse_stack, build_parser

    arguments = build_parser().parse_args(["-i", "x", "--cpu", "--no-exposure-match"])

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            return _fuse_stack([x[:, :, ::-1].copy() for x in (a, b)], arguments)[:, :, ::-1]

    return run


METHODS: dict[str, dict[str, Callable[[], Callable[..., np.ndarray]] | None]] = {
    "clean": {"fusionkit": None, "OpenCV pyramid": lambda: pyramid},
    "noisy": {
        "fusionkit": None,
        "OpenCV non-local means, pyramid": lambda: non_local_means,
        "diffusers, 4 Euler steps, pyramid": diffusers_loop,
        "deepinv DPIR, pyramid": deepinv_loop,
    },
    "exposures": {"fusionkit": None, "OpenCV Mertens": lambda: mertens},
    "focus": {"fusionkit": None, "StackMFF V3": openfocus},
}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def one(task: str, name: str, runs: int, given: str | None) -> None:
    """In this process; one JSON object."""
    images = pair(task) if given is None else list(np.load(given).values())
    make = METHODS[task][name]
    if make is None:
        from fusionkit import Pipeline

        run: Callable[..., np.ndarray] = Pipeline(device="cpu").fuse
    else:
        run = make()
    run(*images[:2])
    walls, cpus = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        result = run(*images[:2])
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    quality = (
        psnr(result, run(*pair("clean"))) if task == "noisy" else psnr(result, images[2]) if task == "focus" else None
    )
    print(json.dumps([statistics.median(walls), statistics.median(cpus), memory, quality]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--openfocus", metavar="PYTHON", default="")
    parser.add_argument("--one", nargs=3, metavar=("TASK", "NAME", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], arguments.one[1], arguments.runs, arguments.one[2] or None)
        return
    print(f"{'task':10} {'method':34} {'s':>7} {'CPU s':>7} {'MB':>6} {'dB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for task, methods in METHODS.items():
            for name in methods:
                python, given = sys.executable, ""
                if name == "StackMFF V3":
                    if not arguments.openfocus:
                        continue
                    python, given = arguments.openfocus, f"{folder}/pair.npz"
                    np.savez(given, *pair(task))
                call = [python, __file__, "--runs", str(arguments.runs), "--one", task, name, given]
                done = subprocess.run(call, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{task:10} {name:34} left out: {done.stderr.strip().splitlines()[-1][:80]}")
                    continue
                wall, cpu, memory, quality = json.loads(done.stdout.splitlines()[-1])
                shown = "" if quality is None else f"{quality:6.2f}"
                print(f"{task:10} {name:34} {wall:7.3f} {cpu:7.3f} {memory:6.0f} {shown:>6}", flush=True)


if __name__ == "__main__":
    main()
