"""SQL about refunds, on a connection whose transaction is open."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from mospay_simulator.domain.errors import AttemptReusedError
from mospay_simulator.domain.payments import Delays, Moments
from mospay_simulator.domain.refunds import (
    Refund,
    RefundEffect,
    RefundOrder,
    open_refund,
    refund_callbacks,
    refund_effect_of,
    settle_refund,
)
from mospay_simulator.domain.scenarios import Outcome, refund_scenario_named
from mospay_simulator.storage import payments
from mospay_simulator.storage.record import TakenRefund

_EFFECT_COLUMNS: Final = "refund_id, payment_reference, amount, currency, scenario, at"


def take(
    connection: sqlite3.Connection, order: RefundOrder, now: datetime, delays: Delays
) -> TakenRefund:
    """Record a refund, checked against the others of its payment; raises AttemptReusedError."""
    attempt = connection.execute(
        "SELECT refund_id FROM refund_attempts WHERE attempt_id = ?"
        " UNION ALL SELECT NULL FROM attempts WHERE attempt_id = ?",
        (order.attempt_id, order.attempt_id),
    ).fetchone()
    if attempt is not None and attempt["refund_id"] != order.refund_id:
        raise AttemptReusedError
    known = find(connection, order.refund_id)
    if known is not None:
        refund = known
        connection.execute(
            "UPDATE refunds SET repeats = repeats + 1 WHERE refund_id = ?", (order.refund_id,)
        )
    else:
        others = connection.execute(
            "SELECT * FROM refunds WHERE payment_reference = ?", (order.payment_reference,)
        ).fetchall()
        payment = payments.find(connection, order.payment_reference)
        refund = open_refund(order, payment, [_refund(row) for row in others], now, delays)
        _insert(connection, refund)
        if refund.outcome is Outcome.SUCCEEDED:
            _insert_effect(connection, refund_effect_of(refund, now))
    if order.attempt_id is not None and attempt is None:
        connection.execute(
            "INSERT INTO refund_attempts (attempt_id, refund_id) VALUES (?, ?)",
            (order.attempt_id, order.refund_id),
        )
    return TakenRefund(refund, repeated=known is not None)


def settle_due(connection: sqlite3.Connection, now: datetime, limit: int, delays: Delays) -> int:
    """Take the due steps of refunds; how many."""
    rows = connection.execute(
        "SELECT * FROM refunds WHERE settles_at <= ? ORDER BY settles_at LIMIT ?",
        (payments.text(now), limit),
    ).fetchall()
    for row in rows:
        moments = Moments(datetime.fromisoformat(row["settles_at"]), now)
        refund, step = settle_refund(_refund(row), delays)
        connection.execute(
            "UPDATE refunds SET outcome = ?, reason_code = ?, step = ?, settles_at = ?"
            " WHERE refund_id = ?",
            (
                refund.outcome.value,
                refund.reason_code,
                refund.step,
                payments.optional_text(refund.settles_at),
                refund.refund_id,
            ),
        )
        if refund.outcome is Outcome.SUCCEEDED:
            _insert_effect(connection, refund_effect_of(refund, now))
        callbacks = refund_callbacks(refund, step, moments, delays)
        payments.insert_callbacks(connection, refund.refund_id, callbacks)
    return len(rows)


def find(connection: sqlite3.Connection, refund_id: str) -> Refund | None:
    """The refund of an id."""
    row = connection.execute("SELECT * FROM refunds WHERE refund_id = ?", (refund_id,)).fetchone()
    return None if row is None else _refund(row)


def effects_of(
    connection: sqlite3.Connection, refund_id: str
) -> tuple[Sequence[RefundEffect], int]:
    """The effects of a refund id and how often its request was repeated."""
    return _effects(connection, "refund_id", refund_id)


def effects_of_payment(
    connection: sqlite3.Connection, reference: str
) -> tuple[Sequence[RefundEffect], int]:
    """All refund effects of a payment and how often its refund requests were repeated."""
    return _effects(connection, "payment_reference", reference)


def _effects(
    connection: sqlite3.Connection, column: str, value: str
) -> tuple[Sequence[RefundEffect], int]:
    rows = connection.execute(
        f"SELECT {_EFFECT_COLUMNS} FROM refund_effects WHERE {column} = ? ORDER BY id", (value,)
    ).fetchall()
    repeats = connection.execute(
        f"SELECT coalesce(sum(repeats), 0) FROM refunds WHERE {column} = ?", (value,)
    ).fetchone()
    return [RefundEffect(*row) for row in rows], repeats[0]


def _refund(row: sqlite3.Row) -> Refund:
    return Refund(
        refund_id=row["refund_id"],
        provider_reference=row["provider_reference"],
        service=row["service"],
        payment_reference=row["payment_reference"],
        amount=row["amount"],
        currency=row["currency"],
        scenario=refund_scenario_named(row["scenario"]),
        outcome=Outcome(row["outcome"]),
        reason_code=row["reason_code"],
        callback_url=row["callback_url"],
        accepted_at=datetime.fromisoformat(row["accepted_at"]),
        settles_at=payments.optional_time(row["settles_at"]),
        step=row["step"],
    )


def _insert(connection: sqlite3.Connection, refund: Refund) -> None:
    connection.execute(
        "INSERT INTO refunds (refund_id, provider_reference, service, payment_reference, amount,"
        " currency, scenario, outcome, reason_code, callback_url, accepted_at, settles_at, step)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            refund.refund_id,
            refund.provider_reference,
            refund.service,
            refund.payment_reference,
            refund.amount,
            refund.currency,
            refund.scenario.name,
            refund.outcome.value,
            refund.reason_code,
            refund.callback_url,
            payments.text(refund.accepted_at),
            payments.optional_text(refund.settles_at),
            refund.step,
        ),
    )


def _insert_effect(connection: sqlite3.Connection, effect: RefundEffect) -> None:
    connection.execute(
        f"INSERT INTO refund_effects ({_EFFECT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        (
            effect.refund_id,
            effect.payment_reference,
            effect.amount,
            effect.currency,
            effect.scenario,
            effect.at,
        ),
    )
