"""The durable record: one SQLite file in WAL mode, written by one thread."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import orjson

from mospay_simulator.domain.payments import Callback, Delays, Effect, Order, Payment
from mospay_simulator.domain.refunds import Refund, RefundEffect, RefundOrder
from mospay_simulator.storage import payments, refunds, schema
from mospay_simulator.storage.record import Summary, Taken, TakenRefund

_T = TypeVar("_T")

_COUNTS: Final = """
SELECT (SELECT count(*) FROM effects) AS effects,
    (SELECT count(*) FROM payments) AS references_,
    (SELECT count(*) FROM (SELECT 1 FROM effects GROUP BY reference HAVING count(*) > 1))
        AS doubled,
    (SELECT coalesce(sum(repeats), 0) FROM payments) AS repeats,
    (SELECT count(*) FROM refund_effects) AS refunds,
    (SELECT count(*) FROM refunds) AS refund_references,
    (SELECT count(*) FROM (SELECT 1 FROM refund_effects GROUP BY refund_id HAVING count(*) > 1))
        AS refund_doubled,
    (SELECT coalesce(sum(repeats), 0) FROM refunds) AS refund_repeats
"""


class SqliteRecord:
    """One file, one connection, one thread: each method is a transaction run on that thread."""

    def __init__(self, path: Path, delays: Delays) -> None:
        self._path = path
        self._delays = delays
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Create the file and its tables if they are missing."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        await self._run(lambda connection: connection.close(), transaction=False)
        self._thread.shutdown()

    def _connect(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=5, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # Survives kill -9; a power cut may lose the last commits, which a simulator can afford
        # and a connector that moves real money (synchronous = FULL) can't.
        connection.execute("PRAGMA synchronous = NORMAL")
        schema.prepare(connection)
        self._connection = connection

    async def _run(
        self, work: Callable[[sqlite3.Connection], _T], *, transaction: bool = True
    ) -> _T:
        def run() -> _T:
            assert self._connection is not None, "open() comes first"
            if not transaction:
                return work(self._connection)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._connection)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            return result

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def clock_offset(self) -> float:
        return await self._run(_offset, transaction=False)

    async def move_clock(self, seconds: float) -> float:
        def work(connection: sqlite3.Connection) -> float:
            connection.execute("UPDATE clock SET offset_seconds = offset_seconds + ?", (seconds,))
            return _offset(connection)

        return await self._run(work)

    async def take(self, order: Order, now: datetime) -> Taken:
        return await self._run(lambda c: payments.take(c, order, now, self._delays))

    async def find(self, reference: str) -> Payment | None:
        return await self._run(lambda c: payments.find(c, reference), transaction=False)

    async def take_refund(self, order: RefundOrder, now: datetime) -> TakenRefund:
        return await self._run(lambda c: refunds.take(c, order, now, self._delays))

    async def find_refund(self, refund_id: str) -> Refund | None:
        return await self._run(lambda c: refunds.find(c, refund_id), transaction=False)

    async def settle_due(self, now: datetime, limit: int) -> int:
        return await self._run(
            lambda c: max(
                payments.settle_due(c, now, limit, self._delays),
                refunds.settle_due(c, now, limit, self._delays),
            )
        )

    async def next_settlement(self) -> datetime | None:
        return await self._first_time(
            "SELECT min(at) FROM (SELECT min(settles_at) AS at FROM payments"
            " UNION ALL SELECT min(settles_at) FROM refunds)"
        )

    async def next_callback(self) -> datetime | None:
        return await self._first_time("SELECT min(due_at) FROM callbacks")

    async def _first_time(self, query: str) -> datetime | None:
        row = await self._run(
            lambda connection: connection.execute(query).fetchone(), transaction=False
        )
        return payments.optional_time(row[0])

    async def due_callbacks(self, now: datetime, limit: int) -> Sequence[Callback]:
        rows = await self._run(
            lambda connection: connection.execute(
                "SELECT id, url, body, forged, tries FROM callbacks"
                " WHERE due_at <= ? ORDER BY due_at, id LIMIT ?",
                (payments.text(now), limit),
            ).fetchall(),
            transaction=False,
        )
        return [Callback(r["id"], r["url"], r["body"], bool(r["forged"]), r["tries"]) for r in rows]

    async def reschedule_callback(self, callback_id: int, due_at: datetime | None) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE callbacks SET tries = tries + 1, due_at = ? WHERE id = ?",
                (payments.optional_text(due_at), callback_id),
            )

        await self._run(work)

    async def effects_of(self, reference: str) -> tuple[Sequence[Effect], int]:
        return await self._run(lambda c: payments.effects_of(c, reference))

    async def refund_effects_of(self, refund_id: str) -> tuple[Sequence[RefundEffect], int]:
        return await self._run(lambda c: refunds.effects_of(c, refund_id))

    async def refund_effects_of_payment(self, reference: str) -> tuple[Sequence[RefundEffect], int]:
        return await self._run(lambda c: refunds.effects_of_payment(c, reference))

    async def count_effects(self, references: Sequence[str]) -> dict[str, int]:
        return await self._count("effects", "reference", references)

    async def count_refund_effects(self, refund_ids: Sequence[str]) -> dict[str, int]:
        return await self._count("refund_effects", "refund_id", refund_ids)

    async def _count(self, table: str, column: str, values: Sequence[str]) -> dict[str, int]:
        query = (
            f"SELECT wanted.value, count(DISTINCT {table}.id) FROM json_each(?) AS wanted"
            f" LEFT JOIN {table} ON {table}.{column} = wanted.value GROUP BY wanted.value"
        )
        wanted = orjson.dumps(values).decode()
        rows = await self._run(
            lambda connection: connection.execute(query, (wanted,)).fetchall(), transaction=False
        )
        return {row[0]: row[1] for row in rows}

    async def summary(self) -> Summary:
        row = await self._run(lambda connection: connection.execute(_COUNTS).fetchone())
        return Summary(
            effects=row["effects"],
            references=row["references_"],
            doubled=row["doubled"],
            repeats=row["repeats"],
            requests=row["references_"] + row["repeats"],
            refunds=row["refunds"],
            refund_references=row["refund_references"],
            refund_doubled=row["refund_doubled"],
            refund_repeats=row["refund_repeats"],
            refund_requests=row["refund_references"] + row["refund_repeats"],
        )


def _offset(connection: sqlite3.Connection) -> float:
    offset: float = connection.execute("SELECT offset_seconds FROM clock").fetchone()[0]
    return offset
