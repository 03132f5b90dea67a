"""What benches share: a durable stack, a cheap load generator, CPU by process, the result file."""

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import orjson
import psutil
from mospay_dev.audit import Audit
from mospay_dev.demo.seed import Seed, seed
from mospay_dev.services import ROOT, SERVICES
from mospay_dev.stack import EXTRAS, Stack

_SINCE = psutil.cpu_times()  # of the whole machine, when the bench began


def stolen_share() -> float:
    """Return the share of the machine's time since the bench began that its host gave to others.

    Without it a figure of a shared machine can't be read: what is stolen lowers every rate.
    """
    now = psutil.cpu_times()
    whole = sum(now) - sum(_SINCE)
    return float(getattr(now, "steal", 0.0) - getattr(_SINCE, "steal", 0.0)) / max(whole, 1e-9)


def say(text: str) -> None:
    """Tell what happens now."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Options:
    """What every bench takes."""

    seconds: float
    json_file: Path | None
    in_flight: int


def options(arguments: Sequence[str], *, seconds: float) -> Options:
    """Parse `--seconds N --json FILE --in-flight N`."""
    parser = argparse.ArgumentParser(prog="./mospay bench NAME")
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--in-flight", type=int, default=128)
    found = parser.parse_args(arguments)
    return Options(found.seconds, found.json, found.in_flight)


@contextmanager
def bench_stack(delay_ms: int = 0) -> Iterator[tuple[Stack, Seed]]:
    """Start a stack with fsync on and a provider that answers after `delay_ms`; stop it after."""
    extra = {
        "simulator": {"SIMULATOR_RECORD": "memory", "SIMULATOR_DELAY_MS": str(delay_ms)},
        **{name: {f"{spec.prefix}LOG_LEVEL": "warning"} for name, spec in SERVICES.items()},
    }
    # one address with few clients sends everything: limits are counted as ever, and never reached
    for limit in ("CLIENT", "ADDRESS"):
        extra["gateway"][f"GATEWAY_{limit}_RATE_PER_MINUTE"] = "10000000"
    stack = Stack(ROOT / ".mospay/bench", durable=True, say=say, extra=extra)
    try:
        stack.prepare()
        stack.start((*SERVICES, *EXTRAS))
        yield stack, seed(stack, say)
    finally:
        stack.stop()


class _Connection(asyncio.Protocol):
    """A keep-alive HTTP/1.1 connection with one request in flight; parses just enough."""

    def __init__(self, done: Callable[["_Connection", int, bytes], None]) -> None:
        self._done, self._buffer, self.transport = done, b"", asyncio.Transport()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Report a whole answer."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        stop = head.find(b"\r\n", at)
        length = int(head[at + 15 : stop if stop > 0 else None])
        if len(self._buffer) >= end + 4 + length:
            body, status = self._buffer[end + 4 :], int(self._buffer[9:12])
            self._buffer = b""
            self._done(self, status, body)


@dataclass
class Run:
    """One run of the generator: ids, latencies in seconds, statuses, wall time."""

    accepted: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def quantile(self, share: float) -> float:
        """Return a latency quantile in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


async def generate(made: Seed, seconds: float, *, in_flight: int, rate: float | None = None) -> Run:
    """POST /v1/payments for some seconds: closed loop, or open loop at `rate` a second.

    Open-loop latency counts from when a request was due, so a stall is not hidden.
    """
    run, loop = Run(), asyncio.get_running_loop()
    host, port = made.gateway_url.removeprefix("http://").split(":")
    free: list[_Connection] = []
    due: dict[_Connection, float] = {}
    template = [_request(made, i) for i in range(len(made.clients))]

    def done(connection: _Connection, status: int, body: bytes) -> None:
        run.latencies.append(time.perf_counter() - due.pop(connection))
        run.statuses[status] = run.statuses.get(status, 0) + 1
        if status in (200, 202):
            run.accepted.append(orjson.loads(body)["id"])
        free.append(connection)
        if rate is None and time.perf_counter() - started < seconds:
            fire(time.perf_counter())  # the loop is closed here: nothing spins beside the gateway

    for _ in range(in_flight):
        _, connection = await loop.create_connection(lambda: _Connection(done), host, int(port))
        free.append(connection)
    prefix, sent, started = secrets.token_hex(6), 0, time.perf_counter()

    def fire(at: float) -> None:
        nonlocal sent
        connection = free.pop()
        due[connection] = at
        key = f"{prefix}{sent:08d}".encode()
        connection.transport.write(
            template[sent % len(template)].replace(b"@@@@@@@@@@@@@@@@@@@@", key)
        )
        sent += 1

    while rate is None and free:
        fire(time.perf_counter())
    while (now := time.perf_counter() - started) < seconds:
        while rate is not None and free and sent / rate <= now:
            fire(started + sent / rate)
        await asyncio.sleep(0.001 if rate else 0.05)
    while due:
        await asyncio.sleep(0.002)
    run.seconds = time.perf_counter() - started
    for connection in free:
        connection.transport.close()
    return run


def _request(made: Seed, number: int) -> bytes:
    client = made.clients[number]
    key = "@" * 20
    body = orjson.dumps(
        {
            "service": "collection",
            "route": "payment",
            "amount_minor": 1000,
            "currency": "RWF",
            "phone": "+250780000000",
            "reference": f"b-{key}",
        }
    )
    head = (
        f"POST /v1/payments HTTP/1.1\r\nhost: bench\r\nx-api-key: {client.api_key}\r\n"
        f"idempotency-key: {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Return CPU seconds used so far by each part of the stack, and by this process."""
    roots = {name: p.pid for name, p in stack.processes.items()}
    state = json.loads(stack.cluster.state.path.read_text())
    roots |= {name: int(p["pid"]) for name, p in state["processes"].items()}
    roots["load generator"] = os.getpid()
    used: dict[str, float] = {}
    for name, pid in roots.items():
        try:
            family = [psutil.Process(pid)]
        except psutil.NoSuchProcess:  # a bench may have stopped what it does not measure
            continue
        if name in ("postgres", "rabbitmq"):
            family += family[0].children(recursive=True)
        total = 0.0
        for process in family:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
            if name == "postgres":  # backends that have ended count in their parent
                total += times.children_user + times.children_system
        used[name] = total
    return used


def core_ms(before: dict[str, float], after: dict[str, float], payments: int) -> dict[str, float]:
    """Return core-milliseconds a payment by process."""
    return {
        name: round((after[name] - before.get(name, 0.0)) * 1000 / max(1, payments), 3)
        for name in after
    }


async def raw_publish_rate(stack: Stack, seconds: float = 5.0, in_flight: int = 128) -> float:
    """The limit: persistent, confirmed publishes of one event each into a quorum queue."""
    connection = await aio_pika.connect(stack.cluster.broker_url)
    count = 0
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue(
            "bench.limit",
            durable=True,
            arguments={"x-queue-type": "quorum", "x-max-length": 100_000},
        )
        message = aio_pika.Message(b"x" * 1200, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        until = time.perf_counter() + seconds

        async def publisher() -> None:
            nonlocal count
            while time.perf_counter() < until:
                await channel.default_exchange.publish(message, "bench.limit")
                count += 1

        await asyncio.gather(*(publisher() for _ in range(in_flight)))
        await queue.delete(if_unused=False, if_empty=False)
    return count / seconds


def result(
    name: str, value: float, unit: str, *, limit: float | None = None, goal: str | None = None
) -> dict[str, Any]:
    """Return one row of the result file; no reference is measured by these first benches."""
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "reference": None,
        "limit": round(limit, 1) if limit is not None else None,
        "goal": goal,
    }


def report(
    bench: str,
    audit: Audit | None,
    results: list[dict[str, Any]],
    cores: dict[str, float],
    chosen: Options,
) -> int:
    """Print the figures, write the result file, return the exit code (1 when the audit failed)."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    document = {
        "bench": bench,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "machine": f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GiB, "
        f"Python {platform.python_version()}",
        "stolen_share": round(stolen_share(), 3),
        "seconds": chosen.seconds,
        "audit": audit.summary() if audit else None,
        "results": results,
        "core_ms_per_payment": cores,
    }
    for row in results:
        limit = f"  (limit in the same run {row['limit']})" if row["limit"] else ""
        print(f"{row['name']:28} {row['value']:>12,.1f} {row['unit']}{limit}")
    print(f"{stolen_share():.1%} of the machine's time went to its neighbours meanwhile")
    if cores:
        total = sum(v for k, v in cores.items() if k != "load generator")
        print("core-ms a payment: " + ", ".join(f"{k} {v}" for k, v in sorted(cores.items())))
        print(f"                   {total:.2f} in all without the load generator")
    if audit:
        print(f"audit: {audit.summary()}")
        for fault in audit.faults[:10]:
            print(f"  FAULT {fault}")
    if chosen.json_file:
        chosen.json_file.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if audit and audit.faults else 0


def median(values: Sequence[float]) -> float:
    """The figure that is quoted."""
    return statistics.median(values)
