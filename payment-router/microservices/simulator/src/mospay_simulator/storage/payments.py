"""SQL about payments, on a connection whose transaction is open."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import orjson

from mospay_simulator.domain.errors import AttemptReusedError
from mospay_simulator.domain.payments import (
    Delays,
    DueCallback,
    Effect,
    Moments,
    Order,
    Payment,
    effect_of,
    open_payment,
    payment_callbacks,
    settle_payment,
)
from mospay_simulator.domain.scenarios import Outcome, scenario_named
from mospay_simulator.storage.record import Taken


def text(moment: datetime) -> str:
    """Fixed width in UTC, so that text order is time order."""
    return moment.isoformat(timespec="microseconds")


def optional_text(moment: datetime | None) -> str | None:
    """As `text`; NULL stays NULL."""
    return None if moment is None else text(moment)


def optional_time(stored: str | None) -> datetime | None:
    """What `optional_text` stored."""
    return None if stored is None else datetime.fromisoformat(stored)


def take(connection: sqlite3.Connection, order: Order, now: datetime, delays: Delays) -> Taken:
    """Record a request; raises AttemptReusedError."""
    attempt = connection.execute(
        "SELECT reference FROM attempts WHERE attempt_id = ?"
        " UNION ALL SELECT NULL FROM refund_attempts WHERE attempt_id = ?",
        (order.attempt_id, order.attempt_id),
    ).fetchone()
    if attempt is not None and attempt["reference"] != order.reference:
        raise AttemptReusedError
    known = find(connection, order.reference)
    payment = known or open_payment(order, now, delays)
    if known is not None:
        connection.execute(
            "UPDATE payments SET repeats = repeats + 1 WHERE reference = ?", (order.reference,)
        )
    else:
        _insert(connection, payment)
        if payment.outcome is Outcome.SUCCEEDED:
            _insert_effect(connection, effect_of(payment, now))
    if order.attempt_id is not None and attempt is None:
        connection.execute(
            "INSERT INTO attempts (attempt_id, reference) VALUES (?, ?)",
            (order.attempt_id, order.reference),
        )
    return Taken(payment, repeated=known is not None)


def settle_due(connection: sqlite3.Connection, now: datetime, limit: int, delays: Delays) -> int:
    """Take the due steps of payments; how many."""
    rows = connection.execute(
        "SELECT * FROM payments WHERE settles_at <= ? ORDER BY settles_at LIMIT ?",
        (text(now), limit),
    ).fetchall()
    for row in rows:
        moments = Moments(datetime.fromisoformat(row["settles_at"]), now)
        payment, step = settle_payment(_payment(row), delays)
        connection.execute(
            "UPDATE payments SET outcome = ?, reason_code = ?, step = ?, settles_at = ?"
            " WHERE reference = ?",
            (
                payment.outcome.value,
                payment.reason_code,
                payment.step,
                optional_text(payment.settles_at),
                payment.reference,
            ),
        )
        if payment.outcome is Outcome.SUCCEEDED:
            _insert_effect(connection, effect_of(payment, now))
        callbacks = payment_callbacks(payment, step, moments, delays)
        insert_callbacks(connection, payment.reference, callbacks)
    return len(rows)


def insert_callbacks(
    connection: sqlite3.Connection, reference: str, callbacks: Sequence[DueCallback]
) -> None:
    """Keep callbacks until they are due."""
    connection.executemany(
        "INSERT INTO callbacks (reference, url, body, forged, due_at) VALUES (?, ?, ?, ?, ?)",
        [
            (reference, one.url, orjson.dumps(one.body), int(one.forged), text(one.due_at))
            for one in callbacks
        ],
    )


def find(connection: sqlite3.Connection, reference: str) -> Payment | None:
    """The payment of a reference."""
    row = connection.execute("SELECT * FROM payments WHERE reference = ?", (reference,)).fetchone()
    return None if row is None else _payment(row)


def effects_of(connection: sqlite3.Connection, reference: str) -> tuple[Sequence[Effect], int]:
    """The effects of a reference and how often its request was repeated."""
    rows = connection.execute(
        "SELECT reference, amount, phone_masked, scenario, at FROM effects"
        " WHERE reference = ? ORDER BY id",
        (reference,),
    ).fetchall()
    repeats = connection.execute(
        "SELECT repeats FROM payments WHERE reference = ?", (reference,)
    ).fetchone()
    return [Effect(*row) for row in rows], 0 if repeats is None else repeats[0]


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
        reason_code=row["reason_code"],
        callback_url=row["callback_url"],
        accepted_at=datetime.fromisoformat(row["accepted_at"]),
        settles_at=optional_time(row["settles_at"]),
        step=row["step"],
        refund_scenario=row["refund_scenario"],
    )


def _insert(connection: sqlite3.Connection, payment: Payment) -> None:
    connection.execute(
        "INSERT INTO payments (reference, provider_reference, service, route, amount, phone_masked,"
        " scenario, outcome, reason_code, callback_url, accepted_at, settles_at, step,"
        " refund_scenario) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            payment.reference,
            payment.provider_reference,
            payment.service,
            payment.route,
            payment.amount,
            payment.phone_masked,
            payment.scenario.name,
            payment.outcome.value,
            payment.reason_code,
            payment.callback_url,
            text(payment.accepted_at),
            optional_text(payment.settles_at),
            payment.step,
            payment.refund_scenario,
        ),
    )


def _insert_effect(connection: sqlite3.Connection, effect: Effect) -> None:
    connection.execute(
        "INSERT INTO effects (reference, amount, phone_masked, scenario, at)"
        " VALUES (?, ?, ?, ?, ?)",
        (effect.reference, effect.amount, effect.phone_masked, effect.scenario, effect.at),
    )
