"""Focus stacks rendered with true occlusion: error near edges of depth, PSNR, seconds and memory beside other tools.

    python benchmarks/stacks.py --images KODAK [--scenes N] [--openfocus PYTHON] [--shinestacker PYTHON] [--keep FOLDER]

Scenes: crops of photographs (512x384) as layers, cut out by blobs and hairs, flat or inclined, before a ground that may
recede; a thin lens with a round opening, 3 to 30 frames, discs that grow by 0.8 to 1.5 pixels a frame; noise of half a
level, 8 bits. Errors are to the picture in which all is in focus, in levels of 255; "edges": within 12 pixels of a step
of depth, root mean square and mean absolute. Each tool in a process of its own with one thread, arrays in and out
(enfuse: files): CPU seconds for a stack, and the process's largest memory. StackMFF V3 and the other methods of
openfocus where `--openfocus` names a Python with that package, shinestacker likewise, enfuse where it is installed.
--keep: where stacks and results are left, to be looked at.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE, GAMMA, NOISE, EDGE = (384, 512), 2.2, 0.5, 12
# frames, growth of the discs in pixels a frame
STACKS = ((3, 1.5), (6, 1.2), (8, 1.2), (8, 1.5), (12, 0.8), (12, 1.2), (20, 1.0), (30, 0.8))
OPENFOCUS = ("stackmffv3", "openfocus_a", "openfocus_b", "openfocus_c", "guided_filter", "gfgfgf", "dct")
Images = list[np.ndarray]


def blobs(rng: np.random.Generator) -> np.ndarray:
    """Cover with edges one pixel wide."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal(SIZE), rng.uniform(15, 45), mode="wrap")
    noise = noise / noise.std() + rng.uniform(-1.3, -0.2)
    return (noise / (np.hypot(*np.gradient(noise)) + 1e-4) + 0.5).clip(0, 1)


def hairs(rng: np.random.Generator) -> np.ndarray:
    """Cover of bent bars."""
    y, x = np.indices(SIZE)
    cover, width = np.zeros(SIZE), 1.5 + 3 * rng.uniform()
    for _ in range(rng.integers(4, 14)):
        angle, cx, cy, bend = rng.uniform(0, np.pi), *rng.uniform(0, SIZE[::-1]), rng.uniform(-2e-3, 2e-3)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle) + bend * along**2
        bar = (width * rng.uniform(0.5, 1.5) - abs(across) + 0.5).clip(0, 1)
        cover = np.maximum(cover, bar * (rng.uniform(0.15, 0.5) * SIZE[0] - abs(along) + 0.5).clip(0, 1))
    return cover


def layers(photographs: Images, rng: np.random.Generator) -> list[Any]:
    """The ground and two to four things before it, the farthest first."""
    from fusionkit.scenes import Layer

    def light() -> np.ndarray:
        photo = photographs[rng.integers(len(photographs))]
        top, left = (rng.integers(a - b + 1) for a, b in zip(photo.shape, SIZE, strict=False))
        return (photo[top : top + SIZE[0], left : left + SIZE[1]] / 255) ** GAMMA * rng.uniform(0.4, 1)

    def plane(centre: float, span: float) -> np.ndarray:
        y, x = np.meshgrid(np.linspace(-1, 1, SIZE[0]), np.linspace(-1, 1, SIZE[1]), indexing="ij")
        angle = rng.uniform(0, 2 * np.pi)
        return (centre + span * (x * np.cos(angle) + y * np.sin(angle)) / 1.4).clip(0, 1)

    made = [Layer(light(), np.ones(SIZE), plane(0.9, rng.choice([0, 0.1, 0.5])))]
    for depth in np.sort(rng.uniform(0, 0.85, rng.integers(2, 5)))[::-1]:
        cover = hairs(rng) if rng.uniform() < 0.35 else blobs(rng)
        made.append(Layer(light(), cover, plane(depth, rng.uniform(0, 0.15) * (rng.uniform() < 0.5))))
    return made


def render(photographs: Images, number: int) -> dict[str, np.ndarray]:
    """Frames in 8 bits, the picture that is all in focus, and where depth has edges."""
    from scipy.ndimage import distance_transform_edt, grey_dilation, grey_erosion

    from fusionkit.scenes import through_lens

    rng = np.random.default_rng(number)
    scene, (count, growth) = layers(photographs, rng), STACKS[number % len(STACKS)]
    frames = []
    for focus in np.linspace(0, 1, count):
        taken = through_lens(scene, focus, growth * (count - 1)).clip(0, 1) ** (1 / GAMMA)
        frames.append((255 * taken + NOISE * rng.standard_normal(taken.shape)).clip(0, 255).round().astype(np.uint8))
    depth = np.zeros(SIZE)
    for layer in scene:
        depth = np.where(layer.cover > 0.5, layer.depth, depth)
    step = grey_dilation(depth, 3) - grey_erosion(depth, 3) > 0.1
    sharp = 255 * through_lens(scene, 0, 0).clip(0, 1) ** (1 / GAMMA)
    return {"frames": np.stack(frames), "sharp": sharp, "edges": distance_transform_edt(~step) < EDGE}


def fusionkit() -> Callable[[Images], np.ndarray]:
    from fusionkit import Pipeline

    fuse = Pipeline(device="cpu", prior="em_tv", prior_options={"evidence": "focus"}).fuse
    return lambda frames: np.asarray(fuse(*frames))


def openfocus(method: str) -> Callable[[Images], np.ndarray]:
    """Exposures not matched, which serves these stacks better than its default."""
    cli = importlib.import_module("core.cli")
    arguments = cli.build_parser().parse_args(
        ["-i", "x", "--cpu", "--no-exposure-match", "--threads", "1", "-m", method]
    )

    def run(frames: Images) -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            return cli._fuse_stack([x[:, :, ::-1].copy() for x in frames], arguments)[:, :, ::-1]

    return run


def shinestacker(name: str) -> Callable[[Images], np.ndarray]:
    """Its two algorithms without its programs, whose window toolkit is not needed."""
    if importlib.util.find_spec("PySide6") is None:
        paths = type("QStandardPaths", (), {"writableLocation": staticmethod(lambda _: tempfile.gettempdir())})
        paths.__getattr__ = lambda *_: 0  # type: ignore[attr-defined]
        qt = types.ModuleType("PySide6.QtCore")
        qt.QStandardPaths = paths()  # type: ignore[attr-defined]
        sys.modules |= {"PySide6": types.ModuleType("PySide6"), "PySide6.QtCore": qt}
    import cv2

    module = importlib.import_module(f"shinestacker.algorithms.{'pyramid' if name == 'PyramidStack' else 'depth_map'}")
    quiet: Any = type("Quiet", (), {"id": 0, "name": "", "input_path": "", "output_path": ""})()
    quiet.callback = quiet.sub_message_r = quiet.sub_message = lambda *_, **__: True

    def run(frames: Images) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            names = [f"{folder}/{i:03}.png" for i in range(len(frames))]
            for path, x in zip(names, frames, strict=True):
                cv2.imwrite(path, x[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
            stack = getattr(module, name)()
            stack.set_process(quiet)
            stack.init(names)
            stack.total_steps(len(names))
            return stack.focus_stack()[:, :, ::-1]

    return run


def enfuse() -> Callable[[Images], np.ndarray]:
    """Contrast weights alone and a hard mask, as its manual has it for focus stacks."""
    from PIL import Image

    options = ["--exposure-weight=0", "--saturation-weight=0", "--contrast-weight=1", "--hard-mask"]

    def run(frames: Images) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            names = [f"{folder}/{i:03}.tif" for i in range(len(frames))]
            for path, x in zip(names, frames, strict=True):
                Image.fromarray(x).save(path)
            subprocess.run(["enfuse", *options, "-o", f"{folder}/out.tif", *names], check=True, capture_output=True)
            return np.asarray(Image.open(f"{folder}/out.tif").convert("RGB"))

    return run


def methods(arguments: argparse.Namespace) -> dict[str, tuple[str, Callable[[], Callable[[Images], np.ndarray]]]]:
    """By name: the Python that runs it, and what makes it."""
    found: dict[str, tuple[str, Callable[[], Callable[[Images], np.ndarray]]]] = {
        "fusionkit": (sys.executable, fusionkit)
    }
    if arguments.openfocus:
        found |= {f"openfocus {m}": (arguments.openfocus, lambda m=m: openfocus(m)) for m in OPENFOCUS}
    if arguments.shinestacker:
        for name in ("PyramidStack", "DepthMapStack"):
            found[f"shinestacker {name}"] = (arguments.shinestacker, lambda name=name: shinestacker(name))
    if shutil.which("enfuse"):
        found["enfuse"] = (sys.executable, enfuse)
    for name, flag in (("openfocus", arguments.openfocus), ("shinestacker", arguments.shinestacker)):
        if not flag:
            print(f"{name}: left out, since --{name} names no Python that has it", file=sys.stderr)
    return found


def one(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """In this process: all stacks of a folder by one method; prints JSON, CPU seconds for each and the memory."""
    run, seconds = methods(arguments)[name][1](), []
    paths = sorted(folder.glob("*.npz"))
    run(list(np.load(paths[0])["frames"][:3]))  # to warm up
    for path in paths:
        frames, before = list(np.load(path)["frames"]), _cpu()
        result = run(frames)
        seconds.append(_cpu() - before)
        np.save(path.with_suffix(f".{name.replace(' ', '-')}.npy"), result)
    # that of this program alone: `ru_maxrss` holds what forked it, too
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    usage = max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(json.dumps([sum(seconds) / len(seconds), usage * 1024 / 1e6]))


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Render, run every method, print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path())
    parser.add_argument("--scenes", type=int, default=len(STACKS))
    parser.add_argument("--openfocus", metavar="PYTHON", default="")
    parser.add_argument("--shinestacker", metavar="PYTHON", default="")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], Path(arguments.one[1]), arguments)
        return
    from PIL import Image

    paths = sorted(p for p in arguments.images.iterdir() if p.suffix.lower() in (".jpg", ".png"))
    photographs = [x for x in (np.asarray(Image.open(p).convert("RGB")) for p in paths) if x.shape >= (*SIZE, 3)]
    photographs = [x for x in photographs if x.shape[0] >= SIZE[0] and x.shape[1] >= SIZE[1]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        for number in range(arguments.scenes):
            np.savez(folder / f"{number:03}.npz", **render(photographs, number))  # type: ignore[arg-type]
        print("| method | PSNR, dB | edges, RMS | edges, mean | CPU seconds | MB |\n|---|---|---|---|---|---|")
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        for name, (python, _) in methods(arguments).items():
            call = [python, __file__, "--one", name, str(folder)]
            call += [f"--{flag}={getattr(arguments, flag)}" for flag in ("openfocus", "shinestacker")]
            done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, **threads})
            if done.returncode:
                print(f"| {name} | left out: {done.stderr.strip().splitlines()[-1][:100]} |")
                continue
            print(f"| {name} | {_figures(name, folder)} | {' | '.join(_rounded(done.stdout))} |", flush=True)


def _figures(name: str, folder: Path) -> str:
    """Means over the stacks."""
    rows = []
    for path in sorted(folder.glob("*.npz")):
        stack = np.load(path)
        error = np.load(path.with_suffix(f".{name.replace(' ', '-')}.npy")).astype(float) - stack["sharp"]
        near = error[stack["edges"]]
        rows.append((20 * np.log10(255 / np.sqrt((error**2).mean())), np.sqrt((near**2).mean()), abs(near).mean()))
    return " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))


def _rounded(line: str) -> tuple[str, str]:
    seconds, memory = json.loads(line.splitlines()[-1])
    return f"{seconds:.2f}", f"{memory:.0f}"


if __name__ == "__main__":
    main()
