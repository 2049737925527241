"""What all tests share: built-in plug-ins only, small sources, fake installed distributions."""

import os
import sys
import tempfile
from pathlib import Path

os.environ["FUSIONKIT_PLUGINS"] = "imagefusionkit"
os.environ["FUSIONKIT_HOME"] = tempfile.mkdtemp(prefix="fusionkit-tests-")
os.environ["OMP_NUM_THREADS"] = "1"  # what tests compute is too small to share

import numpy as np
import pytest
import torch

from fusionkit.scenes import infrared_visible
from fusionkit.writing import write_image


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """An infrared (1, 1, 96, 128) and a visible (1, 3, 96, 128) image."""
    ir, vis = infrared_visible((96, 128), seed=3)
    return tuple(torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in (ir, vis))  # type: ignore[return-value]


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """A textured luma, (1, 1, 96, 128)."""
    _, visible = infrared_visible((96, 128), seed=5)
    return torch.from_numpy(visible).float().mean(-1)[None, None]


@pytest.fixture(scope="session")
def pair_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """ir.png (grey) and vis.png (colour), 128x96, 8 bits."""
    folder = tmp_path_factory.mktemp("pair")
    for name, image in zip(("ir.png", "vis.png"), infrared_visible((96, 128), seed=3), strict=True):
        write_image(folder / name, image.astype(np.float32), "8")
    return folder / "ir.png", folder / "vis.png"


class FakeDistributions:
    """Installs packages into a folder on sys.path, as pip would leave them."""

    def __init__(self, site: Path) -> None:
        self.site = site

    def add(self, dist: str, code: str, *, version: str = "1.0", entry: str = "main") -> None:
        package = dist.replace("-", "_")
        sys.modules.pop(package, None)  # of an earlier test
        (self.site / f"{package}.py").write_text(code)
        info = self.site / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[fusionkit]\n{entry} = {package}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDistributions:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return FakeDistributions(folder)
