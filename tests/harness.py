"""Functions that tests share."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from fusionkit.contracts import Sources
from fusionkit.images.picture import Array
from fusionkit.method.degrade import degrade
from fusionkit.scenes import night


def load_image(path: Path) -> Image.Image:
    """A picture with its file closed."""
    with Image.open(path) as image:
        image.load()
    return image


@cache
def mean_program() -> str:
    """A network that somebody brings to the prior `network`: the mean, as a program of torch.export."""
    place = Path(tempfile.mkdtemp(prefix="fusionkit-tests-")) / "mean.pt2"
    mean, pair = torch.nn.AvgPool3d((2, 1, 1)), torch.rand(1, 2, 32, 48)
    sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    torch.export.save(torch.export.export(mean, (pair,), dynamic_shapes=(sides,)), place)
    place.with_suffix(".toml").write_text("stacked = true\n")
    return str(place)


class Blobs(torch.nn.Module):
    """Detector of bright blobs: the mean of each cell of 32x32 pixels is its score, in YOLO's layout of outputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = torch.nn.functional.avg_pool2d(x[:, :1], 32)
        rows, columns = score.shape[-2:]
        y, x = (torch.arange(n, dtype=torch.float32) * 32 + 16 for n in (rows, columns))
        boxes = [x.expand(rows, -1), y[:, None].expand(-1, columns), *torch.full((2, rows, columns), 32.0)]
        return torch.cat([torch.stack(boxes)[None], score], 1).flatten(2)


@cache
def blob_detector() -> str:
    """A file of `Blobs` for 96x128 pixels, with its card. Needs onnx."""
    place = Path(tempfile.mkdtemp(prefix="fusionkit-tests-")) / "blobs.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no other package is the older one
        torch.onnx.export(Blobs(), (torch.rand(1, 3, 96, 128),), place, dynamo=False)
    place.with_suffix(".toml").write_text('size = [96, 128]\nlabels = ["blob"]\n')
    return str(place)


def noisy_street(size: tuple[int, int], seed: int = 0) -> list[Array]:
    """A street at night, (infrared grey, visible colour), noisy and of one size."""
    text = "1=noise:level=9 + 2=noise:slope=0.012,offset=0.0008"
    made = enumerate(zip((1.0, 0.55), night(size, seed), strict=True))
    return [degrade((x * image).astype("float32"), text, i, str(seed)) for i, (x, image) in made]


def run_cli(
    *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own, forked from one that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "scipy.ndimage", "fusionkit.cli.app", "fusionkit.api", "harness"])
    command = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        texts = [Path(folder) / name for name in ("out", "err")]
        environment = {**os.environ, "COLUMNS": "200", **(env or {})}
        process = context.Process(target=_main, args=(command, environment, cwd, texts))
        process.start()
        process.join()
        out, err = (path.read_text() for path in texts)
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


def _main(arguments: list[str], environment: dict[str, str], cwd: Path | None, texts: list[Path]) -> None:
    for stream, path in zip((1, 2), texts, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.argv = ["fusionkit", *arguments]
    if cwd is not None:
        os.chdir(cwd)
    from fusionkit.cli.app import main

    main()


def dies_once(folder: Path, task: int) -> tuple[int, str]:
    """Kills its process at the first try of task 2, and at every try of task 5."""
    begun = folder / f"{task}-{len(list(folder.glob(f'{task}-*')))}"
    begun.touch()
    if task == 5 or (task == 2 and begun.name == "2-0"):
        os.kill(os.getpid(), signal.SIGKILL)
    return task, "done"


def lost(task: int) -> tuple[int, str]:
    """What an engine says of a task that it gives up."""
    return task, "lost"


def make_sources(*lumas: torch.Tensor, reference: int = -1) -> Sources:
    return Sources(images=lumas, luma=lumas, reference=reference)


def correct(prior, x0: torch.Tensor, sources: Sources, sigma: float = 0.1) -> torch.Tensor:
    """One correction from a fresh state."""
    return prior.correct(x0, sources, prior.start(sources), sigma)[0]


def make(cls, **options):
    """A plug-in from its options."""
    return cls(cls.Options(**options))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """dB, peak 1."""
    return float(-10 * torch.log10((a - b).square().mean()))


def random_sources(generator: torch.Generator, size=(24, 40), batch: int = 1, count: int = 2) -> Sources:
    """Sources of uniform noise."""
    return make_sources(*(torch.rand(batch, 1, *size, generator=generator) for _ in range(count)))
