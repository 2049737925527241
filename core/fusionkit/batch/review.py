"""The page on which results of a folder are looked through: small pictures and notes, the doubtful ones first."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import Caution, FusionkitError, OutputError
from ..images.convert import to_array, to_tensor
from ..images.picture import Range, from_unit
from ..images.sheet import checkerboard, smaller
from ..numerics.homography import size_of, warp
from ..reading.ranges import Place, Reading
from ..storage.atomic import check_place, write_text
from ..storage.manifest import Manifest
from ..storage.outcome import Outcome
from .aligned import lying
from .options import REVIEWED, FileOptions
from .plan import Job

MARK = "<!-- fusionkit review -->"  # how a page begins that may be written anew
WIDTH, QUALITY = 240, 70  # pixels of a picture on the page, and its quality: about 8 kB each
BLINK = 600  # milliseconds that a picture is shown where two take turns


def check_review(path: Path, force: bool) -> None:
    """Refuse, before any work, a place that holds something else than an earlier page."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"`review={path}`: is a page; name it .html")
    ours = path.is_file() and path.read_bytes()[: len(MARK)] == MARK.encode()
    check_place(path, replaceable=force or ours)


@dataclass(frozen=True)
class _Row:
    """A job on the page: its notes, why it failed, and its row in the manifest."""

    job: Job
    notes: tuple[str, ...] = ()
    failed: str = ""
    record: dict[str, Any] | None = None

    @property
    def cautions(self) -> list[str]:
        return [note for note in self.notes if isinstance(note, Caution)]

    @property
    def placed(self) -> list[dict[str, Any]]:
        """Records of sources that were aligned, refused, or look misplaced."""
        record = self.record or {}
        return [*record.get("aligned", ()), *record.get("apart", ())]

    @property
    def doubt(self) -> tuple[bool, int, float]:
        """How much there is to look at; among equals, pairs whose alignment is least confident come first."""
        confidence = [row["confidence"] for row in self.placed if row.get("confidence") is not None]
        return bool(self.failed), len(self.cautions), -min(confidence, default=1.0)


def reviewed(
    outcomes: Iterator[Outcome], jobs: Sequence[Job], ledger: Path, files: FileOptions, page: Path
) -> Iterator[Outcome]:
    """Pass outcomes on; when they end, or are stopped, write the page of those that there were.

    ledger: the manifest, which tells of pairs that an earlier run finished. The page shows `REVIEWED` pairs at most.
    """
    by_key, rows = {job.key: job for job in jobs}, dict[str, _Row]()
    try:
        for outcome in outcomes:
            failed = outcome.reason if outcome.status == "failed" else ""
            rows[outcome.key] = _Row(by_key[outcome.key], outcome.notes, failed, outcome.record or None)
            yield outcome
    finally:
        earlier = {key for key, row in rows.items() if row.record is None and not row.failed}
        for key, record in Manifest(ledger).finished_rows():
            if key in earlier:
                doubts = record.get("warnings", ())
                notes = tuple(Caution(n) if n in doubts else n for n in record.get("notes", ()))
                rows[key] = _Row(by_key[key], notes, "", record)
        _write(page, sorted(rows.values(), key=lambda row: row.doubt, reverse=True), files)


def _write(page: Path, rows: Sequence[_Row], files: FileOptions) -> None:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("fusionkit.batch", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = [
        {
            "key": row.job.key,
            "failed": row.failed,
            "cautions": row.cautions,
            "notes": [note for note in row.notes if not isinstance(note, Caution)],
            "panels": _panels(row, files),
        }
        for row in rows[:REVIEWED]
    ]
    counts = {
        "all": len(rows),
        "failed": sum(bool(row.failed) for row in rows),
        "doubtful": sum(bool(row.cautions) for row in rows),
    }
    text = environment.get_template("review.html.jinja").render(rows=shown, counts=counts, width=WIDTH)
    write_text(page, f"{MARK}\n{text}")


def _panels(row: _Row, files: FileOptions) -> list[tuple[str, str]]:
    """Name and small picture of each source, as it was read, of the result, and of how sources lie on the reference."""
    record = row.record or {}
    spans = record.get("ranges") or [None] * len(row.job.sources)
    reference = record.get("reference_source", len(spans)) - 1
    names, small = [path.name for path, _ in row.job.places], []
    for i, ((path, number), span) in enumerate(zip(row.job.places, spans, strict=True)):
        small.append(_small(files.reading, (path, number), i, (span[0], span[1]) if span else None))
    found = [(name, _uri(image)) for name, image in zip(names, small, strict=True) if image is not None]
    if record and row.job.output is not None:
        span = spans[reference]
        same = span and record.get("output", {}).get("depth") != "8"
        result = _small(Reading(max_pixels=files.max_pixels), row.job.output, 0, (span[0], span[1]) if same else None)
        found += [("result", _uri(result))] if result is not None else []
    for one in row.placed:
        main, source = small[reference], small[one["source"] - 1]
        if main is not None and source is not None:
            moved = _moved(one, main, source)
            name = f"{names[one['source'] - 1]} {'aligned' if one.get('matrix') else 'as it lies'}"
            found += [(f"{name}: checkerboard", _uri(checkerboard(main, moved))), (f"{name}: blink", _uri(main, moved))]
    return found


def _moved(row: dict[str, Any], reference: Tensor, source: Tensor) -> Tensor:
    """A small source as a record says that it lies on its small reference."""
    size, given = size_of(reference), size_of(source)
    moved, inside = warp(source, lying(row, size, given), size)
    return torch.where(inside, moved, torch.zeros_like(moved))


def _small(reading: Reading, file: Path | Place, index: int, span: Range | None) -> Tensor | None:
    """A small picture in colour, (1, 3, H, W); None where it cannot be read."""
    try:
        image = to_tensor(reading.read(file, index, span).pixels)
    except FusionkitError:
        return None
    return smaller(image, WIDTH).expand(-1, 3, -1, -1)


def _uri(*frames: Tensor) -> str:
    """A picture as a data URI: a JPEG; of several that take turns an animated WebP."""
    images = [Image.fromarray(from_unit(to_array(frame), "8", (0.0, 255.0))) for frame in frames]
    kind, stream = "jpeg" if len(images) == 1 else "webp", io.BytesIO()
    turns = {} if len(images) == 1 else {"save_all": True, "append_images": images[1:], "duration": BLINK, "loop": 0}
    images[0].save(stream, kind, quality=QUALITY, **turns)
    return f"data:image/{kind};base64," + base64.b64encode(stream.getvalue()).decode()
