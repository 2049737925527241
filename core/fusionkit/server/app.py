"""The web application: page, catalog, access. Files and results have routes of their own."""

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ..errors import FusionkitError
from .catalog import catalog
from .choices import checked
from .files import FileRoutes
from .pairing import scenes_of
from .recipes import as_command, as_python, as_toml
from .results import ResultRoutes
from .sessions import Limits, Sessions
from .work import Busy, Worker

PAGE = resources.files("fusionkit.server") / "page"
TYPES = {"svg": "image/svg+xml", "html": "text/html", "js": "text/javascript", "css": "text/css"}
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
# what messages advise that a visitor cannot do, and what can be done
ADVICE = {
    "if it is genuine, raise max pixels": "whoever started the server can raise its limit",
    "name one as .*": "save the one to fuse as a file of its own",
    "name the one or three to use.*": "save the one or three to fuse as a file of their own",
}


def make_app(token: str, hosts: frozenset[str] | None, limits: Limits | None = None, device: str = "auto") -> FastAPI:
    """Build the application under /TOKEN/; `app.state` holds its `sessions` and its `worker`.

    hosts: host names that are answered, so that no other site can resolve its name to this machine; None: any.
    """
    limits = limits or Limits()
    sessions, worker = Sessions(limits), Worker(limits, device)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()
        sessions.close()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.sessions, app.state.worker = sessions, worker
    _assets()
    app.middleware("http")(guard(token, hosts))
    app.exception_handler(FusionkitError)(one_line(sessions.told))
    page, api = f"/{token}", f"/{token}/api"
    app.get(page + "/")(lambda: asset("index", "html"))
    app.get(page + "/{name}.{suffix}")(asset)
    app.get(api + "/catalog")(lambda: {**catalog(), "limits": vars(limits)})
    app.post(api + "/recipe")(_recipe)
    app.post(api + "/scenes")(_scenes)
    app.include_router(FileRoutes(sessions), prefix=api)
    app.include_router(ResultRoutes(sessions, worker), prefix=api)
    return app


def guard(token: str, hosts: frozenset[str] | None) -> Callable[..., Awaitable[Response]]:
    """A middleware that checks token and host before anything else, and adds the security headers to every answer."""

    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.url.path.split("/")[1]
        if not secrets.compare_digest(given.encode(), token.encode()):
            return Response("not found", 404, HEADERS)
        if hosts is not None and (request.url.hostname or "") not in hosts:
            return Response("wrong host", 421, HEADERS)
        response = await answer(request)
        response.headers.update(HEADERS)
        return response

    return guarded


def one_line(told: Callable[[str], str]) -> Callable[[Request, Any], JSONResponse]:
    """Answers with an error's line, in the words of a page."""

    def answer(_: Request, error: FusionkitError) -> JSONResponse:
        text = told(str(error))
        for elsewhere, here in ADVICE.items():
            text = re.sub(elsewhere, here, text)
        return JSONResponse({"error": text}, 503 if isinstance(error, Busy) else 422)

    return answer


@cache
def _assets() -> dict[str, bytes]:
    """The files of the page, read once: a server at its limit of open files can still answer."""
    return {path.name: path.read_bytes() for path in PAGE.iterdir() if path.name.rpartition(".")[2] in TYPES}


def asset(name: str, suffix: str) -> Response:
    """A file of the page."""
    content = _assets().get(f"{name}.{suffix}")
    return Response("not found", 404) if content is None else Response(content, media_type=TYPES[suffix])


def _recipe(
    choices: Annotated[dict[str, Any], Body()],
    names: Annotated[list[str], Body()],
    many: Annotated[Sequence[str], Body()] = (),
) -> dict[str, str]:
    """Write valid choices as a command, a TOML preset and Python code."""
    chosen = checked(choices)
    return {"command": as_command(chosen, names, many), "toml": as_toml(chosen), "python": as_python(chosen, names)}


def _scenes(
    names: Annotated[list[str], Body()], patterns: Annotated[str, Body()] = "", group: Annotated[int, Body(ge=0)] = 0
) -> dict[str, Any]:
    """Group names of files to scenes."""
    return scenes_of(names, patterns, group)
