"""Time as an input: one loop for everything that is due, whoever claims it."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from mospay_shared.chassis import metrics, schema
from mospay_shared.chassis.database import DATABASE_DOWN, Database, Question

log = structlog.get_logger()
AWAY_SECONDS = 2.0  # how often an absent database is looked for


@dataclass
class Worker:
    """A named round of work: `turn()` claims what is due, handles it, returns how many rows.

    A full turn is followed by the next at once; an empty one waits `idle_seconds` or a `wake()`.
    Where `due` is given (`Database.due`), a turn that nobody woke is taken only if that says so.
    Turns begin at least `pace_seconds` apart: what comes alone is handled at once, of many those of
    one pace share a claim.
    Claims lease their rows with SKIP LOCKED, so any number of replicas may run the same worker.
    """

    name: str
    turn: Callable[[], Awaitable[int]]
    idle_seconds: float = 1.0
    due: Question | None = None
    pace_seconds: float = 0.0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Say that something became due."""
        self._wake.set()

    async def run(self) -> None:
        """Take turns until cancelled; a failing turn is logged, counted and tried again later."""
        loop, failures, called, next_at = asyncio.get_running_loop(), 0, True, 0.0
        while True:
            if (early := next_at - loop.time()) > 0:
                await asyncio.sleep(early)
            next_at = loop.time() + self.pace_seconds
            self._wake.clear()
            try:
                if not called and self.due is not None and not await self.due():
                    done = 0
                else:
                    done = await self.turn()
                metrics.WORKER_ROWS.labels(self.name).inc(done)
                failures, called = 0, True
                if done:
                    continue
                delay = self.idle_seconds
            except Exception as error:
                failures += 1
                delay = min(self.idle_seconds * 2**failures, 30.0)
                metrics.WORKER_FAILURES.labels(self.name).inc()
                if isinstance(error, DATABASE_DOWN):
                    delay = min(delay, AWAY_SECONDS)  # its return must not be met late
                    log.warning("worker_waits", worker=self.name, reason=repr(error)[:200])
                else:
                    log.exception("worker_failed", worker=self.name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay)
            called = self._wake.is_set()


def keep_partitions(database: Database, retention_days: int) -> Worker:
    """Return the worker that makes the inbox's next days and drops those past retention."""

    async def turn() -> int:
        today = dt.datetime.now(dt.UTC).date()
        arguments = schema.partition_calls(today, retention_days)
        async with database.transaction() as tx:
            await tx.run("select inbox_keep_partitions($1, $2, $3)", *arguments)
        return 0

    return Worker("inbox_partitions", turn, idle_seconds=3600)


_DEPTH = """
select (select count(*) from (select 1 from outbox limit 100000) waiting),
       (select coalesce(extract(epoch from now() - min(not_before)), 0) from
           (select not_before from outbox order by id limit 1) oldest),
       (select count(*) from inbox where state = 'retry'),
       (select count(*) from inbox where state = 'dead')"""


def watch_queues(database: Database, service: str) -> Worker:
    """Return the worker that keeps the gauges of outbox and inbox true."""

    async def turn() -> int:
        async with database.transaction() as tx:
            row = await tx.row(_DEPTH)
        if row is not None:
            metrics.OUTBOX_DEPTH.labels(service).set(row[0])
            metrics.OUTBOX_AGE.labels(service).set(max(0, row[1]))
            metrics.INBOX_STATE.labels(service, "retry").set(row[2])
            metrics.INBOX_STATE.labels(service, "dead").set(row[3])
        return 0

    return Worker("queue_gauges", turn, idle_seconds=10)
