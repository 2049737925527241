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
