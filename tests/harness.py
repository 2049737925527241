"""Functions that tests share."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

from fusionkit.contracts import Sources


def load_image(path: Path) -> Image.Image:
    """A picture with its file closed."""
    with Image.open(path) as image:
        image.load()
    return image


def run_cli(
    *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own."""
    command = [sys.executable, "-c", "from fusionkit.cli.app import main; main()", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        cwd=cwd,
        check=False,
    )


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
