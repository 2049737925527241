"""Routes of a session's results: fuse, wait, cancel, show, measure, download."""

import asyncio
import secrets
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Body
from fastapi.responses import Response

from ..errors import Caution, InputError
from ..images.convert import to_tensor
from ..images.picture import Array, Picture, to_unit
from ..images.write import png_bytes
from ..scoring.maps import overlay, trusted
from .choices import checked
from .previews import SHOWN, shown_png
from .sessions import Result, Session, Sessions
from .work import Busy, Worker

MAPS = ("lost", "invented", "trusted")  # pictures that take as long as metrics
WAIT, PAUSE = 0.5, 0.03  # seconds that a request for the status is held; between two looks at it


class ResultRoutes(APIRouter):
    """Routes under /sessions/NUMBER/results."""

    def __init__(self, sessions: Sessions, worker: Worker) -> None:
        super().__init__(prefix="/sessions/{number}/results")
        self.sessions, self.worker = sessions, worker
        self.post("")(self.fuse)
        self.get("/{one}")(self.status)
        self.delete("/{one}")(self.cancel)
        self.get("/{one}/figures")(self.figures)
        self.get("/{one}/pictures/{what}")(self.picture)
        self.post("/{one}/want")(self.want)
        self.get("/{one}/file")(self.download)

    def fuse(
        self, number: str, choices: Annotated[dict[str, Any], Body()], full: Annotated[bool, Body()] = False
    ) -> dict[str, str]:
        """Queue a fusion by valid choices; full: without a preview."""
        session = self.sessions.get(number)
        if not session.pictures:
            raise InputError("nothing was read yet")
        result = Result(secrets.token_urlsafe(8), checked(choices), wanted=full)
        session.add(result)
        try:
            self.worker.put(session, result)
        except Busy:
            result.become("failed", "busy")
            raise
        return {"result": result.number}

    async def status(self, number: str, one: str) -> dict[str, Any]:
        """Send a result's status when it ends, or how far it is after a while; no thread waits for it."""
        result = self.sessions.get(number).result(one)
        end = time.monotonic() + WAIT
        while not result.over and time.monotonic() < end:
            await asyncio.sleep(PAUSE)
        return {
            "status": result.status,
            "reason": self.sessions.told(result.reason),
            "mends": result.mends,
            "preview": 0 if result.preview is None or result.preview.fused is None else result.preview.factor,
            **({} if result.over else self.worker.progress(result)),
            "seconds": round(result.seconds, 3),
            "notes": [
                {"text": self.sessions.told(note), "doubt": isinstance(note, Caution)}
                for note in (result.fused.notes if result.fused else ())
            ],
            "reference": result.fused.reference if result.fused else None,
        }

    def cancel(self, number: str, one: str) -> dict[str, str]:
        """Stop a fusion that waits, or runs, at its next sampling step; forget one that is done."""
        self.sessions.get(number).result(one).forget()
        return {}

    def figures(self, number: str, one: str) -> dict[str, Any]:
        """Send the metrics of a result with their definitions; those without a value are left out."""
        session = self.sessions.get(number)
        values = self.worker.figures(session, session.result(one))
        return {
            name: {
                "value": value,
                "merit": metric.merit(value),
                "better": metric.better,
                "definition": metric.definition,
            }
            for key, metric in self.worker.metrics().items()
            if (value := values.get(name := key.removeprefix("audit."))) is not None and np.isfinite(value)
        }

    def picture(self, number: str, one: str, what: str) -> Response:
        """Send a result or one of its maps as a PNG to look at."""
        session = self.sessions.get(number)
        result = session.result(one)
        with self.worker.looking if what in MAPS else result.lock:
            if what not in result.pictures:
                seen = _view(session, result, self.worker, what)
                result.pictures[what] = shown_png(seen) if isinstance(seen, Picture) else png_bytes(seen, SHOWN)
        return Response(result.pictures[what], media_type="image/png")

    def want(self, number: str, one: str) -> dict[str, str]:
        """Let a result's full size begin, though its preview is there."""
        self.worker.want(self.sessions.get(number).result(one))
        return {}

    def download(self, number: str, one: str) -> Response:
        """Send a result as a file: full size, the reference's depth and metadata."""
        session = self.sessions.get(number)
        result = session.result(one)
        fused = result.done
        path = session.folder / f"{result.number}{'.tif' if fused.picture.depth == 'float' else '.png'}"
        fused.save(path)
        content = path.read_bytes()
        path.unlink()
        name = quote(
            "+".join(dict.fromkeys(Path(p.name).stem for p in session.pictures))[:120] + f"-fused{path.suffix}"
        )
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return Response(content, media_type="application/octet-stream", headers=headers)


def _view(session: Session, result: Result, worker: Worker, what: str) -> Picture | Array:
    """Make a picture of a result: the fused pixels, one of their maps (H, W, C), or a source as it was fused."""
    if what == "preview" and result.preview is not None:
        return result.preview.done.picture
    fused = result.done.picture
    if what == "result":
        return fused
    kind, _, index = what.partition("-")
    if kind == "source" and index.isdigit() and int(index) < len(session.pictures):
        return to_unit(result.seen[int(index)], (0.0, 255.0)) if result.seen else session.pictures[int(index)]
    pixels = fused.pixels
    if what == "trusted":
        return trusted(to_tensor(pixels), session.sources_of(result))
    if what in MAPS:
        metrics = {name: m for name, m in worker.metrics().items() if m.shows == what}
        return overlay(to_tensor(pixels), session.sources_of(result), metrics)
    raise InputError(f"no picture {what!r}")
