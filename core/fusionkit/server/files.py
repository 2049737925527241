"""Routes of what a visitor brings: a session, its files, the pictures read from them."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..errors import InputError
from ..images.write import png_bytes
from ..numerics.noise import estimate_noise
from ..numerics.registration import look_apart
from .sessions import SHOWN, Session, Sessions

__all__ = ["FileRoutes"]


class FileRoutes:
    """Open and drop sessions, upload files, read them, show the sources."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def router(self) -> APIRouter:
        """The routes under /sessions."""
        router = APIRouter(prefix="/sessions")
        router.post("")(self.open)
        router.delete("/{number}")(self.drop)
        router.put("/{number}/files/{index}")(self.upload)
        router.post("/{number}/read")(self.read)
        router.get("/{number}/sources/{index}")(self.source)
        return router

    def open(self) -> dict[str, str]:
        """Begin a session."""
        return {"session": self.sessions.open().number}

    def drop(self, number: str) -> dict[str, str]:
        """Forget a session."""
        self.sessions.drop(number)
        return {}

    async def upload(self, number: str, index: int, name: str, request: Request) -> dict[str, int]:
        """Store one file of a session."""
        return {"bytes": await self.sessions.get(number).take(index, name, request.stream())}

    def read(self, number: str) -> dict[str, Any]:
        """Read a session's files and describe them."""
        session = self.sessions.get(number)
        session.read()
        return _described(session)

    def source(self, number: str, index: int) -> Response:
        """One source as a PNG to look at."""
        session = self.sessions.get(number)
        if not 0 <= index < len(session.pictures):
            raise InputError("no such source")
        if index not in session.encoded:
            session.encoded[index] = png_bytes(session.pictures[index].pixels, SHOWN)
        return Response(session.encoded[index], media_type="image/png")


def _described(session: Session) -> dict[str, Any]:
    """Size, depth, noise and displacement of each source, and the kind of scene, before anything is fused."""
    assert session.sources is not None
    sources = session.sources
    rows = []
    for i, (picture, y) in enumerate(zip(session.pictures, sources.luma, strict=True)):
        apart = look_apart(sources.luma[-1], y) if i < len(sources) - 1 and y.shape == sources.luma[-1].shape else None
        rows.append(
            {
                "name": picture.name,
                "width": picture.size[0],
                "height": picture.size[1],
                "depth": picture.depth,
                "color": picture.has_color,
                "noise": round(255 * estimate_noise(y)[0].level, 1),
                "apart": None if apart is None else round(apart.pixels, 1),
                "notes": list(picture.notes),
            }
        )
    return {"sources": rows, "scene": sources.scenes[0]}
