"""The socket of the page: clients that never finish, that are too many, and a server that is stopped while it works."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

pytest.importorskip("fastapi", reason="the page needs the extra serve")
pytest.importorskip("uvicorn", reason="the page needs the extra serve")
import uvicorn

from fusionkit.server import listening
from fusionkit.server.app import make_app
from fusionkit.server.sessions import Limits

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def address():
    """Host and port of a server that is patient for a moment only."""
    patch = pytest.MonkeyPatch()
    patch.setattr(listening, "SILENT", 0.3)
    patch.setattr(listening, "MOST", 8)
    patch.setattr(listening, "STALLED", 1.5)
    sock = listening.listen("127.0.0.1", 0)
    app = make_app(TOKEN, None, Limits(stalled=0.3), device="cpu")
    server = uvicorn.Server(uvicorn.Config(app, http=listening.Protocol, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    where = sock.getsockname()
    yield where
    server.should_exit = True
    thread.join()
    patch.undo()


def get(address, path="/page.js"):
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/{TOKEN}{path}", timeout=10) as answer:
        return answer.status


def received(client, last):
    """Everything up to some last bytes."""
    content = b""
    while last not in content:
        part = client.recv(4096)
        assert part, content
        content += part
    return content


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
@pytest.mark.parametrize("asked_before", [False, True])
def test_half_sent_requests_are_closed(address, sent, asked_before):
    assert get(address) == 200
    with socket.create_connection(address, timeout=10) as client:
        if asked_before:
            client.sendall(b"GET /wrong HTTP/1.1\r\nHost: x\r\n\r\n")
            assert received(client, b"not found")
        client.sendall(sent)
        assert client.recv(4096) == b""  # closed; a timeout would raise


def test_too_many_connections_are_refused_and_leave_room_again(address):
    clients = [socket.create_connection(address, timeout=10) for _ in range(40)]
    end = time.monotonic() + 10
    while (answered := _answered(address)) is False and time.monotonic() < end:
        time.sleep(0.05)
    assert answered
    for client in clients:
        client.close()


def test_who_is_one_too_many_is_told_so(address):
    clients = [socket.create_connection(address, timeout=10) for _ in range(20)]
    clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = received(clients[-1], listening.TEXT)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After" in answer
    for client in clients:
        client.close()


def _answered(address):
    try:
        return get(address) == 200
    except OSError:
        return False


def test_an_upload_that_stalls_is_refused_and_leaves_nothing(address):
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(f"POST /{TOKEN}/api/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        session = received(client, b"}").rpartition(b'"session":"')[2].partition(b'"')[0].decode()
        head = (
            f"PUT /{TOKEN}/api/sessions/{session}/files/0?name=a.png HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
        )
        client.sendall(head.encode() + b"part")
        assert b"a.png: nothing came for 0.3 s" in received(client, b"}")


def test_a_body_that_never_ends_is_closed(address):
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(f"POST /{TOKEN}/api/recipe HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode())
        assert client.recv(4096) == b""  # closed; a timeout would raise


def test_answers_do_not_wait_for_nagle():
    with listening.listen("127.0.0.1", 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP


SLOW = f"""
import sys, threading, time, torch
from fusionkit.method.pipeline import Pipeline
from fusionkit.server.app import make_app
from fusionkit.server.listening import listen, serve_until_stopped
signal = __import__("signal")
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
def busy(self, *args, **how):
    print("busy", flush=True)
    while True:
        torch.rand(300, 300) @ torch.rand(300, 300)
Pipeline.run = busy  # as the worker warms up
serve_until_stopped(make_app("{TOKEN}", None, device="cpu"), listen("127.0.0.1", 0))
"""


def test_a_server_that_is_stopped_while_it_works_ends_in_order(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "busy\n"
        assert list(tmp_path.glob("fusionkit-serve-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("fusionkit-serve-*"))


FULL = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (90, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from fusionkit.server import listening
from fusionkit.server.app import make_app
from fusionkit.server.work import Worker
Worker.start = lambda self: None
listening.SILENT = 2.0
sock = listening.listen("127.0.0.1", 0)
held = []
while len(held) < 90:
    held.append(open("/dev/null"))
    if held[-1].fileno() > 78:
        break
print(sock.getsockname()[1], flush=True)
listening.serve_until_stopped(make_app("{TOKEN}", None, device="cpu"), sock)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are no files there")
def test_at_its_limit_of_open_files_it_refuses_recovers_and_says_so_once(tmp_path):
    command = [sys.executable, "-c", FULL]
    with (
        (tmp_path / "err").open("w") as err,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as process,
    ):
        address = "127.0.0.1", int(process.stdout.readline())
        end = time.monotonic() + 20
        while not _answered(address) and time.monotonic() < end:
            time.sleep(0.05)
        clients = [socket.create_connection(address, timeout=10) for _ in range(40)]
        assert any(_first_bytes(client).startswith(b"HTTP/1.1 503") for client in reversed(clients))
        while not (answered := _answered(address)) and time.monotonic() < end:
            time.sleep(0.1)
        assert answered  # while all of them still hold their end
        for client in clients:
            client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert (tmp_path / "err").read_text().splitlines() == [
        "at the limit of 90 open files: further visitors are refused"
    ]


def _first_bytes(client):
    client.settimeout(0.2)
    try:
        return client.recv(64)
    except OSError:
        return b""
