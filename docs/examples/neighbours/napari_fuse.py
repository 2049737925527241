"""Sources and their fusion as layers of napari: python napari_fuse.py ir.png vis.png [PRIOR ...]."""

import sys
from typing import Any

from fusionkit import Picture, Pipeline, read_image


def add_layers(viewer: Any, paths: list[str], priors: list[str], device: str = "auto") -> list[Picture]:
    """Put sources and a result of each prior into a viewer, the last one on top; returns the results."""
    pictures = [read_image(path) for path in paths]
    for picture in pictures:
        viewer.add_image(_values(picture), name=picture.name, rgb=picture.channels == 3)
    results = []
    for prior in priors:
        fused = Pipeline(prior=prior, device=device).fuse_pictures(pictures)
        seconds = sum(fused.seconds.values())
        layer = viewer.add_image(
            _values(fused.picture), name=f"{prior} ({seconds:.2f} s)", rgb=fused.picture.channels == 3
        )
        layer.metadata["notes"] = list(fused.picture.notes)
        results.append(fused.picture)
    return results


def _values(picture: Picture) -> Any:
    """As napari takes it: (H, W, 3), or (H, W) of one channel."""
    return picture.pixels if picture.channels == 3 else picture.pixels[:, :, 0]


if __name__ == "__main__":
    import napari

    files = [argument for argument in sys.argv[1:] if "." in argument]
    window = napari.Viewer(title="fusionkit")
    add_layers(window, files, [argument for argument in sys.argv[1:] if argument not in files] or ["em_tv"])
    napari.run()
