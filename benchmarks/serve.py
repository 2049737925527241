"""The page under load: clients with pictures of mixed sizes beside one that fuses 24 megapixels without end.

Prints the percentiles of the seconds until a picture is seen, without and with the large job and as ratios, what of it
is a client alone, and the server's resident memory over many fusions.
"""

import argparse
import io
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from fusionkit.scenes import infrared_visible

SIZES = (240, 320), (480, 640), (720, 960), (960, 1280)  # height, width of small pairs
LARGE = 4000, 6000
LOOKS = "auto", "faithful", "vivid"  # choices that each fusion takes in turn


class Client:
    """What the page does."""

    def __init__(self, address: str, files: list[bytes]) -> None:
        self.address = address
        self.session = f"api/sessions/{self.ask('api/sessions', b'', 'POST')['session']}"
        for i, content in enumerate(files):
            self.ask(f"{self.session}/files/{i}?name={i}.jpg", content, "PUT")
        self.ask(f"{self.session}/read", b"", "POST")
        self.result = ""

    def ask(self, path: str, body: bytes | None = None, method: str = "GET") -> Any:
        request = Request(self.address + path, body, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=600) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers["Content-Type"] else content

    def fuse(self, choices: dict[str, Any], *, full: bool = False) -> float:
        """Seconds until the picture is there: what is seen first, or the file. Raises RuntimeError where it failed."""
        began = time.perf_counter()
        if self.result:
            self.ask(self.result, method="DELETE")
        body = json.dumps({"choices": choices}).encode()
        self.result = f"{self.session}/results/{self.ask(f'{self.session}/results', body, 'POST')['result']}"
        now = {"status": "waiting"}
        while now["status"] in ("waiting", "running") and not now.get("preview"):
            now = self.ask(self.result)
        if now["status"] not in ("waiting", "running", "done"):
            raise RuntimeError(f"{now['status']}: {now['reason']}")
        self.ask(f"{self.result}/pictures/{'result' if now['status'] == 'done' else 'preview'}")
        if full:
            self.ask(f"{self.result}/want", b"", "POST")
            while now["status"] != "done":
                now = self.ask(self.result)
            self.ask(f"{self.result}/file")
        return time.perf_counter() - began


@cache
def pair(size: tuple[int, int]) -> list[bytes]:
    """JPEGs of an infrared and a visible picture of this (height, width)."""
    files = []
    for image in infrared_visible((480, 640)):
        values = (image * 255 + 0.5).astype(np.uint8)
        made = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).resize(size[::-1])
        stream = io.BytesIO()
        made.save(stream, "jpeg", quality=95)
        files.append(stream.getvalue())
    return files


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """Address and process number of `fusionkit serve`."""
    started = subprocess.Popen(
        [sys.executable, "-m", "fusionkit", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    try:
        yield started.stdout.readline().strip(), started.pid
    finally:
        started.terminate()
        started.wait()


def resident(pid: int) -> float:
    """Resident memory of a process, in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


class Share(threading.Thread):
    """The share of a core that one busy thread gets meanwhile: 1 on a machine with cores to spare."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: list[float] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """Compute for some milliseconds, twice a second."""
        while not self.stop.wait(0.5):
            wall, cpu = time.perf_counter(), time.thread_time()
            while time.thread_time() - cpu < 0.02:
                pass
            self.found.append((time.thread_time() - cpu) / (time.perf_counter() - wall))

    def mean(self) -> float:
        """The share until now; stops."""
        self.stop.set()
        return float(np.mean(self.found))


def busy(address: str, clients: int, seconds: float, think: float) -> tuple[list[float], list[str]]:
    """Seconds of all fusions of small pairs, and errors; each client waits about `think` seconds between two."""
    taken: list[float] = []
    errors: list[str] = []

    def use(number: int) -> None:
        chance = random.Random(number)
        try:
            client, end = Client(address, pair(SIZES[number % len(SIZES)])), time.monotonic() + seconds
            for turn in range(10**6):
                time.sleep(think * (0.5 + chance.random()))
                if time.monotonic() > end:
                    return
                taken.append(client.fuse({"look": LOOKS[turn % len(LOOKS)]}))
        except Exception as error:
            errors.append(f"client {number}: {error}")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, errors


def compare(clients: int, seconds: float, think: float) -> None:
    """Percentiles of small jobs alone, of all clients, and of all clients beside the large job."""
    share = Share()
    share.start()
    for size in (*SIZES, LARGE):
        pair(size)  # not while others are timed
    with server() as (address, pid):
        alone, _ = busy(address, 1, seconds / 2, 0.1)
        many, errors = busy(address, clients - 1, seconds, think)
        large: list[tuple[float, float]] = []
        stop = threading.Event()

        def load() -> None:
            client = Client(address, pair(LARGE))
            try:
                for turn in range(10**6):
                    choices = {"look": LOOKS[turn % len(LOOKS)]}
                    seen = client.fuse(choices)
                    large.append((seen, client.fuse(choices, full=True)))
                    if stop.is_set():
                        return
            except Exception as error:
                errors.append(f"large: {error}")

        thread = threading.Thread(target=load)
        thread.start()
        while not large and thread.is_alive():
            time.sleep(0.1)
        beside, more = busy(address, clients - 1, seconds, think)
        stop.set()
        thread.join()
        memory = resident(pid)
    for name, taken in (("alone", alone), (f"{clients - 1} clients", many), ("beside 24 MP", beside)):
        median, high = np.percentile(taken, [50, 95])
        ratio = high / np.percentile(alone, 95)
        print(f"{name:14} {len(taken):4} fusions  median {median:6.2f} s  p95 {high:6.2f} s  {ratio:6.2f} x alone")
    seen, full = np.median(np.array(large), axis=0)
    print(f"24 MP: seen after {seen:.2f} s, at full size after {full:.2f} s, median of {len(large)}")
    print(
        f"errors: {errors + more or 'none'}; resident {memory:.0f} MB; a busy thread got {share.mean():.2f} of a core"
    )


def remember(count: int, size: tuple[int, int]) -> None:
    """Resident memory over many fusions of one session, each with a download."""
    with server() as (address, pid):
        client, found = Client(address, pair(size)), list[float]()
        for turn in range(count):
            client.fuse({"look": LOOKS[turn % len(LOOKS)]}, full=True)
            found.append(resident(pid))
            if (turn + 1) % (count // 10) == 0:
                print(f"{size[1]}x{size[0]}: {turn + 1:4} fusions  {found[-1]:6.0f} MB", flush=True)
    half = len(found) // 10
    print(f"last tenth over second tenth: {np.mean(found[-half:]) / np.mean(found[half : 2 * half]):.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10, help="one of them has the large pair")
    parser.add_argument("--seconds", type=float, default=60, help="of each part")
    parser.add_argument("--think", type=float, default=3, help="seconds between two fusions of a client")
    parser.add_argument("--fusions", type=int, default=300, help="over which memory is watched; 0: not")
    parser.add_argument("--size", default="1500x2000", help="height x width of the pair whose memory is watched")
    arguments = parser.parse_args()
    if arguments.seconds:
        compare(arguments.clients, arguments.seconds, arguments.think)
    if arguments.fusions:
        height, width = map(int, arguments.size.split("x"))
        remember(arguments.fusions, (height, width))


if __name__ == "__main__":
    main()
