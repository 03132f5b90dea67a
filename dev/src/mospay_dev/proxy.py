"""TCP proxies of our own: they stand between processes and spoil, hold or watch what passes.

A `Trap` is how a test names an exact step from outside: it fires on bytes that a connection carries
(`COMMIT` after a payment's id went to PostgreSQL, a pack that names it on its way to the broker)
and holds the step there, so that the process can be killed in it. No service knows of any of this.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from mospay_dev.infrastructure.processes import StartFailed

Direction = Literal["up", "down"]  # up: towards the server
Act = Literal["hold_before", "hold_after", "cut_before", "cut_after"]
COMMIT = b"COMMIT;"  # what asyncpg sends to end a transaction
ACK = b"\x00\x3c\x00\x50"  # AMQP basic.ack
CONNECT_SECONDS = 5.0
CALL_SECONDS = 15.0  # a command to the proxies' thread takes no longer
T = TypeVar("T")


@dataclass(eq=False)
class Trap:
    """Fires once, on the first connection that shows `marker` and afterwards `then`.

    `marker` arms a connection (in `seen` direction, or any), `then` upstream fires; without `then`
    the marker itself does. `before` acts instead of letting those bytes pass, `after` once they
    have passed: what comes back is held then. `label` narrows to connections whose first bytes
    contain it (`gateway:publish` on the broker). A transaction that ends unfired disarms.
    """

    marker: bytes
    act: Act
    then: bytes | None = None
    seen: Direction | None = "up"
    label: bytes = b""
    caught: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = 20) -> None:
        """Wait until it has fired; TimeoutError says that the step was never reached."""
        if not self.caught.wait(seconds):
            raise TimeoutError(f"no connection did what {self.marker!r} {self.then!r} waits for")


@dataclass
class Faults:
    """What a proxy does to everything that passes; the default does nothing."""

    latency_seconds: float = 0.0  # added to every chunk
    bytes_per_second: float | None = None
    held: frozenset[Direction] = frozenset()  # both: a black hole that accepts and never answers
    held_label: bytes = b""
    cut_after_bytes: int | None = None  # of a connection, both directions together
    answer: bytes | None = None  # told to the client instead of the server's answer, then closed
    answer_forwards: bool = True  # whether the request still reaches the server


class _Side(asyncio.Protocol):
    """One socket of a connection."""

    def __init__(self, flow: "_Flow", direction: Direction) -> None:
        self._flow, self._direction = flow, direction
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._direction == "up":
            self._flow.accepted(transport)

    def data_received(self, data: bytes) -> None:
        self._flow.received(self._direction, data)

    def eof_received(self) -> bool:
        self._flow.ended(self._direction)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._flow.lost(self._direction)


class _Flow:
    """A client's connection and ours to the server; bytes wait in two queues."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self.first = b""  # its first bytes, by which a trap's label knows it
        self.carried = 0
        self.touched = False  # whether it was held or fed: healing cuts it
        self._held: set[Direction] = set()
        self._armed: set[Trap] = set()
        self._shut: set[Direction] = set()  # directions that have properly ended
        self._tails: dict[Direction, bytes] = {"up": b"", "down": b""}
        self._queues: dict[Direction, asyncio.Queue[bytes | None]] = {
            "up": asyncio.Queue(),
            "down": asyncio.Queue(),
        }
        self._go = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self.closed = False

    def accepted(self, client: asyncio.Transport) -> None:
        """Begin: the server is only called when something may flow."""
        self._client = client
        self._proxy.flows.add(self)
        self._proxy.connections += 1
        self._tasks.append(asyncio.create_task(self._run()))

    async def _run(self) -> None:
        try:
            while self._stuck("up") and not self.first:
                await asyncio.sleep(0.01)
            await self._connect()
        except (OSError, TimeoutError):
            self.abort()
            return
        self._tasks += [asyncio.create_task(self._pump(d)) for d in ("up", "down")]

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            made = await loop.create_connection(
                lambda: _Side(self, "down"), "127.0.0.1", self._proxy.target
            )
        self._server = made[0]
        if self.closed:
            self._server.abort()

    def received(self, direction: Direction, data: bytes) -> None:
        """Look at what came and queue it."""
        if self.closed:
            return
        if direction == "up" and len(self.first) < 1024:
            self.first += data[:1024]
        self.carried += len(data)
        self._proxy.carried += len(data)
        act = self._look(direction, data)
        if act in ("cut_before", "cut_after"):
            if act == "cut_after" and self._server is not None:
                self._held.add("down")  # what the server says to it never comes back
                self._server.write(data)
                asyncio.get_running_loop().call_later(0.3, self.abort)
            else:
                self.abort()
            return
        if act == "hold_before":
            self._held.add(direction)
            self.touched = True
        if act == "hold_after":
            self._held.add("down")
            self.touched = True
        faults = self._proxy.faults
        if faults.cut_after_bytes is not None and self.carried > faults.cut_after_bytes:
            self.abort()
            return
        if faults.answer is not None and self._answer(direction, data, faults):
            return
        self._queues[direction].put_nowait(data)

    def _answer(self, direction: Direction, data: bytes, faults: Faults) -> bool:
        """Answer in the server's place; True when these bytes go no further."""
        assert self._client is not None and faults.answer is not None
        if direction == "up" and faults.answer_forwards:
            return False
        self._client.write(faults.answer)
        asyncio.get_running_loop().call_soon(self._close_client)
        return True

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()

    def _look(self, direction: Direction, data: bytes) -> Act | None:
        seen = self._tails[direction] + data
        self._tails[direction] = seen[-200:]
        for pattern in self._proxy.counts:
            old = seen[: len(seen) - len(data)]  # what was in the tail already is not new
            self._proxy.counts[pattern] += seen.count(pattern) - old.count(pattern)
        for trap in list(self._proxy.traps):
            if trap.label and trap.label not in self.first:
                continue
            if trap.seen in (None, direction) and trap.marker in seen:
                self._armed.add(trap)
            if trap not in self._armed:
                continue
            fires = trap.then is None or (direction == "up" and trap.then in data)
            if fires:
                self._proxy.traps.remove(trap)
                trap.caught.set()
                return trap.act
        if direction == "up" and (COMMIT in data or b"ROLLBACK;" in data):
            self._armed.clear()
            self._tails["up"] = b""
        return None

    def _stuck(self, direction: Direction) -> bool:
        faults = self._proxy.faults
        if direction in self._held:
            return True
        return direction in faults.held and faults.held_label in self.first

    async def _pump(self, direction: Direction) -> None:
        target = self._server if direction == "up" else self._client
        assert target is not None
        while True:
            data = await self._queues[direction].get()
            while self._stuck(direction):
                self.touched = True
                await asyncio.sleep(0.005)
            if data is None:
                with contextlib.suppress(OSError, RuntimeError):
                    target.write_eof()
                self._shut.add(direction)
                if len(self._shut) == 2:
                    self.close()
                return
            faults = self._proxy.faults
            if faults.latency_seconds:
                await asyncio.sleep(faults.latency_seconds)
            if faults.bytes_per_second:
                await asyncio.sleep(len(data) / faults.bytes_per_second)
            if target.is_closing():
                return
            target.write(data)

    def ended(self, direction: Direction) -> None:
        """One side sends no more. A held connection ends at once, as with a process that died."""
        if self.touched or self._server is None:
            self.abort()
        else:
            self._queues[direction].put_nowait(None)

    def lost(self, direction: Direction) -> None:
        """One side is gone: the other goes too, once it has what was on its way."""
        if self.closed:
            return
        if self.touched or self._stuck(direction):
            self.abort()
            return
        other = self._server if direction == "up" else self._client
        if other is None or self._queues[direction].empty():
            self.close()
        else:
            asyncio.get_running_loop().call_later(0.2, self.close)

    def release(self) -> None:
        """Let what was held flow on."""
        self._held.clear()

    def half_close(self) -> None:
        """Tell the client that no more will come, and take what it still sends."""
        if self._client is not None:
            self.touched = True
            with contextlib.suppress(OSError, RuntimeError):
                self._client.write_eof()

    def abort(self) -> None:
        """End both sides at once (RST)."""
        self._end(lambda transport: transport.abort())

    def close(self) -> None:
        """End both sides properly."""
        self._end(lambda transport: transport.close())

    def _end(self, how: Callable[[asyncio.Transport], None]) -> None:
        if self.closed:
            return
        self.closed = True
        self._proxy.flows.discard(self)
        for transport in (self._client, self._server):
            if transport is not None:
                how(transport)
        for task in self._tasks:
            task.cancel()


class Proxy:
    """One listening port in front of one target port of this machine."""

    def __init__(self, house: "Proxies", name: str, target: int, port: int) -> None:
        self._house, self.name, self.target, self.port = house, name, target, port
        self.faults = Faults()
        self.flows: set[_Flow] = set()
        self.traps: list[Trap] = []
        self.counts: dict[bytes, int] = {}
        self.connections = 0
        self.carried = 0
        self._server: asyncio.Server | None = None

    async def _listen(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _Side(_Flow(self), "up"), "127.0.0.1", self.port, reuse_address=True
            )

    async def _deaf(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self, label: bytes = b"") -> int:
        """Reset every connection (whose first bytes hold `label`); return how many."""
        return self._house.call(self._cut(label))

    async def _cut(self, label: bytes, *, touched: bool = False) -> int:
        flows = [f for f in self.flows if label in f.first and (f.touched or not touched)]
        for flow in flows:
            flow.abort()
        return len(flows)

    def refuse(self) -> None:
        """Cut what stands and refuse what comes: the server is down."""
        self._house.call(self._refuse())

    async def _refuse(self) -> None:
        await self._deaf()
        await self._cut(b"")

    def spoil(self, **faults: Any) -> None:
        """Set `Faults` by name; what is not named is back to nothing."""
        self.faults = Faults(**faults)

    def blackhole(self, label: bytes = b"") -> None:
        """Accept everything and never answer; what stands is held as well."""
        self.spoil(held=frozenset({"up", "down"}), held_label=label)

    def half_close(self) -> None:
        """Shut the direction towards the clients of what stands."""

        async def shut() -> None:
            for flow in list(self.flows):
                flow.half_close()

        self._house.call(shut())

    def trap(self, marker: str | bytes, act: Act, **more: Any) -> Trap:
        """Set a trap and return it (see Trap)."""
        raw = marker.encode() if isinstance(marker, str) else marker
        trap = Trap(raw, act, **more)
        self.traps.append(trap)
        return trap

    def count(self, pattern: str | bytes) -> None:
        """Begin to count how often a pattern passes, in either direction; see `counts`."""
        self.counts[pattern.encode() if isinstance(pattern, str) else pattern] = 0

    def release(self) -> None:
        """Let everything that is held flow on, as if it had only been slow."""

        async def go() -> None:
            self.faults = Faults()
            for flow in list(self.flows):
                flow.release()

        self._house.call(go())

    def heal(self) -> None:
        """Back to a proxy that does nothing. What was held is cut, never delivered late."""
        self._house.call(self._heal())

    async def _heal(self) -> None:
        await self._cut(b"", touched=True)
        self.faults = Faults()
        self.traps.clear()
        self.counts.clear()
        await self._listen()


class Proxies:
    """All proxies of a stack, in one thread with one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.named: dict[str, Proxy] = {}

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the proxies' loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    def add(self, name: str, target: int, port: int) -> Proxy:
        """Start a proxy on `port` for `target`; StartFailed when the port is taken."""
        proxy = self.named.get(name)
        if proxy is None:
            proxy = self.named[name] = Proxy(self, name, target, port)
        proxy.target = target
        try:
            self.call(proxy._listen())
        except OSError as error:
            raise StartFailed(f"the proxy {name} can't listen on {port}: {error}") from error
        return proxy

    def heal(self) -> None:
        """Heal every proxy."""
        for proxy in self.named.values():
            proxy.heal()

    def close(self) -> None:
        """End all connections and the thread; once they have ended, do nothing."""
        if not self._loop.is_running():
            return
        for proxy in self.named.values():
            proxy.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


def until(check: Callable[[], T], what: str, seconds: float = 30) -> T:
    """Wait until `check()` is true and return what it gave; TimeoutError names what never came."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.03)
