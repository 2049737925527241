"""The page on which results of a folder are looked through: small pictures and notes, the doubtful ones first."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import Caution, FusionkitError, OutputError
from ..images.convert import to_array, to_tensor
from ..images.picture import Range, from_unit
from ..images.sheet import smaller
from ..reading import read_image
from ..storage.atomic import atomic_write, check_place
from ..storage.manifest import Manifest
from ..storage.outcome import Outcome
from .options import REVIEWED, FileOptions
from .plan import Job

__all__ = ["check_review", "reviewed"]

MARK = "<!-- fusionkit review -->"  # how a page begins that may be written anew
WIDTH, QUALITY = 240, 70  # pixels of a picture on the page, and of its JPEG: about 8 kB each


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
    def doubt(self) -> tuple[bool, int]:
        return bool(self.failed), len(self.cautions)


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
    with atomic_write(page) as temporary:
        temporary.write_text(f"{MARK}\n{text}", encoding="utf-8")


def _panels(row: _Row, files: FileOptions) -> list[tuple[str, str]]:
    """Name and small picture of each source, as it was read, and of the result; what cannot be read has none."""
    record = row.record or {}
    spans = record.get("ranges") or [None] * len(row.job.sources)
    found = []
    for i, ((path, number), span) in enumerate(zip(row.job.places, spans, strict=True)):
        taken: Range = (span[0], span[1]) if span else files.span(i)
        found.append((path.name, _thumbnail(path, taken, files.max_pixels, number, files.chosen(i))))
    if record and row.job.output is not None:
        span = spans[record.get("reference_source", len(spans)) - 1]
        same = span and record.get("output", {}).get("depth") != "8"
        found.append(("result", _thumbnail(row.job.output, (span[0], span[1]) if same else "auto", files.max_pixels)))
    return found


def _thumbnail(path: Path, span: Range, max_pixels: int, number: int | None = None, bands: Sequence[int] = ()) -> str:
    """A picture as a data URI; empty where it cannot be read."""
    try:
        image = to_tensor(read_image(path, span, max_pixels, number, bands).pixels)
    except FusionkitError:
        return ""
    values = from_unit(to_array(smaller(image, WIDTH)), "8", (0.0, 255.0))
    stream = io.BytesIO()
    Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).save(stream, "jpeg", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
