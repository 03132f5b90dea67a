"""Calls of provider functions: batches through the dispatcher, under its own login role.

Read-only transaction and a time limit for the batch. The function that is running when the time is
over is not to blame for what the others took: it is run again alone, and only there a time-out is
its own. One that even traps its own cancellation has its connection terminated. Repeat offenders
run alone from the start, so they delay nobody else's payment, until they are quick again.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from mospay_shared.chassis.database import open_pool

from mospay_payment_router.domain.answers import TIME_OUT, FunctionResult

log = structlog.get_logger()
BATCH_LIMIT = 64  # PostgreSQL caches so many subtransactions; beyond it every one gets slower
STUCK_SECONDS = 1.0  # beyond the time limit before the connection is terminated
ARRIVED_SECONDS = 0.2  # to read a result that came while nobody looked
NAMES_LIMIT = 2_000  # functions a session has run before it is left: about 90 KiB each stay there
OFFENCES = 2  # time-outs in a row after which a function runs alone
WAIT_SECONDS = 3.0  # who may wait is not kept for longer: the leases of its batch are running
_CALL = "select n, results, payload, failed, reason from fx.call($1, $2, $3)"
_RESPONSE = """
select n, results, payload, failed, reason from fx.call_response($1, $2, $3, $4, $5)"""
_NOT_RUN = FunctionResult(None, None, TIME_OUT, "not run: its batch took too long")


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One function to run. `code` and `answer` are given for RESPONSE_ functions only."""

    uid: str
    name: str
    input: str
    code: int | None = None
    answer: bytes | None = None


class Functions:
    """The pool of the function role, and what runs through it."""

    def __init__(self, url: str, name: str, size: int, seconds: float) -> None:
        self._url, self._name, self._size, self._seconds = url, f"{name}-fn", size, seconds
        self._pool: Any = None
        self._offences: Counter[str] = Counter()
        self._met: dict[int, set[str]] = {}  # names by session; as many as the pool, plus ended

    async def open(self) -> None:
        """Open the pool; RESET ALL stays on, functions may change settings."""
        self._pool = await open_pool(self._url, self._name, self._size, reset=True)

    async def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            self._pool.terminate()

    async def run(
        self, calls: Sequence[FunctionCall], *, may_wait: bool = False
    ) -> list[FunctionResult]:
        """Run functions; results stand in the order of the calls.

        Calls with an answer go to the response dispatcher; a sequence is of one sort. Who
        `may_wait` asks again later: for them nothing is begun after WAIT_SECONDS, and a function
        that ran out of time alone is not run for its other calls; those have "timed out" as well.
        """
        clock = asyncio.get_running_loop()
        until = clock.time() + (WAIT_SECONDS if may_wait else math.inf)
        found: dict[int, FunctionResult] = {}
        await self._together(calls, found, until)
        late: set[str] = set()
        for index, call in enumerate(calls):
            if index in found:
                continue
            if may_wait and (call.name in late or clock.time() > until):
                found[index] = _NOT_RUN
                continue
            found[index] = await self._alone(call)
            if found[index].timed_out:
                late.add(call.name)
        return [found[i] for i in range(len(calls))]

    async def _together(
        self, calls: Sequence[FunctionCall], found: dict[int, FunctionResult], until: float
    ) -> None:
        """Run what may share a batch; what has no result after that is to be run alone."""
        left = [i for i, c in enumerate(calls) if self._offences[c.name] < OFFENCES]
        while len(left) > 1 and asyncio.get_running_loop().time() < until:
            batch, left = left[:BATCH_LIMIT], left[BATCH_LIMIT:]
            rows = await self._once([calls[i] for i in batch])
            late = set()
            for index, row in zip(batch, rows, strict=False):
                if row.timed_out:
                    late.add(calls[index].name)
                else:
                    found[index] = row
            # No row at all: some function trapped its cancellation, so each of them runs alone.
            rest = batch[len(rows) :] if rows else []
            left = [i for i in (*rest, *left) if calls[i].name not in late]

    async def _alone(self, call: FunctionCall) -> FunctionResult:
        """Run a function that has the whole time for itself."""
        rows = await self._once([call])
        if rows and not rows[0].timed_out:
            self._offences.pop(call.name, None)
            return rows[0]
        self._offences[call.name] += 1
        times = self._offences[call.name]
        log.warning("provider_function_timed_out", function=call.name, times=times)
        if rows:
            return rows[0]
        return FunctionResult(None, None, TIME_OUT, "ran out of time, its cancellation included")

    async def _once(self, calls: list[FunctionCall]) -> list[FunctionResult]:
        """Run one dispatcher call; after a time-out rows are missing, all of them if it hung."""
        async with self._pool.acquire() as connection:
            pid = connection.get_server_pid()
            limit = int(self._seconds * 1000)
            await connection.execute(
                f"begin transaction read only; set local statement_timeout = {limit}"
            )
            task = asyncio.ensure_future(self._fetch(connection, calls))
            try:
                done, _ = await asyncio.wait({task}, timeout=self._seconds + STUCK_SECONDS)
                if not done:  # it may lie there already, where this process itself stood still
                    done, _ = await asyncio.wait({task}, timeout=ARRIVED_SECONDS)
            except asyncio.CancelledError:  # a shutdown waits for no function
                connection.terminate()
                task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                await asyncio.wait({task}, timeout=STUCK_SECONDS)
                raise
            if not done:
                await self._terminate(pid)
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await task
                return []
            try:
                rows = task.result()
            except asyncpg.QueryCanceledError:
                rows = []  # cancelled between two functions: each is run alone to find the one
            finally:
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await connection.execute("rollback")
                    await self._leave_if_full(connection, {call.name for call in calls})
        return [FunctionResult(*(row[k] for k in _COLUMNS)) for row in rows]

    async def _leave_if_full(self, connection: Any, names: set[str]) -> None:
        """Close a session that has run so many functions that it holds too much of them."""
        pid = connection.get_server_pid()
        met = self._met.setdefault(pid, set())
        met |= names
        if len(met) > NAMES_LIMIT:
            del self._met[pid]
            await connection.close()

    async def _fetch(self, connection: Any, calls: list[FunctionCall]) -> list[asyncpg.Record]:
        uids, names = [c.uid for c in calls], [c.name for c in calls]
        inputs = [c.input for c in calls]
        rows: list[asyncpg.Record]
        if calls[0].code is None:
            rows = await connection.fetch(_CALL, uids, names, inputs)
        else:
            codes, answers = [c.code for c in calls], [c.answer or b"" for c in calls]
            rows = await connection.fetch(_RESPONSE, uids, names, inputs, codes, answers)
        return rows

    async def _terminate(self, pid: int) -> None:
        log.error("provider_function_terminated", server_pid=pid)
        async with self._pool.acquire() as other:
            await other.execute("select pg_terminate_backend($1)", pid)


_COLUMNS = ("results", "payload", "failed", "reason")
