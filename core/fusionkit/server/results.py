"""Routes of a session's results: fuse, wait, cancel, look, measure, download."""

import asyncio
import secrets
import time
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body
from fastapi.responses import Response

from ..errors import InputError
from ..images import check_output, store_image
from ..images.convert import to_tensor
from ..images.picture import Array
from ..images.write import png_bytes
from ..method.pipeline import output_depth
from ..scoring.maps import overlay, trusted
from .choices import checked
from .sessions import SHOWN, Result, Session, Sessions
from .work import Busy, Worker

__all__ = ["ResultRoutes"]

WAIT, PAUSE = 20.0, 0.03  # seconds that a question for a result's end is held; between two looks at it


class ResultRoutes:
    """Queue fusions, tell how they stand, hand out what they made."""

    def __init__(self, sessions: Sessions, worker: Worker) -> None:
        self.sessions, self.worker = sessions, worker

    def router(self) -> APIRouter:
        """The routes under /sessions/NUMBER/results."""
        router = APIRouter(prefix="/sessions/{number}/results")
        router.post("")(self.fuse)
        router.get("/{one}")(self.status)
        router.delete("/{one}")(self.cancel)
        router.get("/{one}/figures")(self.figures)
        router.get("/{one}/pictures/{what}")(self.picture)
        router.get("/{one}/file")(self.download)
        return router

    def fuse(self, number: str, choices: Annotated[dict[str, Any], Body(embed=True)]) -> dict[str, str]:
        """Queue a fusion by valid choices."""
        session = self.sessions.get(number)
        if not session.pictures:
            raise InputError("nothing was read yet")
        result = Result(secrets.token_urlsafe(8), checked(choices))
        session.add(result)
        try:
            self.worker.put(session, result)
        except Busy:
            result.become("failed", "busy")
            raise
        return {"result": result.number}

    async def status(self, number: str, one: str) -> dict[str, Any]:
        """Tell how a result stands, at its end or after a while; no thread waits for it."""
        result = self.sessions.get(number).result(one)
        end = time.monotonic() + WAIT
        while not result.over and time.monotonic() < end:
            await asyncio.sleep(PAUSE)
        return {
            "status": result.status,
            "reason": result.reason,
            "seconds": round(result.seconds, 3),
            "notes": list(result.fused.picture.notes) if result.fused else [],
            "reference": result.fused.reference if result.fused else None,
        }

    def cancel(self, number: str, one: str) -> dict[str, str]:
        """Stop a fusion that waits, or runs, at its next sampling step."""
        self.sessions.get(number).result(one).become("cancelled")
        return {}

    def figures(self, number: str, one: str) -> dict[str, Any]:
        """Metrics of a result, with their definitions; those without a value are left out."""
        values = self.worker.figures(*self._done(number, one))
        return {
            name: {"value": value, "higher": metric.higher_is_better, "definition": metric.definition}
            for key, metric in self.worker.metrics().items()
            if (value := values.get(name := key.removeprefix("audit."))) is not None and np.isfinite(value)
        }

    def picture(self, number: str, one: str, what: str) -> Response:
        """A result or one of its maps as a PNG to look at."""
        session, result = self._done(number, one)
        with self.worker.looking, session.lock:
            if what not in result.pictures:
                result.pictures[what] = png_bytes(_view(session, result, self.worker, what), SHOWN)
        return Response(result.pictures[what], media_type="image/png")

    def download(self, number: str, one: str) -> Response:
        """A result as a file: full size, the reference's depth, its metadata."""
        session, result = self._done(number, one)
        assert result.fused is not None
        depth, span = output_depth(session.pictures[result.fused.reference], None)
        path = session.folder / f"{result.number}{'.tif' if depth == 'float' else '.png'}"
        made = result.fused.picture
        check_output(path, depth, made.channels, alpha=made.alpha is not None)
        store_image(path, made.pixels, depth, span=span, alpha=made.alpha, icc=made.icc, metadata=made.metadata)
        content = path.read_bytes()
        path.unlink()
        headers = {"Content-Disposition": f'attachment; filename="fused{path.suffix}"'}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _done(self, number: str, one: str) -> tuple[Session, Result]:
        session = self.sessions.get(number)
        result = session.result(one)
        if result.fused is None:
            raise InputError(f"this result is {result.status}")
        return session, result


def _view(session: Session, result: Result, worker: Worker, what: str) -> Array:
    """A picture of a result (H, W, C): itself, or one of its maps."""
    assert result.fused is not None
    assert session.sources is not None
    pixels = result.fused.picture.pixels
    if what == "result":
        return pixels
    sources = replace(session.sources, reference=result.fused.reference)
    if what == "trusted":
        return trusted(to_tensor(pixels), sources)
    if what in ("lost", "invented"):
        metrics = {name: m for name, m in worker.metrics().items() if m.shows == what}
        return overlay(to_tensor(pixels), sources, metrics)
    raise InputError(f"no picture {what!r}")
