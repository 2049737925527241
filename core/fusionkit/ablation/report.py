"""The report of an ablation: CSV, JSON, and one HTML file that needs nothing else."""

import base64
import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import FusionkitError, InputError
from ..images.convert import to_tensor
from ..images.picture import Array, from_unit
from ..judging.study import STUDY, all_votes, open_key, open_study, place_of_key
from ..judging.tally import tally
from ..method.degrade import NONE, degrade
from ..reading import read_image
from ..scoring.evaluation import Evaluation
from ..scoring.maps import has_maps, overlay
from ..scoring.statistics import nullable
from ..scoring.table import RENDERINGS, table_of
from ..storage.atomic import write_text
from ..storage.manifest import digest
from ..storage.regular import read_text
from .attribution import idle, removals
from .study import CELLS, Case, Study

RESULTS, TEMPLATE = "results.json", "report.html.jinja"
MOST_BYTES = 3_000_000  # of all pictures together, encoded: a report that can be sent
QUALITIES = (90, 80, 65, 50, 30, 15)  # of lossy WebP, the first that fits


def write_reports(study: Study, say: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Write `results.csv`, `results.json`, `report.html` and the tables for papers into the study's folder.

    Reports of the same results are left as they are. say: called with what is being done.
    """
    evaluation = study.evaluation(say)
    record = _record(study, evaluation, say)
    places = [study.output / name for name in ("results.csv", RESULTS, "report.html")]
    places += [study.output / f"table{suffix}" for suffix in RENDERINGS]
    if all(place.is_file() for place in places) and _earlier(study.output).get("of") == record["of"]:
        return places
    record["made"], table = datetime.now(UTC).isoformat(timespec="seconds"), table_of(evaluation)
    main = _csv(study), json.dumps(record, indent=1, ensure_ascii=False) + "\n", _html(study, record, say)
    for path, text in zip(places, (*main, *(render(table) for render in RENDERINGS.values())), strict=True):
        write_text(path, text)
    return places


def _record(study: Study, evaluation: Evaluation, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything but the images."""
    say("attribution")
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
    record = {
        "axes": study.grid.axes,
        "cells": cells,
        "attribution": [nullable(asdict(removal)) for removal in removals(study)],
        "idle": [state.cell.label for state in idle(study)],
        "votes": nullable(_votes(study.output)),
        **evaluation.record(),
    }
    shown = [study.image(state, case) for state in study.finished() for case in _shown(study)]
    template = files("fusionkit.ablation").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return {
        "of": digest(record, template, MOST_BYTES, [[str(path), path.stat().st_mtime_ns] for path in shown]),
        **record,
    }


def _earlier(folder: Path) -> dict[str, Any]:
    """The record of an ablation that lies in a folder; {} without one that can be read."""
    try:
        record = json.loads(read_text(folder / RESULTS, InputError))
    except (FusionkitError, OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "cells" in record else {}


def cells_of(folder: Path) -> dict[str, Path]:
    """Folders of the methods of an ablation on the sources as they are, by label; {} for another folder."""
    cells = [cell for cell in _earlier(folder).get("cells", ()) if cell["status"] == "done" and not cell["removed"]]
    return {cell["label"]: folder / CELLS / cell["id"] for cell in cells if cell["degradation"] == NONE}


def _votes(folder: Path) -> list[dict[str, Any]]:
    """What the votes of each study in a folder say; or the reason why they say nothing."""
    found = list[dict[str, Any]]()
    for study in sorted(place.parent for place in folder.glob(f"*/{STUDY}")):
        try:
            said = tally(open_key(place_of_key(study), open_study(study)), all_votes(study)).record()
        except FusionkitError as error:
            said = {"reason": str(error)}
        found.append({"study": study.name, **said})
    return found


def _shown(study: Study) -> Sequence[Case]:
    """The pairs whose pictures are in the report."""
    return study.cases[: study.grid.report.images]


def _csv(study: Study) -> str:
    """One row for each cell, pair and metric; an undefined value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    axes = sorted({key for state in study.cells for key in state.cell.choices})
    writer.writerow(("cell", "id", "removed", *axes, "pair", "seconds", "metric", "value"))
    for state in study.finished():
        cell = state.cell
        of_cell = (cell.label, state.id, cell.removed, *(cell.choices.get(key, "") for key in axes))
        for key, row in state.rows().items():
            for metric in study.metrics:
                writer.writerow((*of_cell, key, row["seconds"], metric, row["values"][metric]))
    return text.getvalue()


def _html(study: Study, record: dict[str, Any], say: Callable[[str], None]) -> str:
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
    pairs = []
    for case in _shown(study):
        say(f"pictures of {case.key}")
        pairs.append(_pair(study, case, images))
    say("encoding the pictures")
    uris, quality = images.uris()
    return environment.get_template(TEMPLATE).render(record=record, images=pairs, uris=uris, quality=quality)


class _Images:
    """Pictures of a report, each stored once."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._pixels: list[Array] = []

    def number(self, pixels: Array) -> int:
        """Number a picture (H, W, 1 or 3) in [0, 1]."""
        values = from_unit(pixels, "8", (0.0, 255.0))
        key = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._pixels)
            self._pixels.append(values)
        return self._numbers[key]

    def uris(self) -> tuple[list[str], int | None]:
        """Encode all pictures as WebP in data URIs; return them and the quality, None for lossless."""
        for quality in (None, *QUALITIES):
            encoded, size = list[bytes](), 0
            for values in self._pixels:
                encoded.append(_webp(values, quality))
                size += len(encoded[-1])
                if size > MOST_BYTES and quality != QUALITIES[-1]:
                    break  # to the next quality, without encoding the rest
            else:
                break
        return ["data:image/webp;base64," + base64.b64encode(data).decode() for data in encoded], quality


def _webp(values: Array, quality: int | None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    image.save(stream, "webp", **({"lossless": True} if quality is None else {"quality": quality}))
    return stream.getvalue()


def _pair(study: Study, case: Case, images: _Images) -> dict[str, Any]:
    """Panels of one pair: its sources, degraded ones, and every cell's result; images by number."""
    pictures = case.read()
    panels: list[dict[str, Any]] = []
    for kind in dict.fromkeys(["none", *(state.cell.degradation for state in study.finished())]):
        for i, picture in enumerate(pictures):
            label = f"source {i + 1}" if kind == "none" else f"source {i + 1}, {kind}"
            panels.append({"label": label, "image": images.number(degrade(picture.pixels, kind, i, case.key))})
    sources, left_out = study.sources(pictures), {state.cell.label for state in idle(study)}
    for state in study.finished():
        if state.cell.label in left_out:
            continue
        pixels = read_image(study.image(state, case)).pixels
        panels.append({"label": state.cell.label, "image": images.number(pixels), "cell": state.cell.label})
        if has_maps(study.metrics):
            shown = overlay(to_tensor(pixels), sources, study.metrics)
            panels.append({"label": f"{state.cell.label}: lost blue, invented red", "image": images.number(shown)})
    return {"pair": case.key, "panels": panels}
