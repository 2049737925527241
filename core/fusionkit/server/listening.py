"""The socket that the page is served on, with limits on slow and numerous clients."""

import os
import socket
import sys
from asyncio import Transport
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ..errors import OptionError

__all__ = ["Protocol", "listen", "serve_until_stopped"]

MOST = 256  # connections at once: below the usual limit of 1024 open files, with room for the files of sessions
SILENT = 10.0  # seconds in which a connection must complete the head of a request
LEAVING = 3  # seconds that requests have to end when the server is stopped


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP that closes half-sent requests and refuses connections beyond `MOST`."""

    def connection_made(self, transport: Transport) -> None:
        """Watch a connection, or close it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
        else:
            self.loop.call_later(SILENT, self._watch, None)

    def _watch(self, before: Any) -> None:
        """Close the connection if no request came since the last check, and none is being answered."""
        if self.transport.is_closing():
            return
        if self.cycle is before and (before is None or before.response_complete):
            self.transport.abort()
        else:
            self.loop.call_later(SILENT, self._watch, self.cycle)


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes a free one. Raises OptionError."""
    try:
        made = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason, remedy = error.strerror or error, "give another `port`, or 0 for a free one"
        raise OptionError(f"port {port} of {host} cannot be listened on: {reason}; {remedy}") from None
    # asyncio turns off Nagle's algorithm, which costs 44 ms an answer, only where the protocol is stated
    return socket.socket(made.family, made.type, socket.IPPROTO_TCP, made.detach())


def serve_until_stopped(app: FastAPI, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, then end the process, which a thread that still computes would abort."""
    config = uvicorn.Config(
        app, http=Protocol, log_level="warning", access_log=False, timeout_graceful_shutdown=LEAVING
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except SystemExit as stopped:  # sessions and their folder are gone by now
        sys.stdout.flush()
        os._exit(stopped.code if isinstance(stopped.code, int) else 1)
