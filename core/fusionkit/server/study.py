"""The page of a study: one comparison after another, votes by keyboard or mouse, several viewers at once."""

import random
from pathlib import Path
from threading import Lock

from fastapi import Body, FastAPI
from fastapi.responses import FileResponse, Response
from pydantic import TypeAdapter, ValidationError

from ..errors import FusionkitError, InputError
from ..judging.study import Viewer, Vote, all_votes, keep_vote, open_study
from ..options import first_of
from .app import asset, guard, one_line


def make_study_app(folder: Path, token: str, hosts: frozenset[str] | None) -> FastAPI:
    """Build the page of the study in a folder under /TOKEN/, which never sees the key. hosts: as of `make_app`."""
    study, writing = open_study(folder), Lock()
    images = {name for sheet in study.sheets for name in (*sheet.sources, sheet.a, sheet.b)}
    numbers = {sheet.number for sheet in study.sheets}
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(guard(token, hosts))
    app.exception_handler(FusionkitError)(one_line(str))
    page = f"/{token}"

    def sheets(viewer: str) -> dict[str, object]:
        """The sheets in an order of the viewer's own, and the choices made before."""
        name = _viewer(viewer)
        order = random.Random(name).sample(study.sheets, len(study.sheets))
        given = {vote.sheet: vote.choice for vote in all_votes(folder) if vote.viewer == name}
        return {"question": study.question, "sheets": [sheet.model_dump() for sheet in order], "given": given}

    def vote(given: dict[str, str] = Body()) -> dict[str, str]:  # noqa: B008
        """Keep a vote."""
        try:
            made = Vote.model_validate({**given, "viewer": _viewer(given.get("viewer", ""))})
        except ValidationError as error:
            raise InputError(f"no such vote: {first_of(error)}") from None
        if made.sheet not in numbers:
            raise InputError(f"no such sheet: {made.sheet}")
        with writing:
            keep_vote(folder, made)
        return {"kept": made.sheet}

    def image(name: str) -> Response:
        """A picture of a sheet."""
        path = f"images/{name}"
        return FileResponse(folder / path) if path in images else Response("not found", 404)

    app.get(page + "/")(lambda: asset("study", "html"))
    app.get(page + "/images/{name}")(image)
    app.get(page + "/api/sheets")(sheets)
    app.post(page + "/api/vote")(vote)
    app.get(page + "/{name}.{suffix}")(asset)
    return app


def _viewer(name: str) -> str:
    try:
        return TypeAdapter(Viewer).validate_python(name.strip())
    except ValidationError:
        raise InputError("a viewer's name has 1 to 60 letters, digits, spaces, or . @ + -") from None
