"""The durable record: one SQLite file in WAL mode, written by one thread."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import orjson

from mospay_simulator.domain.errors import AttemptReusedError
from mospay_simulator.domain.payments import (
    Callback,
    Effect,
    Order,
    Payment,
    callback_body,
    effect_of,
    open_payment,
    planned_callbacks,
)
from mospay_simulator.domain.scenarios import Outcome, scenario_named
from mospay_simulator.storage.record import Summary, Taken

_T = TypeVar("_T")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payments (
    reference text PRIMARY KEY,
    provider_reference text NOT NULL UNIQUE,
    service text NOT NULL,
    route text NOT NULL,
    amount text NOT NULL,
    phone_masked text,
    scenario text NOT NULL,
    outcome text NOT NULL,
    callback_url text,
    accepted_at text NOT NULL,
    settles_at text,
    repeats integer NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS payments_due ON payments (settles_at) WHERE settles_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS attempts (
    attempt_id text PRIMARY KEY,
    reference text NOT NULL REFERENCES payments
) STRICT;
CREATE TABLE IF NOT EXISTS effects (
    id integer PRIMARY KEY,
    reference text NOT NULL REFERENCES payments,
    amount text NOT NULL,
    phone_masked text,
    scenario text NOT NULL,
    at text NOT NULL
) STRICT;
-- The promise itself: whatever the code above it does, one reference has one effect.
CREATE UNIQUE INDEX IF NOT EXISTS effects_once ON effects (reference);
CREATE TABLE IF NOT EXISTS callbacks (
    id integer PRIMARY KEY,
    reference text NOT NULL REFERENCES payments,
    url text NOT NULL,
    body blob NOT NULL,
    forged integer NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    due_at text
) STRICT;
CREATE INDEX IF NOT EXISTS callbacks_due ON callbacks (due_at) WHERE due_at IS NOT NULL;
"""


class SqliteRecord:
    """One file, one connection, one thread: each method is a transaction run on that thread."""

    def __init__(self, path: Path, delays: Mapping[str, timedelta]) -> None:
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
        connection.executescript(_SCHEMA)
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

    async def take(self, order: Order, now: datetime) -> Taken:
        return await self._run(lambda connection: _take(connection, order, now, self._delays))

    async def find(self, reference: str) -> Payment | None:
        return await self._run(lambda connection: _find(connection, reference), transaction=False)

    async def settle_due(self, now: datetime, limit: int) -> int:
        return await self._run(lambda connection: _settle_due(connection, now, limit))

    async def next_settlement(self) -> datetime | None:
        return await self._first_time("SELECT min(settles_at) FROM payments")

    async def next_callback(self) -> datetime | None:
        return await self._first_time("SELECT min(due_at) FROM callbacks")

    async def _first_time(self, query: str) -> datetime | None:
        row = await self._run(
            lambda connection: connection.execute(query).fetchone(), transaction=False
        )
        return None if row[0] is None else datetime.fromisoformat(row[0])

    async def due_callbacks(self, now: datetime, limit: int) -> Sequence[Callback]:
        rows = await self._run(
            lambda connection: connection.execute(
                "SELECT id, url, body, forged, tries FROM callbacks"
                " WHERE due_at <= ? ORDER BY due_at, id LIMIT ?",
                (_text(now), limit),
            ).fetchall(),
            transaction=False,
        )
        return [Callback(r["id"], r["url"], r["body"], bool(r["forged"]), r["tries"]) for r in rows]

    async def reschedule_callback(self, callback_id: int, due_at: datetime | None) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE callbacks SET tries = tries + 1, due_at = ? WHERE id = ?",
                (None if due_at is None else _text(due_at), callback_id),
            )

        await self._run(work)

    async def effects_of(self, reference: str) -> tuple[Sequence[Effect], int]:
        def work(connection: sqlite3.Connection) -> tuple[Sequence[Effect], int]:
            rows = connection.execute(
                "SELECT reference, amount, phone_masked, scenario, at FROM effects"
                " WHERE reference = ? ORDER BY id",
                (reference,),
            ).fetchall()
            repeats = connection.execute(
                "SELECT repeats FROM payments WHERE reference = ?", (reference,)
            ).fetchone()
            return [Effect(*row) for row in rows], 0 if repeats is None else repeats[0]

        return await self._run(work)

    async def count_effects(self, references: Sequence[str]) -> dict[str, int]:
        query = (
            "SELECT wanted.value, count(DISTINCT effects.id) FROM json_each(?) AS wanted"
            " LEFT JOIN effects ON effects.reference = wanted.value GROUP BY wanted.value"
        )
        rows = await self._run(
            lambda connection: connection.execute(
                query, (orjson.dumps(references).decode(),)
            ).fetchall()
        )
        return {row[0]: row[1] for row in rows}

    async def summary(self) -> Summary:
        query = (
            "SELECT (SELECT count(*) FROM effects) AS effects, count(*) AS references_,"
            " (SELECT count(*) FROM (SELECT 1 FROM effects GROUP BY reference"
            "  HAVING count(*) > 1)) AS doubled, coalesce(sum(repeats), 0) AS repeats FROM payments"
        )
        row = await self._run(lambda connection: connection.execute(query).fetchone())
        return Summary(
            effects=row["effects"],
            references=row["references_"],
            doubled=row["doubled"],
            repeats=row["repeats"],
            requests=row["references_"] + row["repeats"],
        )


def _take(
    connection: sqlite3.Connection, order: Order, now: datetime, delays: Mapping[str, timedelta]
) -> Taken:
    attempt = connection.execute(
        "SELECT reference FROM attempts WHERE attempt_id = ?", (order.attempt_id,)
    ).fetchone()
    if attempt is not None and attempt["reference"] != order.reference:
        raise AttemptReusedError
    known = _find(connection, order.reference)
    payment = known or open_payment(order, now, delays)
    if known is not None:
        connection.execute(
            "UPDATE payments SET repeats = repeats + 1 WHERE reference = ?", (order.reference,)
        )
    else:
        _insert_payment(connection, payment)
        if payment.outcome is Outcome.SUCCEEDED:
            _insert_effect(connection, effect_of(payment, now))
    if order.attempt_id is not None and attempt is None:
        connection.execute(
            "INSERT INTO attempts (attempt_id, reference) VALUES (?, ?)",
            (order.attempt_id, order.reference),
        )
    return Taken(payment, repeated=known is not None)


def _settle_due(connection: sqlite3.Connection, now: datetime, limit: int) -> int:
    rows = connection.execute(
        "SELECT * FROM payments WHERE settles_at <= ? ORDER BY settles_at LIMIT ?",
        (_text(now), limit),
    ).fetchall()
    for row in rows:
        payment = replace(_payment(row), outcome=Outcome.SUCCEEDED, settles_at=None)
        connection.execute(
            "UPDATE payments SET outcome = ?, settles_at = NULL WHERE reference = ?",
            (payment.outcome.value, payment.reference),
        )
        _insert_effect(connection, effect_of(payment, now))
        for due_at, plan in planned_callbacks(payment, now):
            connection.execute(
                "INSERT INTO callbacks (reference, url, body, forged, due_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    payment.reference,
                    payment.callback_url,
                    orjson.dumps(callback_body(payment, plan.outcome)),
                    int(plan.forged),
                    _text(due_at),
                ),
            )
    return len(rows)


def _find(connection: sqlite3.Connection, reference: str) -> Payment | None:
    row = connection.execute("SELECT * FROM payments WHERE reference = ?", (reference,)).fetchone()
    return None if row is None else _payment(row)


def _payment(row: sqlite3.Row) -> Payment:
    return Payment(
        reference=row["reference"],
        provider_reference=row["provider_reference"],
        service=row["service"],
        route=row["route"],
        amount=row["amount"],
        phone_masked=row["phone_masked"],
        scenario=scenario_named(row["scenario"]),
        outcome=Outcome(row["outcome"]),
        callback_url=row["callback_url"],
        accepted_at=datetime.fromisoformat(row["accepted_at"]),
        settles_at=None if row["settles_at"] is None else datetime.fromisoformat(row["settles_at"]),
    )


def _insert_payment(connection: sqlite3.Connection, payment: Payment) -> None:
    connection.execute(
        "INSERT INTO payments (reference, provider_reference, service, route, amount, phone_masked,"
        " scenario, outcome, callback_url, accepted_at, settles_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            payment.reference,
            payment.provider_reference,
            payment.service,
            payment.route,
            payment.amount,
            payment.phone_masked,
            payment.scenario.name,
            payment.outcome.value,
            payment.callback_url,
            _text(payment.accepted_at),
            None if payment.settles_at is None else _text(payment.settles_at),
        ),
    )


def _insert_effect(connection: sqlite3.Connection, effect: Effect) -> None:
    connection.execute(
        "INSERT INTO effects (reference, amount, phone_masked, scenario, at)"
        " VALUES (?, ?, ?, ?, ?)",
        (effect.reference, effect.amount, effect.phone_masked, effect.scenario, effect.at),
    )


def _text(moment: datetime) -> str:
    # Fixed width in UTC, so that text order is time order.
    return moment.isoformat(timespec="microseconds")
