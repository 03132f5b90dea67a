"""Connectors in processes of their own, and the server that their fake providers are made of."""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

_RUNNING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")
# What goes wrong with the answer, after the provider has done what it was asked.
Trouble = Literal["hang", "cut", "error", "garbage"]


@dataclass(frozen=True)
class Seen:
    """A request that reached the fake."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None


Reply = tuple[int, Any]


@dataclass
class Fake:
    """A provider over real HTTP: `serve` answers by its contract, `trouble` spoils one answer."""

    serve: Callable[[Seen], Reply]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    trouble: dict[str, Trouble] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)
    server: ThreadingHTTPServer | None = None
    connections: list[socket.socket] = field(default_factory=list)

    def calls(self, method: str, path: str) -> list[Seen]:
        """The requests of one method whose path starts so."""
        return [s for s in self.seen if s.method == method and s.path.startswith(path)]

    def reset(self) -> None:
        """Forget what was seen and planned, and listen again if it was down."""
        self.seen.clear()
        self.trouble.clear()
        if self.server is None:
            self.open()

    def down(self) -> None:
        """Stop listening and drop what is connected, so that connections are refused."""
        self.released.set()
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def open(self) -> None:
        """Listen, on the same port each time."""
        fake = self
        self.released.clear()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                fake.connections.append(self.connection)

            def _serve(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, parts.path, dict(parse_qsl(parts.query)), headers, raw)
                fake.seen.append(seen)
                status, body = fake.serve(seen)
                self._answer(status, body, fake.trouble.pop(f"{self.command} {parts.path}", None))

            def _answer(self, status: int, body: Any, trouble: Trouble | None) -> None:
                if trouble == "hang":
                    fake.released.wait(30)
                if trouble in ("hang", "cut"):
                    self.close_connection = True
                    self.connection.close()
                    return
                if trouble == "error":
                    status, body = 503, {"message": "upstream"}
                raw = b"<html>nothing" if trouble == "garbage" else json.dumps(body).encode()
                raw = b"" if body is None else raw
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the test's output readable."""

        port = urlsplit(self.url).port or 0
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@dataclass
class Connector:
    """A running connector, asked as the router asks it."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    folder: Path
    restart: Callable[[], None]

    def written(self) -> bytes:
        """Everything the connector has left behind: its log and its record."""
        return b"".join(file.read_bytes() for file in self.folder.iterdir())

    def lose_record(self) -> None:
        """Start anew without the record."""
        for file in self.folder.glob("record.sqlite3*"):
            file.unlink()
        self.restart()

    def pay(
        self,
        reference: str,
        amount: str = "1000",
        attempt: str | None = None,
        phone: str | None = "+250780000001",
        **headers: str,
    ) -> httpx.Response:
        payload = [{"i": 4, "v": amount}, {"i": 5, "v": phone}, {"i": 10, "v": reference}]
        sent = {"X-Attempt-Id": attempt or f"att_{uuid.uuid4().hex}", **headers}
        return self.client.post("/collection/payment", json=payload, headers=sent)

    def enquire(self, reference: str, **headers: str) -> httpx.Response:
        payload = [{"i": 10, "v": reference}]
        return self.client.post("/collection/paymentStatus", json=payload, headers=headers)

    def refund(self, refund_id: str, attempt: str | None = None, **body: Any) -> httpx.Response:
        sent = {"X-Attempt-Id": attempt or f"att_{uuid.uuid4().hex}"}
        body = {"refund_id": refund_id, **body}
        return self.client.post("/collection/refund", json=body, headers=sent)

    def refund_status(self, refund_id: str, **body: Any) -> httpx.Response:
        body = {"refund_id": refund_id, **body}
        return self.client.post("/collection/refundStatus", json=body)

    def callback(
        self, raw: bytes, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> httpx.Response:
        body = {
            "headers": headers or {},
            "body_base64": base64.b64encode(raw).decode(),
            "method": method,
        }
        return self.client.post("/callbacks", json=body)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Read until the answer is truthy; fails the test with the last answer otherwise."""

    def wait_until(read: Callable[[], Any], seconds: float = 15) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := read()):
            if time.monotonic() > deadline:
                pytest.fail(f"still {value!r} after {seconds} s")
            time.sleep(0.02)
        return value

    return wait_until


@pytest.fixture(scope="module")
def open_fake() -> Iterator[Callable[[Callable[[Seen], Reply]], Fake]]:
    """Open a fake provider from its contract."""
    opened: list[Fake] = []

    def open_one(serve: Callable[[Seen], Reply]) -> Fake:
        fake = Fake(serve)
        fake.open()
        opened.append(fake)
        return fake

    yield open_one
    for fake in opened:
        fake.released.set()
        fake.down()


@pytest.fixture(scope="module")
def start_connector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Connector]]:
    """Start a connector on a free port: `start_connector("mospay_mtnmomo", "MTN_", …)`."""
    started: list[Connector] = []

    def start_one(package: str, prefix: str, **settings: str) -> Connector:
        folder = tmp_path_factory.mktemp(package)
        log = folder / "log"
        environment = {
            "PATH": os.environ["PATH"],
            f"{prefix}HTTP_PORT": "0",
            f"{prefix}DATABASE_PATH": str(folder / "record.sqlite3"),
            f"{prefix}TIMEOUT_SECONDS": "1",
            f"{prefix}LOG_LEVEL": "debug",
            **settings,
        }

        def launch() -> tuple[subprocess.Popen[bytes], httpx.Client]:
            before = len(_RUNNING.findall(log.read_text())) if log.exists() else 0
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", package], env=environment, stdout=output, stderr=output
                )
            deadline = time.monotonic() + 30
            while len(urls := _RUNNING.findall(log.read_text())) == before:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(log.read_text())
                time.sleep(0.02)
            return process, httpx.Client(base_url=urls[-1], timeout=20, trust_env=False)

        process, client = launch()

        def restart() -> None:
            connector.process.kill()
            connector.process.wait()
            connector.client.close()
            connector.process, connector.client = launch()

        connector = Connector(client, process, folder, restart)
        started.append(connector)
        return connector

    yield start_one
    for connector in started:
        connector.client.close()
        connector.process.kill()
        connector.process.wait()
