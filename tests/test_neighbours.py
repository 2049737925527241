"""The scripts for neighbouring tools. What needs the tool itself is skipped where it is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fusionkit.scenes import infrared_visible
from fusionkit.writing import write_image

FOLDER = Path(__file__).parents[1] / "docs" / "examples" / "neighbours"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("napari_fuse", "fiftyone_fuse"):
        sys.modules.pop(name, None)


@pytest.fixture
def pairs(tmp_path):
    for seed in range(2):
        for name, image in zip(("ir", "vis"), infrared_visible((60, 80), seed=seed), strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(tmp_path / name / f"{seed}.png", image.astype(np.float32), "8")
    return tmp_path


class Layers:
    """What of napari's viewer the script uses."""

    def __init__(self):
        self.layers = []

    def add_image(self, values, name, rgb):
        layer = type("Layer", (), {"data": values, "name": name, "rgb": rgb, "metadata": {}})()
        self.layers.append(layer)
        return layer


def check_layers(viewer, pairs):
    import napari_fuse

    results = napari_fuse.add_layers(viewer, [str(pairs / n / "0.png") for n in ("ir", "vis")], ["em_tv", "max"], "cpu")
    assert [layer.name.partition(" ")[0] for layer in viewer.layers] == ["0.png", "0.png", "em_tv", "max"] or len(
        {layer.name for layer in viewer.layers}
    ) == 4
    assert viewer.layers[0].data.ndim == 2
    assert viewer.layers[2].data.shape == (60, 80, 3)
    assert np.array_equal(viewer.layers[2].data, results[0].pixels)
    assert any("treated as" in note for note in viewer.layers[2].metadata["notes"])


def test_layers_of_a_viewer(scripts, pairs):
    check_layers(Layers(), pairs)


@pytest.mark.filterwarnings("ignore")
def test_layers_of_napari(scripts, pairs):
    components = pytest.importorskip("napari.components", reason="needs napari")
    check_layers(components.ViewerModel(), pairs)


def test_rows_for_a_dataset(scripts, pairs):
    import fiftyone_fuse

    rows = fiftyone_fuse.fused_rows(pairs / "ir", pairs / "vis", pairs / "out", "cpu")
    assert [row["key"] for row in rows] == ["0", "1"]
    assert all(row["fused"].exists() for row in rows)
    assert set(rows[0]["figures"]) == set(fiftyone_fuse.METRICS)


@pytest.mark.filterwarnings("ignore")
def test_a_dataset_of_fiftyone(scripts, pairs):
    try:
        import fiftyone

        fiftyone.list_datasets()
    except Exception as error:  # not installed, or without its database, which fails in many ways
        pytest.skip(f"needs FiftyOne and its database: {type(error).__name__}")
    import fiftyone_fuse

    dataset = fiftyone_fuse.as_dataset(fiftyone_fuse.fused_rows(pairs / "ir", pairs / "vis", pairs / "out", "cpu"), "t")
    assert len(dataset) == 2
    assert set(dataset.group_slices) == {"ir", "vis", "fused"}
