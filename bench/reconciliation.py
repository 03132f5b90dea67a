"""`reconciliation`: a statement of a million lines against a million entries, file to exceptions.

Four lines in a thousand are exceptions, of four kinds. What the books expect is written down by one
statement, not gathered from a journal; everything else is the service's own code: upload in a
stream, parse, keep aside, take in, match. Memory is this process's largest resident set less what
it had before the file came. Then the same lines come in another file.
"""

import argparse
import asyncio
import datetime as dt
import hashlib
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import harness
import psutil
from mospay_dev.environment import Backing, service_environment
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import make_database, migrate
from mospay_dev.services import ROOT, SERVICES
from mospay_ledger.domain.statement_mappings import PRESETS
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.usecases import importing, matching
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay

NAME = "reconciliation_bench"
START = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=30)
HEADER = "provider_reference,reference,kind,amount,currency,fee,occurred_at\n"
ODD = 250  # of so many lines one is an exception
_EXPECTED = """
insert into expected_lines (entry_id, microservice, mode, currency, kind, amount_minor, client_id,
    payment_id, attempt_id, provider_reference, occurred_at, posted_at, state)
select 'ent_' || lpad(to_hex(n), 32, '0'), 'simulator', 'live', 'RWF', 'payment', 1000 + n % 5000,
    'cli_' || n % 50, 'pay_' || lpad(to_hex(n), 32, '0'), 'att_' || lpad(to_hex(n), 32, '0'),
    'sim_' || md5(n::text), $2::timestamptz + n * interval '2 s', now(), 'open'
from generate_series($1::int, $3::int) n"""


def _line(number: int, reference: str) -> str:
    """A line of the file: each 250th is one of four exceptions in turn."""
    amount = 1000 + number % 5000
    at = START + dt.timedelta(seconds=2 * number)
    if number % ODD == 0:
        which = number // ODD % 4
        if which == 0:
            return ""  # missing there
        if which == 1:
            amount += 1  # amount differs
        elif which == 2:
            return _line_of(f"odd_{number}", amount + 100_000, at)  # missing here, and there
        else:
            return _line_of(reference, amount, at) + _line_of(reference, amount, at)  # duplicate
    return _line_of(reference, amount, at)


def _line_of(reference: str, amount: int, at: dt.datetime) -> str:
    return f"{reference},,payment,{amount},RWF,0,{at.isoformat()}\n"


async def _file(lines: int) -> AsyncIterator[bytes]:
    """The file as a network gives it; never whole in memory."""
    yield HEADER.encode()
    for first in range(1, lines + 1, 500):
        yield "".join(
            _line(n, "sim_" + hashlib.md5(str(n).encode()).hexdigest())
            for n in range(first, min(first + 500, lines + 1))
        ).encode()


class Peak:
    """The largest resident set of this process while it is watched, in MiB."""

    def __init__(self) -> None:
        self._process, self._over = psutil.Process(), threading.Event()
        self.before = self.most = self._process.memory_info().rss / 2**20
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self._process.memory_info().rss / 2**20)

    def close(self) -> float:
        """Stop watching and return how much more it became."""
        self._over.set()
        self._thread.join()
        return self.most - self.before


async def _timed(rows: list[dict[str, Any]], name: str, lines: int, work: Any) -> Any:
    started = time.perf_counter()
    found = await work
    seconds = time.perf_counter() - started
    harness.say(f"{name}: {seconds:.1f} s")
    rows.append(harness.result(f"reconciliation.{name}", lines / seconds, "lines/s"))
    rows.append(harness.result(f"reconciliation.{name}_seconds", seconds, "s"))
    return found


async def _run(database: Database, settings: LedgerSettings, lines: int) -> list[dict[str, Any]]:
    relay = Relay("ledger", database, None)  # type: ignore[arg-type] # nothing is published
    limits, rules = importing.limits_of(settings), matching.rules_of(settings)
    rows: list[dict[str, Any]] = []
    for first in range(1, lines + 1, 100_000):
        async with database.transaction() as tx:
            await tx.run(_EXPECTED, first, START, min(first + 99_999, lines))
    async with database.transaction() as tx:
        await tx.run("select 1")
    given = importing.Upload(
        "simulator", "live", "bench.csv", PRESETS["simulator"], None, "simulator", False,
        START, START + dt.timedelta(seconds=2 * lines), "bench",
    )  # fmt: skip
    peak, started = Peak(), time.perf_counter()
    upload = importing.upload(database, given, _file(lines), limits)
    import_id, _ = await _timed(rows, "upload", lines, upload)
    await _timed(rows, "parse_and_take_in", lines, importing.work_off(database, relay, limits))
    await _timed(rows, "match", lines, matching.work_off(database, relay, rules))
    seconds = time.perf_counter() - started
    rows.append(harness.result("reconciliation.in_all", lines / seconds, "lines/s"))
    rows.append(harness.result("reconciliation.memory_mib", peak.close(), "MiB"))
    async with database.transaction() as tx:
        found = await tx.fetch(
            "select state, count(*) as n from statement_lines where import_id = $1 group by 1",
            import_id,
        )
        kinds = await tx.fetch(
            "select kind, count(*) as n from reconciliation_exceptions group by 1"
        )
        state = await tx.value("select state from statement_imports where id = $1", import_id)
    harness.say(f"import {state}: {[tuple(r) for r in found]}; {[tuple(r) for r in kinds]}")
    if state != "finished" or sum(r["n"] for r in kinds) < lines // ODD:
        raise SystemExit("the bench did not end as it should")
    again = importing.upload(database, given, _again(lines), limits)
    second, _ = await again
    await _timed(rows, "repeated", lines, importing.work_off(database, relay, limits))
    async with database.transaction() as tx:
        repeated = await tx.value(
            "select lines_repeated from statement_imports where id = $1", second
        )
    rows.append(harness.result("reconciliation.repeated_lines", repeated, "lines"))
    return rows


async def _again(lines: int) -> AsyncIterator[bytes]:
    """The same lines in a file of other bytes."""
    async for part in _file(lines):
        yield part
    yield b"\n"


async def _measure(cluster: Cluster, lines: int) -> list[dict[str, Any]]:
    ports = dict.fromkeys((*SERVICES, "simulator", "receiver"), 1)
    backing = Backing(cluster.postgres_url, "amqp://none", "redis://none", cluster.keys, ports,
                      {"ledger": NAME})  # fmt: skip
    server = await asyncpg.connect(cluster.postgres_url)
    await server.execute(f"drop database if exists {NAME} with (force)")
    await make_database(cluster.postgres_url, SERVICES["ledger"], cluster.keys, NAME)
    environment = service_environment("ledger", backing)
    await asyncio.to_thread(migrate, SERVICES["ledger"], environment)
    os.environ.update(environment)
    settings = LedgerSettings()
    database = Database("ledger", settings)
    await database.open()
    try:
        return await _run(database, settings, lines)
    finally:
        with suppress(TimeoutError):
            await database.close()
        await server.execute(f"drop database if exists {NAME} with (force)")
        await server.close()


def main(arguments: Sequence[str]) -> int:
    """Start a PostgreSQL of its own with fsync on, measure, stop it."""
    parser = argparse.ArgumentParser(prog="./mospay bench reconciliation")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    os.environ.update(MOSPAY_BROKER_URL="amqp://none", MOSPAY_REDIS_URL="redis://none")
    cluster = Cluster(ROOT / ".mospay/bench-reconciliation", durable=True, say=harness.say)
    cluster.start()
    try:
        rows = asyncio.run(_measure(cluster, chosen.lines))
    finally:
        cluster.stop()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(harness.result("reconciliation.resident_mib", most, "MiB"))
    return harness.report("reconciliation", None, rows, {}, harness.Options(0, chosen.json, 1))
