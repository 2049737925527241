"""Pairs, results and audit figures as a grouped FiftyOne dataset: python fiftyone_fuse.py IR_DIR VIS_DIR OUT_DIR."""

import sys
from pathlib import Path
from typing import Any

from fusionkit import Pipeline
from fusionkit.batch.options import FileOptions
from fusionkit.batch.plan import plan_folders
from fusionkit.batch.run import fuse_folders
from fusionkit.images.convert import to_tensor
from fusionkit.reading import read_image
from fusionkit.scoring.evaluation import as_sources, score_images
from fusionkit.scoring.metrics import load_metrics

METRICS = ("kept_others", "kept_reference", "hot", "halo", "noise")


def fused_rows(infrared: Path, visible: Path, output: Path, device: str = "auto") -> list[dict[str, Any]]:
    """Fuse the folders' pairs; for each, the paths of its files and the audit's figures."""
    jobs = plan_folders([infrared, visible], output).jobs
    list(fuse_folders(Pipeline(device=device), jobs, output, FileOptions()))
    metrics = load_metrics([f"audit.{name}" for name in METRICS], None)
    rows = []
    for job in jobs:
        sources = as_sources([read_image(path) for path in job.sources], resize=True)
        result = {"": to_tensor(read_image(job.output).pixels)}
        [(_, values)] = score_images(result, sources, metrics, baselines=False)
        figures = {name.removeprefix("audit."): value for name, value in values.items()}
        rows.append({"key": job.key, "sources": job.sources, "fused": job.output, "figures": figures})
    return rows


def as_dataset(rows: list[dict[str, Any]], name: str) -> Any:
    """The rows as groups of the slices ir, vis and fused; figures are fields of the fused ones."""
    import fiftyone as fo

    dataset = fo.Dataset(name, overwrite=True)
    dataset.add_group_field("group", default="fused")
    for row in rows:
        group, (first, second) = fo.Group(), row["sources"]
        samples = [
            fo.Sample(filepath=str(path), group=group.element(slice_), pair=row["key"])
            for slice_, path in (("ir", first), ("vis", second), ("fused", row["fused"]))
        ]
        for figure, value in row["figures"].items():
            samples[-1][figure] = float(value)
        dataset.add_samples(samples)
    return dataset


if __name__ == "__main__":
    import fiftyone

    made = as_dataset(fused_rows(*map(Path, sys.argv[1:4])), "fusionkit")
    fiftyone.launch_app(made).wait()
