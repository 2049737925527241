"""The web application: uploads, jobs, pictures. The page lies in `page/`; nothing is fetched from elsewhere."""

import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ..errors import FusionkitError, InputError
from ..images import check_output, store_image
from ..images.convert import to_tensor
from ..images.picture import Array, Picture
from ..images.write import png_bytes
from ..method.pipeline import output_depth
from ..numerics.noise import estimate_noise
from ..numerics.registration import look_apart
from ..reading import read_image
from ..scoring.evaluation import as_sources
from ..scoring.maps import overlay, trusted
from .catalog import catalog as everything
from .catalog import checked
from .recipes import as_command, as_python, as_toml
from .sessions import Limits, Result, Session, Sessions
from .work import Busy, Worker

__all__ = ["make_app"]

PAGE = resources.files("fusionkit.server") / "page"
TYPES = {"icon.svg": "image/svg+xml", "index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
# nothing inline, nothing from elsewhere
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Given = Annotated[dict[str, Any], Body()]
SHOWN = 2400  # pixels of the longer side of what a browser is given to look at
WAIT = 20.0  # seconds that a question for a job's end is held


def make_app(token: str, hosts: frozenset[str] | None, limits: Limits | None = None, device: str = "auto") -> FastAPI:
    """The application under /TOKEN/.

    hosts: names that the page may be asked for by, against other pages that point their own name here; None for any.
    """
    limits = limits or Limits()
    folder = tempfile.TemporaryDirectory(prefix="fusionkit-serve-")
    sessions, worker = Sessions(Path(folder.name), limits), Worker(limits, device)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()
        sessions.close()
        folder.cleanup()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """Token and host before anything else; what a browser is told with every answer."""
        given = request.url.path.split("/")[1]
        if not secrets.compare_digest(given.encode(), token.encode()):
            return Response("not found", 404, HEADERS)
        if hosts is not None and (request.url.hostname or "") not in hosts:
            return Response("wrong host", 421, HEADERS)
        response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(FusionkitError)
    def explained(_: Request, error: FusionkitError) -> JSONResponse:
        text = re.sub(rf"{re.escape(folder.name)}/[^/]+/\d+-", "", str(error))
        text = text.replace("if it is genuine, raise `max_pixels`", "whoever started the server can raise its limit")
        return JSONResponse({"error": text}, 503 if isinstance(error, Busy) else 422)

    base = f"/{token}"

    @app.get(base + "/")
    def index() -> Response:
        return _page("index.html")

    @app.get(base + "/{name}.{suffix}")
    def asset(name: str, suffix: str) -> Response:
        return _page(f"{name}.{suffix}")

    @app.get(base + "/api/catalog")
    def catalog() -> dict[str, Any]:
        return {**everything(), "limits": vars(limits)}

    @app.post(base + "/api/sessions")
    def open_session() -> dict[str, str]:
        return {"session": sessions.open().number}

    @app.delete(base + "/api/sessions/{number}")
    def drop(number: str) -> dict[str, str]:
        sessions.drop(number)
        return {}

    @app.put(base + "/api/sessions/{number}/files/{index}")
    async def upload(number: str, index: int, name: str, request: Request) -> dict[str, int]:
        session = sessions.get(number)
        if not 0 <= index < limits.files:
            raise InputError(f"at most {limits.files} files at once")
        safe = PurePosixPath(name.replace("\\", "/")).name[-120:].lstrip(".") or "image"
        path, size = session.folder / f"{index}-{safe}", 0
        with path.open("wb") as stream:
            async for part in request.stream():
                size += len(part)
                if size > limits.bytes:
                    path.unlink()
                    raise InputError(f"{safe}: larger than {limits.bytes / 1e6:.0f} MB")
                stream.write(part)
        session.files[index] = path
        return {"bytes": size}

    @app.post(base + "/api/sessions/{number}/read")
    def read(number: str) -> dict[str, Any]:
        session = sessions.get(number)
        if len(session.files) < 2:
            raise InputError("two files or more make one picture; drop them together")
        session.pictures = [_named(read_image(p, "auto", limits.pixels)) for _, p in sorted(session.files.items())]
        session.sources = as_sources(session.pictures, resize=True)
        return _described(session)

    @app.get(base + "/api/sessions/{number}/sources/{index}")
    def source(number: str, index: int) -> Response:
        session = sessions.get(number)
        if not 0 <= index < len(session.pictures):
            raise InputError("no such source")
        if index not in session.encoded:
            session.encoded[index] = png_bytes(session.pictures[index].pixels, SHOWN)
        return Response(session.encoded[index], media_type="image/png")

    @app.post(base + "/api/recipe")
    def recipe(choices: Given, names: Annotated[list[str], Body()]) -> dict[str, str]:
        chosen = checked(choices, device)
        return {
            "command": as_command(chosen, names),
            "toml": as_toml(chosen),
            "python": as_python(chosen, names),
        }

    @app.post(base + "/api/sessions/{number}/results")
    def fuse(number: str, choices: Annotated[dict[str, Any], Body(embed=True)]) -> dict[str, str]:
        session = sessions.get(number)
        if not session.pictures:
            raise InputError("nothing was read yet")
        result = Result(secrets.token_urlsafe(8), checked(choices, device))
        session.add(result, limits.results)
        try:
            worker.put(session, result)
        except Busy:
            result.become("failed", "busy")
            raise
        return {"result": result.number}

    def found(number: str, result: str) -> tuple[Session, Result]:
        session = sessions.get(number)
        if result not in session.results:
            raise InputError("this result is gone; fuse again")
        return session, session.results[result]

    @app.get(base + "/api/sessions/{number}/results/{one}")
    def status(number: str, one: str) -> dict[str, Any]:
        _, result = found(number, one)
        with result.changed:
            result.changed.wait_for(lambda: result.over, WAIT)
        return {
            "status": result.status,
            "reason": result.reason,
            "seconds": round(result.seconds, 3),
            "notes": list(result.fused.picture.notes) if result.fused else [],
            "reference": result.fused.reference if result.fused else None,
        }

    @app.delete(base + "/api/sessions/{number}/results/{one}")
    def cancel(number: str, one: str) -> dict[str, str]:
        _, result = found(number, one)
        result.become("cancelled")
        return {}

    @app.get(base + "/api/sessions/{number}/results/{one}/figures")
    def figures(number: str, one: str) -> dict[str, Any]:
        values = worker.figures(*_done(*found(number, one)))
        return {
            name: {"value": value, "higher": metric.higher_is_better, "definition": metric.definition}
            for key, metric in worker.metrics().items()
            if (value := values.get(name := key.removeprefix("audit."))) is not None and np.isfinite(value)
        }

    @app.get(base + "/api/sessions/{number}/results/{one}/pictures/{what}")
    def picture(number: str, one: str, what: str) -> Response:
        session, result = _done(*found(number, one))
        with worker.looking, session.lock:
            if what not in result.pictures:
                result.pictures[what] = png_bytes(_view(session, result, worker, what), SHOWN)
        return Response(result.pictures[what], media_type="image/png")

    @app.get(base + "/api/sessions/{number}/results/{one}/file")
    def download(number: str, one: str) -> Response:
        session, result = _done(*found(number, one))
        assert result.fused is not None
        reference = session.pictures[result.fused.reference]
        depth, span = output_depth(reference, None)
        path = session.folder / f"{result.number}{'.tif' if depth == 'float' else '.png'}"
        pixels = result.fused.picture
        check_output(path, depth, pixels.channels, alpha=pixels.alpha is not None)
        store_image(
            path,
            pixels.pixels,
            depth,
            span=span,
            alpha=pixels.alpha,
            icc=pixels.icc,
            metadata=pixels.metadata,
        )
        content = path.read_bytes()
        path.unlink()
        headers = {"Content-Disposition": f'attachment; filename="fused{path.suffix}"'}
        return Response(content, media_type="application/octet-stream", headers=headers)

    return app


def _page(name: str) -> Response:
    if name not in TYPES:
        return Response("not found", 404)
    return Response((PAGE / name).read_bytes(), media_type=TYPES[name])


def _named(picture: Picture) -> Picture:
    """Without the number that its file was given."""
    return replace(picture, name=picture.name.partition("-")[2])


def _done(session: Session, result: Result) -> tuple[Session, Result]:
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


def _described(session: Session) -> dict[str, Any]:
    """What is known of the sources before anything is fused."""
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
