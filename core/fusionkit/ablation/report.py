"""The report of an ablation: CSV, JSON, and one HTML file that needs nothing else."""

import base64
import csv
import io
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..contracts import Sources
from ..images import Picture, write_image
from ..images.convert import to_tensor
from ..reading import read_image
from ..registry.kinds import DISTRIBUTION
from ..scoring.maps import has_maps, overlay
from ..storage.atomic import atomic_write
from .attribution import removals
from .degrade import degrade
from .study import Case, Study

__all__ = ["write_reports"]


def write_reports(study: Study) -> list[Path]:
    """Write `results.csv`, `results.json` and `report.html` into the study's folder."""
    record = _record(study)
    texts = {
        "results.csv": _csv(study),
        "results.json": json.dumps(record, indent=1, ensure_ascii=False) + "\n",
        "report.html": _html(study, record),
    }
    paths = [study.output / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def _record(study: Study) -> dict[str, Any]:
    """Everything but the images."""
    evaluation = study.evaluation()
    record = evaluation.record()
    cells = [
        {
            "label": state.cell.label,
            "id": state.id,
            "status": state.status,
            "reason": state.reason,
            "choices": state.cell.choices,
            "degradation": state.cell.degradation,
            "removed": state.cell.removed,
            "of": state.cell.parent,
            "method": state.method,
            "seconds": study.seconds(state) if state.status == "done" else None,
        }
        for state in study.cells
    ]
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "fusionkit": version(DISTRIBUTION),
        "axes": study.grid.axes,
        "cells": cells,
        "attribution": [_finite(asdict(removal)) for removal in removals(study)],
        **{k: v for k, v in record.items() if k not in ("fusionkit", "failures")},
        "failures": evaluation.failures,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(study: Study) -> str:
    """One row for each cell, pair and metric; an undefined value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    axes = sorted({key for state in study.cells for key in state.cell.choices})
    writer.writerow(("cell", "id", "removed", *axes, "pair", "seconds", "metric", "value"))
    for state in study.finished():
        choices = [state.cell.choices.get(key, "") for key in axes]
        for key, row in state.rows().items():
            for metric in study.metrics:
                value = row["values"][metric]
                shown = "" if value is None else repr(value)
                writer.writerow(
                    (state.cell.label, state.id, state.cell.removed, *choices, key, row["seconds"], metric, shown)
                )
    return text.getvalue()


def _html(study: Study, record: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fusionkit.ablation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    images = [_images(study, case) for case in study.cases[: study.grid.report.images]]
    return environment.get_template("report.html.jinja").render(record=record, images=images)


def _images(study: Study, case: Case) -> dict[str, Any]:
    """The sources and every cell's result of one pair, as data URIs."""
    pictures = case.read()
    panels = [{"label": f"source {i + 1}", "uri": _uri_of(p)} for i, p in enumerate(pictures)]
    seen = {"none"}
    for state in study.finished():
        kind = state.cell.degradation
        if kind not in seen:
            seen.add(kind)
            for i, p in enumerate(pictures):
                bad = Picture(degrade(p.pixels, kind, i, case.key), "8", (0.0, 255.0), name=p.name)
                panels.append({"label": f"source {i + 1}, {kind}", "uri": _uri_of(bad)})
    sources = Sources.of([to_tensor(p.pixels) for p in pictures])
    for state in study.finished():
        path = study.image(state, case)
        panels.append({"label": state.cell.label, "uri": _uri(path.read_bytes())})
        if has_maps(study.metrics):
            fused = to_tensor(read_image(path).pixels)
            shown = Picture(overlay(fused, sources, study.metrics), "8", (0.0, 255.0), name=path.name)
            panels.append({"label": f"{state.cell.label}: lost blue, invented red", "uri": _uri_of(shown, "jpeg")})
    return {"pair": case.key, "panels": panels}


def _uri_of(picture: Picture, kind: str = "png") -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture.{kind}"
        write_image(path, picture.pixels, "8")
        return _uri(path.read_bytes(), kind)


def _uri(encoded: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(encoded).decode()
