"""An open live stream of the tests: a real ASGI call, read event by event, hung up at will."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
from mospay_shared.chassis.service import Service


@dataclass
class Stream:
    """Reads `/bff/v1/stream` with a browser's cookies until it is closed or ends by itself."""

    service: Service
    cookies: dict[str, str]
    topics: str = "payment"
    last: str | None = None
    text: str = ""
    status: int = 0
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Stream":
        """Connect and wait until the stream has said where it begins."""
        self._task = asyncio.create_task(self.service.app(self._scope(), self._receive, self._send))
        self._task.add_done_callback(lambda _: self._more.set())
        await self.until(lambda: self.status >= 400 or self.begins is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        self._gone.set()
        assert self._task is not None
        async with asyncio.timeout(10):
            await self._task

    @property
    def blocks(self) -> list[dict[str, str]]:
        """What has come so far, a block of fields each; comments are left out."""
        found = []
        for block in self.text.split("\n\n")[:-1]:
            lines = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
            if lines:
                found.append({name: value for name, _, value in lines})
        return found

    @property
    def begins(self) -> int | None:
        """The id the stream begins after."""
        first = self.blocks[:1]
        return int(first[0]["id"]) if first else None

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events so far, `event` and `data`."""
        return [
            {"event": b["event"], "id": int(b["id"]), "data": orjson.loads(b["data"])}
            for b in self.blocks
            if "event" in b
        ]

    @property
    def payments(self) -> list[str]:
        """The ids of the payments told of."""
        return [e["data"]["payment"]["id"] for e in self.events if e["event"] == "payment"]

    async def until(self, holds: Any, seconds: float = 10) -> None:
        """Wait until something holds of this stream."""
        async with asyncio.timeout(seconds):
            while not holds():
                assert self._task is None or not self._task.done() or holds(), "the stream ended"
                self._more.clear()
                await self._more.wait()

    async def ended(self, seconds: float = 10) -> None:
        """Wait until the server has ended the stream."""
        assert self._task is not None
        async with asyncio.timeout(seconds):
            await asyncio.wait([self._task])

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"").decode()
        self._more.set()

    def _scope(self) -> dict[str, Any]:
        cookie = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        headers = [(b"cookie", cookie.encode())]
        if self.last is not None:
            headers.append((b"last-event-id", self.last.encode()))
        return {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": "/bff/v1/stream", "raw_path": b"/bff/v1/stream",
            "query_string": b"topics=" + self.topics.encode(), "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("portal", 80),
        }  # fmt: skip
