"""The report of an ablation: CSV, JSON, and one HTML file that needs nothing else."""

import base64
import csv
import hashlib
import io
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from ..contracts import Sources
from ..images.convert import to_tensor
from ..images.picture import Array, from_unit
from ..reading import read_image
from ..registry.kinds import DISTRIBUTION
from ..scoring.maps import has_maps, overlay
from ..storage.atomic import atomic_write
from .attribution import removals
from .degrade import degrade
from .study import Case, Study

__all__ = ["write_reports"]

MOST_BYTES = 3_000_000  # of all pictures together, encoded: a report that can be sent
QUALITIES = (90, 80, 65, 50, 30, 15)  # of lossy WebP, the first that fits


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
    images = _Images()
    pairs = [_pair(study, case, images) for case in study.cases[: study.grid.report.images]]
    uris, quality = images.uris()
    return environment.get_template("report.html.jinja").render(record=record, images=pairs, uris=uris, quality=quality)


class _Images:
    """The pictures of a report, each once, however many cells show it."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._pixels: list[Array] = []

    def number(self, pixels: Array) -> int:
        """Of a picture (H, W, 1 or 3) in [0, 1]."""
        values = from_unit(pixels, "8", (0.0, 255.0))
        key = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._pixels)
            self._pixels.append(values)
        return self._numbers[key]

    def uris(self) -> tuple[list[str], int | None]:
        """All of them as WebP in data URIs, and the quality: None for lossless, which they are as long as they fit."""
        for quality in (None, *QUALITIES):
            encoded, size = list[bytes](), 0
            for values in self._pixels:
                encoded.append(_webp(values, quality))
                size += len(encoded[-1])
                if size > MOST_BYTES and quality != QUALITIES[-1]:
                    break  # the next quality, before the rest is encoded for nothing
            else:
                break
        return ["data:image/webp;base64," + base64.b64encode(data).decode() for data in encoded], quality


def _webp(values: Array, quality: int | None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    image.save(stream, "webp", **({"lossless": True} if quality is None else {"quality": quality}))
    return stream.getvalue()


def _pair(study: Study, case: Case, images: _Images) -> dict[str, Any]:
    """The sources and every cell's result of one pair, by the numbers of their pictures."""
    pictures = case.read()
    panels = [{"label": f"source {i + 1}", "image": images.number(p.pixels)} for i, p in enumerate(pictures)]
    seen = {"none"}
    for state in study.finished():
        kind = state.cell.degradation
        if kind not in seen:
            seen.add(kind)
            for i, p in enumerate(pictures):
                bad = degrade(p.pixels, kind, i, case.key)
                panels.append({"label": f"source {i + 1}, {kind}", "image": images.number(bad)})
    sources = Sources.of([to_tensor(p.pixels) for p in pictures])
    for state in study.finished():
        path = study.image(state, case)
        pixels = read_image(path).pixels
        panels.append({"label": state.cell.label, "image": images.number(pixels), "cell": state.cell.label})
        if has_maps(study.metrics):
            shown = overlay(to_tensor(pixels), sources, study.metrics)
            panels.append({"label": f"{state.cell.label}: lost blue, invented red", "image": images.number(shown)})
    return {"pair": case.key, "panels": panels}
