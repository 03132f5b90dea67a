"""The durable record of calls: one SQLite file, written by one thread before and after each call.

One process a file, and one file a connector: the file is what makes a repeated request harmless.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from mospay_paypal.domain.protocol import Answer, AttemptReusedError, Call, Kind, Order

_T = TypeVar("_T")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS calls (
    kind text NOT NULL,
    reference text NOT NULL,
    attempt_id text NOT NULL,
    amount text NOT NULL,
    currency text NOT NULL,
    handle text,
    answer text,
    taken_at text NOT NULL,
    -- The promise itself: whatever the code above does, one reference has one call under way.
    PRIMARY KEY (kind, reference)
) STRICT;
CREATE INDEX IF NOT EXISTS calls_by_handle ON calls (handle) WHERE handle IS NOT NULL;
CREATE TABLE IF NOT EXISTS attempts (
    attempt_id text PRIMARY KEY,
    kind text NOT NULL,
    reference text NOT NULL
) STRICT;
"""


class Record:
    """One file, one connection, one thread: each method is a transaction run on that thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Create the file and its tables if they are missing."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        assert self._connection is not None, "open() comes first"
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    def _connect(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=5, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # A call that a power cut makes us forget could be made twice.
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        self._connection = connection

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            assert self._connection is not None, "open() comes first"
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._connection)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            return result

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def take(self, order: Order) -> Call | None:
        """Write a call down before it is made; None: make it. A Call: it was made before.

        Raises AttemptReusedError. What was provably never sent may be tried by a new attempt.
        """
        return await self._run(lambda connection: _take(connection, order))

    async def finish(self, order: Order, answer: Answer) -> None:
        """Write down what a call came to."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE calls SET answer = ?, handle = coalesce(?, handle)"
                " WHERE kind = ? AND reference = ? AND attempt_id = ?",
                (
                    answer.model_dump_json(),
                    answer.handle,
                    order.kind,
                    order.reference,
                    order.attempt_id,
                ),
            )

        await self._run(work)

    async def learn(self, call: Call, answer: Answer) -> None:
        """Keep what an enquiry brought; what says less than is known changes nothing."""
        ended = call.answer is not None and call.answer.outcome in ("succeeded", "failed")
        if answer.outcome != "unknown" and not (ended and answer.outcome == "pending"):
            await self.finish(Order(call.kind, call.reference, call.attempt_id), answer)

    async def find(self, kind: Kind, reference: str | None) -> Call | None:
        """Return the call for a reference."""

        def work(connection: sqlite3.Connection) -> Call | None:
            return _read(connection, "kind = ? AND reference = ?", (kind, reference))

        return None if reference is None else await self._run(work)

    async def find_handle(self, handle: str | None) -> Call | None:
        """Return the call that the provider knows by this name."""

        def work(connection: sqlite3.Connection) -> Call | None:
            return _read(connection, "handle = ?", (handle,))

        return None if handle is None else await self._run(work)


def _take(connection: sqlite3.Connection, order: Order) -> Call | None:
    owner = connection.execute(
        "SELECT kind, reference FROM attempts WHERE attempt_id = ?", (order.attempt_id,)
    ).fetchone()
    if owner is not None and tuple(owner) != (order.kind, order.reference):
        raise AttemptReusedError
    known = _read(connection, "kind = ? AND reference = ?", (order.kind, order.reference))
    if known is not None and (
        owner is not None or known.answer is None or not known.answer.never_sent
    ):
        return known
    connection.execute(
        "INSERT INTO attempts (attempt_id, kind, reference) VALUES (?, ?, ?)",
        (order.attempt_id, order.kind, order.reference),
    )
    connection.execute(
        "INSERT OR REPLACE INTO calls (kind, reference, attempt_id, amount, currency, taken_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            order.kind,
            order.reference,
            order.attempt_id,
            order.amount,
            order.currency,
            datetime.now(UTC).isoformat(),
        ),
    )
    return None


def _read(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> Call | None:
    row = connection.execute(f"SELECT * FROM calls WHERE {where}", values).fetchone()
    if row is None:
        return None
    return Call(
        kind=row["kind"],
        reference=row["reference"],
        attempt_id=row["attempt_id"],
        amount=row["amount"],
        currency=row["currency"],
        handle=row["handle"],
        answer=None if row["answer"] is None else Answer.model_validate_json(row["answer"]),
        taken_at=datetime.fromisoformat(row["taken_at"]),
    )
