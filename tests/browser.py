"""A real browser for tests. Importing this skips a module where playwright is missing, `needs_chromium` its tests."""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's tests need playwright")

__all__ = ["TOKEN", "expect", "needs_chromium", "opened", "served"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOKEN = "a-token-of-the-tests"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="the browser's tests need Chromium")
expect = playwright.expect
expect.set_options(timeout=20_000)  # a busy machine is no failure


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application under TOKEN; yields its address."""
    uvicorn = pytest.importorskip("uvicorn", reason="the page needs the extra serve")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}/"
    server.should_exit = True
    thread.join()


@contextmanager
def opened(address: str, *allowed: str, offline: bool = False) -> Iterator[Any]:
    """A page of 1280x900 at an address; `page.problems` are errors, and requests that begin otherwise than `allowed`."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=offline, viewport={"width": 1280, "height": 900}).new_page()
        page.problems = problems = []
        page.on("console", lambda message: (offline or message.type == "error") and problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: r.url.startswith(allowed) or problems.append(r.url))
        page.goto(address)
        yield page
        browser.close()
