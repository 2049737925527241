"""Routes of a session and its files: open, upload, read, show the sources."""

import math
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from ..contracts import Sources
from ..errors import InputError
from ..images.convert import StoredImages
from ..images.picture import Picture
from ..method.degrade import made_pictures
from ..numerics.noise import estimate_noise
from ..numerics.registration import look_apart
from ..scene import SCENE_KINDS
from ..scenes import SCENES
from ..scoring.evaluation import as_sources
from .previews import SHOWN, can_shrink, shown_png, shrunk
from .sessions import Session, Sessions

LOOKED = 1500  # pixels of the longer side at which a kind of scene is recognised and displacements are sought


class FileRoutes(APIRouter):
    """Routes under /sessions."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__(prefix="/sessions")
        self.sessions = sessions
        self.post("")(self.begin)
        self.delete("/{number}")(self.drop)
        self.put("/{number}/files/{index}")(self.upload)
        self.post("/{number}/samples/{name}")(self.sample)
        self.post("/{number}/leave")(self.leave)
        self.post("/{number}/read")(self.read)
        self.get("/{number}/values")(self.values)
        self.get("/{number}/sources/{index}")(self.source)

    def begin(self) -> dict[str, str]:
        """Begin a session."""
        return {"session": self.sessions.open().number}

    def drop(self, number: str) -> dict[str, str]:
        """Forget a session."""
        self.sessions.drop(number)
        return {}

    async def upload(self, number: str, index: int, name: str, request: Request) -> dict[str, int]:
        """Store one file of a session."""
        return {"bytes": await self.sessions.get(number).take(index, name, request.stream())}

    def sample(self, number: str, name: str) -> dict[str, str]:
        """Store the pictures of a scene made by code as a session's files."""
        session = self.sessions.get(number)
        if name not in SCENES:
            raise InputError(f"no sample {name!r}; there are: {', '.join(SCENES)}")
        for index, picture in enumerate(made_pictures(name)):
            session.make(index, f"{picture.name}.png", picture)
        return {}

    def leave(self, number: str) -> dict[str, str]:
        """Forget a session soon, unless a reloaded page asks for it."""
        self.sessions.leave(number)
        return {}

    def values(self, number: str, x: float, y: float) -> dict[str, Any]:
        """Send what is stored at a place, x and y from 0 to 1, in every source and every result."""
        session = self.sessions.get(number)
        fused = {key: one.shown.picture for key, one in list(session.results.items()) if one.shown is not None}
        return {
            "sources": [_value(picture, x, y) for picture in session.pictures],
            "results": {key: _value(picture, x, y) for key, picture in fused.items()},
        }

    def read(self, number: str) -> dict[str, Any]:
        """Read a session's files and describe them."""
        session = self.sessions.get(number)
        session.read()
        return _described(session, self.sessions)

    def source(self, number: str, index: int, side: Annotated[int, Query(ge=1, le=SHOWN)] = SHOWN) -> Response:
        """Send one source as a PNG to look at, of at most `side` pixels a side."""
        session = self.sessions.get(number)
        if not 0 <= index < len(session.pictures):
            raise InputError("no such source")
        if (index, side) not in session.encoded:
            session.encoded[index, side] = shown_png(session.pictures[index], side)
        return Response(session.encoded[index, side], media_type="image/png")


def _value(picture: Picture, x: float, y: float) -> list[float] | None:
    """The stored value of each channel at a place; None where there are no data."""
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise InputError("x and y go from 0 to 1")
    i, j = (min(int(at * side), side - 1) for at, side in zip((x, y), picture.size, strict=True))
    if picture.valid is not None and not picture.valid[j, i]:
        return None
    return [float(value) for value in picture.part(slice(j, j + 1), slice(i, i + 1)).stored().ravel()]


def _described(session: Session, sessions: Sessions) -> dict[str, Any]:
    """Describe size, depth, noise and displacement of each source, and name the kind of scene."""
    pictures = session.pictures
    factor = math.ceil(max(max(p.size) for p in pictures) / LOOKED) if can_shrink(pictures) else 1
    sources = as_sources([shrunk(p, factor) for p in pictures] if factor > 1 else pictures, resize=True)
    rows, last = [], sources.luma[-1]
    for i, (picture, y) in enumerate(zip(pictures, sources.luma, strict=True)):
        apart = look_apart(last, y) if i < len(sources) - 1 and y.shape == last.shape else None
        [luma] = Sources.of(StoredImages([picture], torch.device("cpu"))).luma
        rows.append(
            {
                "name": picture.name,
                "width": picture.size[0],
                "height": picture.size[1],
                "depth": picture.depth,
                "color": picture.has_color,
                "noise": round(255 * estimate_noise(luma)[0].level, 1),
                "apart": None if apart is None else round(factor * apart.pixels, 1),
                "notes": [sessions.told(note) for note in picture.notes],
            }
        )
    return {"sources": rows, "scene": SCENE_KINDS[sources.scenes[0]].title}
