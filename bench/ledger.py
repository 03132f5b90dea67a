"""`ledger`: double-entry postings over 50 and over 10 accounts, beside a plain PL/pgSQL ledger.

A single is one posting of one caller who waits for its commit: the reference gives each a
transaction of its own on 16 connections, ours gathers what waits (as the consumer does). A batch is
200 postings in one transaction, for both; its limit is the same rows in bare tables. Rounds are
interleaved, medians are quoted. Then balance reads, now and as of an instant, on an account of
10,000 and of 10 million postings.
"""

import argparse
import asyncio
import datetime as dt
import itertools
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import harness
import psutil
from mospay_dev.environment import Backing, service_environment
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import database_url, make_database, migrate
from mospay_dev.services import ROOT, SERVICES
from mospay_ledger import domain
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import posting, reads
from mospay_ledger.usecases import chain
from mospay_ledger.usecases import posting as verbs
from mospay_shared.chassis.batcher import Batcher
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Envelope, Event, PaymentEventV1, PaymentStatus, outgoing
from mospay_shared.ids import new_id
from reference.plain import (
    BATCH,
    BATCH_CONNECTIONS,
    CONNECTIONS,
    Step,
    Theirs,
    make_tables,
    pairs,
    pump,
)

LEDGER, REFERENCE = "ledger_bench", "ledger_reference"
IN_FLIGHT = 256  # callers of ours that wait for a single
SMALL = 10_000  # postings of the small account


class Ours:
    """The ledger's own locks, facts and writes over accounts that may hold any balance."""

    def __init__(self, database: Database, count: int) -> None:
        self._database = database
        self._accounts = [domain.clearing(f"b{count}_{n}", "RWF", "live") for n in range(count)]
        self._pairs = itertools.cycle(pairs(count))
        self._batcher: Batcher[domain.Entry, None] | None = None

    def entry(self) -> domain.Entry:
        """Make a posting of two sides."""
        source, target = (self._accounts[n] for n in next(self._pairs))
        key = new_id("ent")
        return domain.Entry(
            id=key,
            kind="settlement",
            effect_key=f"{key}:bench",
            client_id="cli_bench",
            mode="live",
            currency="RWF",
            amount_minor=100,
            postings=(domain.Posting(source, 100), domain.Posting(target, -100)),
            occurred_at=dt.datetime.now(dt.UTC),
        )

    async def post(self, entries: Sequence[domain.Entry]) -> list[None]:
        """Lock, look, write: what every use case of the ledger does."""
        async with self._database.transaction() as tx:
            touched = {s.account for e in entries for s in e.postings}
            locked_at = await posting.open_and_lock(tx, list(touched))
            facts, _ = await posting.read_facts(
                tx, accounts=[], effects=[e.effect_key for e in entries], payments=[]
            )
            fresh = [e for e in entries if e.effect_key not in facts.effects]
            posted_at = max(dt.datetime.now(dt.UTC), locked_at)
            await posting.write_entries(tx, fresh, posted_at)
        return [None] * len(entries)

    async def singles(self, seconds: float) -> float:
        """Post one at a time from many callers."""
        batcher = Batcher(self.post, limit=BATCH, runners=1)

        async def single() -> int:
            await batcher.submit(self.entry())
            return 1

        try:
            return await pump(single, IN_FLIGHT, seconds)
        finally:
            await batcher.close()

    async def batches(self, seconds: float) -> float:
        """Post batches."""

        async def batch() -> int:
            return len(await self.post([self.entry() for _ in range(BATCH)]))

        return await pump(batch, BATCH_CONNECTIONS, seconds)


def captures(relay: Relay, database: Database, clients: int) -> Step:
    """Return a step that books 200 succeeded payments whole: plan, fee, three sides, news."""
    now = dt.datetime.now(dt.UTC)
    names = [f"cli_bench{n}" for n in range(clients)]

    def event(n: int) -> Event[domain.MoneyEvent]:
        body = PaymentEventV1(
            payment_id=new_id("pay"), client_id=names[n % clients], mode="test", app_id="app",
            service_id="svc", microservice="simulator", service="collection", route="payment",
            amount_minor=1500, currency="RWF", status=PaymentStatus.SUCCEEDED, version=2,
            reference="r", attempt_id=new_id("att"), accepted_at=now, occurred_at=now,
        )  # fmt: skip
        sent = outgoing("payment.succeeded.v1", body.payment_id, body, source="bench")
        return Event(Envelope.model_validate_json(sent.body), body)

    ready = [[event(n) for n in range(BATCH)] for _ in range(5)]

    def again(batch: list[Event[domain.MoneyEvent]]) -> list[Event[domain.MoneyEvent]]:
        # New effects of parsed events: parsing is the consumer's work, not the ledger's.
        return [
            Event(
                e.envelope,
                e.data.model_copy(
                    update={"payment_id": new_id("pay"), "attempt_id": new_id("att")}
                ),
            )
            for e in batch
        ]

    turn = itertools.cycle(ready)

    async def step() -> int:
        batch = again(next(turn))
        async with database.transaction() as tx:
            await verbs.post_events(tx, relay, batch)
        return len(batch)

    return step


class Cores:
    """CPU seconds of PostgreSQL with its backends and of this process: what a busy machine shares
    out unevenly does not change what a posting costs."""

    def __init__(self, cluster: Cluster) -> None:
        self._pid = int(cluster.state.read()["processes"]["postgres"]["pid"])  # type: ignore[index]

    def used(self) -> float:
        """Return CPU seconds so far; backends that have ended count in their parent."""
        parent = psutil.Process(self._pid)
        times = parent.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in parent.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                total += times.user + times.system
        return total + time.process_time()


async def rates(
    database: Database,
    relay: Relay,
    pool: Any,
    cores: Cores,
    count: int,
    chosen: argparse.Namespace,
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure everything over `count` accounts, interleaved.

    Returns medians by run: postings a second, CPU microseconds a posting.
    """
    ours, theirs = Ours(database, count), Theirs(pool, count)
    await theirs.open()
    booking = captures(relay, database, count)
    runs: dict[str, Callable[[float], Awaitable[float]]] = {
        "ref_singles": theirs.singles,
        "singles": ours.singles,
        "ref_batches": theirs.batches,
        "batches": ours.batches,
        "captures": lambda s: pump(booking, BATCH_CONNECTIONS, s),
        "rows": theirs.rows,
        "commits": theirs.commits,
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    cost: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        await run(0.5)
    for _ in range(chosen.rounds):
        for name, run in runs.items():
            before, started = cores.used(), time.perf_counter()
            rate = await run(chosen.seconds)
            made = rate * (time.perf_counter() - started)
            found[name].append(rate)
            cost[name].append((cores.used() - before) * 1e6 / made)
            harness.say(
                f"  {count} accounts: {name:12} {rate:>10,.0f} /s {cost[name][-1]:>8,.0f} core-us"
            )
    return (
        {name: harness.median(values) for name, values in found.items()},
        {name: harness.median(values) for name, values in cost.items()},
    )


# An account of many postings and its counterpart, written as the service would have, by SQL.
_FILL = """
with n as (select generate_series($2::bigint, $3::bigint) as n),
entries as (
    insert into journal_entries (id, kind, effect_key, client_id, mode, currency, amount_minor,
        fee_minor, postings_count, late, occurred_at, posted_at)
    select 'fill' || $1 || '_' || n, 'settlement', 'fill' || $1 || '_' || n, 'cli_bench', 'test',
        'RWF', 7, 0, 2, false, t, t
    from (select n, '2026-01-01Z'::timestamptz + n * interval '1 second' as t from n) u),
sides as (
    insert into postings (entry_id, line, account_id, currency, mode, amount_minor,
        previous_minor, balance_minor, account_version, posted_at)
    select 'fill' || $1 || '_' || n, side, case side when 1 then $1 else $1 || ':other' end,
        'RWF', 'test', sign * 7, sign * 7 * (n - 1), sign * 7 * n, n,
        '2026-01-01Z'::timestamptz + n * interval '1 second'
    from n, (values (1, 1), (2, -1)) as s(side, sign))
update accounts set balance_minor = case id when $1 then 7 else -7 end * $3, version = $3,
    last_posted_at = '2026-01-01Z'::timestamptz + $3 * interval '1 second'
where id in ($1, $1 || ':other')"""


async def fill(worker: Any, account: str, postings: int, step: int = 200_000) -> None:
    """Give an account some postings; the database checks each statement as any other."""
    await worker.execute(
        "insert into accounts (id, kind, currency, mode) select u, 'clearing', 'RWF', 'test' "
        "from unnest($1::text[]) u",
        [account, account + ":other"],
    )
    for first in range(1, postings + 1, step):
        last = min(first + step - 1, postings)
        await worker.execute(_FILL, account, first, last, timeout=600)
        if last % 1_000_000 == 0:
            harness.say(f"  {last:,} postings")


async def read_microseconds(
    database: Database, accounts: dict[str, int], past: bool, reads_each: int = 3000
) -> dict[str, float]:
    """Return the median time of a balance read by account, the accounts taking turns."""
    taken: dict[str, list[float]] = {account: [] for account in accounts}
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    async with database.request(operator=True) as tx:
        for n in range(reads_each + 200):
            for account, postings in accounts.items():
                at = start + dt.timedelta(seconds=random.randint(1, postings)) if past else None
                began = time.perf_counter()
                rows = await reads.accounts(tx, account_id=account, limit=1, at=at)
                if n >= 200:  # the first ones warm caches and plans
                    taken[account].append(time.perf_counter() - began)
                assert rows, account
    return {account: harness.median(values) * 1e6 for account, values in taken.items()}


async def flatness(database: Database, url: str, large: int) -> list[dict[str, Any]]:
    """Return rows about balance reads on the small and the large account."""
    worker = await asyncpg.connect(url)
    sizes = {"small": SMALL, "large": large}
    try:
        for account, postings in sizes.items():
            began = time.perf_counter()
            await fill(worker, account, postings)
            harness.say(f"{postings:,} postings written in {time.perf_counter() - began:.0f} s")
    finally:
        await worker.close()
    rows = []
    for past, name in ((False, "now"), (True, "past")):
        found = await read_microseconds(database, sizes, past)
        ratio = found["large"] / found["small"]
        rows += [
            harness.result(f"ledger.balance_{name}_us", found["large"], "us"),
            harness.result(f"ledger.balance_{name}_growth", ratio, "x", goal="<= 1.3"),
        ]
    return rows


async def seal_rate(database: Database, limit: int) -> float:
    """Return how many entries a second one sealer seals."""
    sealed, started = 0, time.perf_counter()
    while time.perf_counter() - started < 5:
        async with database.transaction() as tx:
            now = await chain.seal(tx, limit)
        sealed += now
        if now < limit:
            break
    return sealed / (time.perf_counter() - started)


@asynccontextmanager
async def databases(cluster: Cluster) -> Any:
    """Fresh databases for both, dropped in the end; yields the ledger's environment and a pool."""
    ports = dict.fromkeys((*SERVICES, "simulator", "receiver"), 1)
    backing = Backing(cluster.postgres_url, "amqp://none", "redis://none", cluster.keys, ports,
                      {"ledger": LEDGER})  # fmt: skip
    server = await asyncpg.connect(cluster.postgres_url)
    for name in (LEDGER, REFERENCE):
        await server.execute(f"drop database if exists {name} with (force)")
    await server.execute(f"create database {REFERENCE}")
    await make_database(cluster.postgres_url, SERVICES["ledger"], cluster.keys, LEDGER)
    environment = service_environment("ledger", backing)
    await asyncio.to_thread(migrate, SERVICES["ledger"], environment)
    pool = await asyncpg.create_pool(
        database_url(cluster.postgres_url, REFERENCE), min_size=CONNECTIONS, max_size=CONNECTIONS
    )
    await make_tables(pool)
    try:
        yield environment, pool
    finally:
        await pool.close()
        for name in (LEDGER, REFERENCE):
            await server.execute(f"drop database if exists {name} with (force)")
        await server.close()


async def audit(tx: Tx) -> bool:
    """Say whether every book of the bench balances."""
    rows = [r for m in ("live", "test") for r in await reads.trial_balance(tx, m, 1, None)]
    return all(r["debit_minor"] == r["credit_minor"] and r["balances_agree"] for r in rows)


async def measure(cluster: Cluster, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Run everything; return the rows of the result file."""
    async with databases(cluster) as (environment, pool):
        os.environ.update(environment)
        settings = LedgerSettings()
        database = Database("ledger", settings)
        relay = Relay("ledger", database, None)  # type: ignore[arg-type] # nothing is published
        await database.open()
        rows: list[dict[str, Any]] = []
        try:
            for count in (50, 10):
                found, cost = await rates(database, relay, pool, Cores(cluster), count, chosen)
                rows += compared(found, cost, count)
            rows.append(harness.result("ledger.sealed", await seal_rate(database, 5000), "/s"))
            if chosen.large:
                url = environment["LEDGER_WORKER_DATABASE_URL"]
                rows += await flatness(database, url, chosen.large)
            async with database.transaction() as tx:
                if not await audit(tx):
                    raise SystemExit("the books of the bench do not balance")
        finally:
            with suppress(TimeoutError):
                await database.close()
    return rows


def compared(found: dict[str, float], cost: dict[str, float], count: int) -> list[dict[str, Any]]:
    """Return the rows of one number of accounts."""
    rows = []
    for name, goal, limit in (("singles", 4, "commits"), ("batches", 3, "rows")):
        row = harness.result(
            f"ledger.{name}_{count}", found[name], "/s", limit=found[limit],
            goal=f">= {goal}x the reference",
        )  # fmt: skip
        row["reference"] = round(found[f"ref_{name}"], 1)
        ratio = found[name] / found[f"ref_{name}"]
        rows += [row, harness.result(f"ledger.{name}_{count}_ratio", ratio, "x", goal=f">= {goal}")]
        cheaper = cost[f"ref_{name}"] / cost[name]
        rows.append(harness.result(f"ledger.{name}_{count}_cpu_ratio", cheaper, "x"))
    rows.append(harness.result(f"ledger.captures_{count}", found["captures"], "/s"))
    return rows


def main(arguments: Sequence[str]) -> int:
    """Start a PostgreSQL of its own with fsync on, measure, stop it."""
    parser = argparse.ArgumentParser(prog="./mospay bench ledger")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=10_000_000, help="postings; 0 leaves it out")
    parser.add_argument("--json", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    os.environ.update(MOSPAY_BROKER_URL="amqp://none", MOSPAY_REDIS_URL="redis://none")
    cluster = Cluster(ROOT / ".mospay/bench-ledger", durable=True, say=harness.say)
    cluster.start()
    try:
        rows = asyncio.run(measure(cluster, chosen))
    finally:
        cluster.stop()
    options = harness.Options(chosen.seconds, chosen.json, IN_FLIGHT)
    return harness.report("ledger", None, rows, {}, options)
