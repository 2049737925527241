"""The socket that the page is served on, with limits on slow and numerous clients."""

import asyncio
import os
import socket
import sys
from asyncio import Transport
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ..errors import OptionError


def _open_files() -> int:
    """How many files this process may have open."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are not counted
        return 1024
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


MOST = max(8, min(256, _open_files() // 4))  # connections at once: each may have a file, and the rest is for sessions
QUEUED = MOST // 4  # connections that the system holds until they are accepted, all at once
SILENT = 10.0  # seconds in which a connection must complete the head of a request
STALLED = 70.0  # seconds that a client may neither send nor take; longer than an upload may pause (`Limits.stalled`)
LEAVING = 3  # seconds that requests have to end when the server is stopped
TEXT = b"too many visitors; try again in a moment"
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nRetry-After: 2\r\n"
    b"Connection: close\r\n\r\n%s" % (len(TEXT), TEXT)
)


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP that refuses connections beyond `MOST` with status 503 and closes those whose client does not go on."""

    heard, still, seen = 0, 0.0, (0, 0)

    def connection_made(self, transport: Transport) -> None:
        """Watch a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) <= MOST:
            self.loop.call_later(SILENT, self._watch, None)
        else:
            transport.write(BUSY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what a client sends."""
        self.heard += len(data)
        super().data_received(data)

    def _watch(self, before: Any) -> None:
        """Close the connection if no request came since the last check, or its client has stalled."""
        if self.transport.is_closing():
            return
        cycle, seen = self.cycle, (self.heard, self.transport.get_write_buffer_size())
        waits = cycle is not None and not cycle.response_complete and (cycle.more_body or self.flow.write_paused)
        self.still = self.still + SILENT if waits and seen == self.seen else 0.0
        self.seen = seen
        if self.still >= STALLED or (cycle is before and (before is None or before.response_complete)):
            self.transport.abort()
        else:
            self.loop.call_later(SILENT, self._watch, cycle)


class Server(uvicorn.Server):
    """A server that refuses connections with status 503 where no more files can be opened."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Keep a file open that gives its place to a client who is refused."""
        spare, said = [os.open(os.devnull, os.O_RDONLY)], False

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            nonlocal said
            if "socket.accept()" not in context["message"]:
                loop.default_exception_handler(context)
                return
            if not said:
                said = True
                print(f"at the limit of {_open_files()} open files: further visitors are refused", file=sys.stderr)
            while spare:
                os.close(spare.pop())
            with suppress(OSError):  # nobody waits, or the place is taken
                for listening in sockets or ():
                    _refuse(listening)
            with suppress(OSError):
                spare.append(os.open(os.devnull, os.O_RDONLY))

        asyncio.get_running_loop().set_exception_handler(handle)
        await super().startup(sockets)


def _refuse(listening: socket.socket) -> None:
    """Tell the next client that waits that there is no place. Raises OSError where none waits."""
    client, _ = listening.accept()
    with client:
        client.setblocking(False)
        client.send(BUSY)


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
        app,
        http=Protocol,
        log_level="warning",
        access_log=False,
        backlog=QUEUED,
        timeout_graceful_shutdown=LEAVING,
    )
    try:
        Server(config).run(sockets=[listening])
    except SystemExit as stopped:  # sessions and their folder are gone by now
        sys.stdout.flush()
        os._exit(stopped.code if isinstance(stopped.code, int) else 1)
