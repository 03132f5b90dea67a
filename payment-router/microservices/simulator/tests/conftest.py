"""Simulators in processes of their own, a callback receiver, and waiting on conditions."""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
import pytest

T = TypeVar("T")

_RUNNING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")


class Running(NamedTuple):
    """A started simulator: its client and its process."""

    client: httpx.Client
    process: subprocess.Popen[bytes]


class Receiver(NamedTuple):
    """A callback receiver: its URL, what came in (headers, raw body), and the answers to give."""

    url: str
    received: "queue.Queue[tuple[dict[str, str], bytes]]"
    answers: list[int]


def wait_until(read: Callable[[], T], seconds: float = 10) -> T:
    """Read until the answer is truthy; fails the test with the last answer otherwise."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        if time.monotonic() > deadline:
            pytest.fail(f"still {value!r} after {seconds} s")
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Running]]:
    """Start a simulator on a free port: `start(SIMULATOR_DATABASE_PATH=…)`."""
    started: list[Running] = []

    def start_one(**environment: str) -> Running:
        folder = tmp_path_factory.mktemp("simulator")
        log = folder / "log"
        settings = {
            "SIMULATOR_HTTP_PORT": "0",
            "SIMULATOR_DATABASE_PATH": str(folder / "simulator.sqlite3"),
            "SIMULATOR_CALLBACK_SECRET": "callback-secret",
            "SIMULATOR_SLOW_SECONDS": "0.5",
            "SIMULATOR_ASYNC_SECONDS": "0.2",
            "SIMULATOR_LATE_SECONDS": "0.3",
            **environment,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "mospay_simulator"],
                env={"PATH": os.environ["PATH"], **settings},
                stdout=output,
                stderr=output,
            )
        urls = wait_until(lambda: _RUNNING.findall(log.read_text()), seconds=30)
        running = Running(httpx.Client(base_url=urls[0], timeout=20, trust_env=False), process)
        started.append(running)
        return running

    yield start_one
    for running in started:
        running.client.close()
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="module", params=["sqlite", "memory"])
def simulator(request: pytest.FixtureRequest, start: Callable[..., Running]) -> httpx.Client:
    """A client of a simulator, once with each kind of record."""
    return start(SIMULATOR_RECORD=request.param).client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server that keeps what it is sent and answers `answers` in turn, then 204."""
    received: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put((dict(self.headers.items()), body))
            self.send_response(answers.pop(0) if answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output readable."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Receiver(f"http://127.0.0.1:{server.server_port}/callback", received, answers)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., object]:
    """`wait_until`, for tests."""
    return wait_until


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder of the simulator's pyproject.toml."""
    return Path(__file__).parents[1]
