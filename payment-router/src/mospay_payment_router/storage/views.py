"""Reads for people: a payment with its attempts, and the hops of its trace."""

from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop

from mospay_payment_router.domain.errors import NoSuchPayment
from mospay_payment_router.domain.functions import ENQUIRY, place

SERVICE = "payment-router"
_PAYMENT = """
select id, client_id, mode, status, version, provider_reference, reason_code, reason_message, late,
       attention, updated_at, route
from payments where id = $1"""
_ATTEMPTS = """
select id, number, state, started_at, ended_at, http_status, result,
       coalesce(reason_message, reason_code) as reason
from attempts where payment_id = $1 order by number"""
_CALLS = """
select a.id, a.number, a.state, a.url, a.http_status, a.result, a.reason_code, a.reason_message,
       a.created_at, a.started_at, a.answered_at, a.ended_at, a.next_action_at,
       a.started_at is not null as sent, p.service, p.route, p.terms ->> 'call' as function,
       (p.terms ->> 'function_version')::int as function_version
from attempts a join payments p on p.id = a.payment_id where a.payment_id = $1 order by a.number"""
_ENQUIRIES = """
select e.id, e.number, e.started_at, e.ended_at, e.http_status, e.result, e.reason_code,
       e.reason_message, p.service, p.route, p.terms ->> 'enquiry' as function,
       case when e.number = p.enquiries then p.next_action_at end as next_at
from enquiries e join payments p on p.id = e.payment_id
where e.payment_id = $1 order by e.number limit 100"""
_TRANSITIONS = """
select version, from_status, to_status, evidence, source_id, at
from payment_transitions where payment_id = $1 order by version"""
_CALLBACKS = """
select id, state, reason, received_at, ended_at from callbacks
where payment_id = $1 order by received_at limit 50"""
_RESULTS = {
    "processed": "ok",
    "declined": "failed",
    "never_sent": "failed",
    "pending": "pending",
    "undefined": "unknown",
}
_STATES = {"succeeded": "ok", "unknown": "unknown", "conflicted": "unknown", "processing": "ok"}


async def payment(tx: Tx, payment_id: str) -> dict[str, Any]:
    """Return a payment and its attempts; raises NoSuchPayment."""
    row = await tx.row(_PAYMENT, payment_id)
    if row is None:
        raise NoSuchPayment(payment_id)
    attempts = await tx.fetch(_ATTEMPTS, payment_id)
    return {**dict(row), "attempts": [{**dict(a), "route": row["route"]} for a in attempts]}


async def hops(tx: Tx, payment_id: str) -> list[Hop]:
    """Return provider calls, enquiries, callbacks and changes of state as hops of the trace."""
    found = [_call(row) for row in await tx.fetch(_CALLS, payment_id)]
    found += [_enquiry(row) for row in await tx.fetch(_ENQUIRIES, payment_id)]
    found += [_callback(row) for row in await tx.fetch(_CALLBACKS, payment_id)]
    found += [_transition(payment_id, row) for row in await tx.fetch(_TRANSITIONS, payment_id)]
    return found


def _call(row: asyncpg.Record) -> Hop:
    waiting = row["state"] in ("ready", "sending", "answered")
    return Hop(
        id=row["id"],
        service=SERVICE,
        kind="provider_call",
        name=f"POST {row['service']}/{row['route']}" if row["url"] else row["function"],
        attempt=row["number"],
        next_at=row["next_action_at"],
        received_at=row["started_at"] or row["created_at"],
        handled_at=row["answered_at"] or row["ended_at"],
        outcome="pending" if waiting else _RESULTS.get(row["result"] or "", "unknown"),
        detail=row["reason_message"] or row["reason_code"],
        data={
            "state": row["state"],
            "http_status": row["http_status"],
            "result": row["result"],
            "sent": row["sent"],
            "host": place(row["url"]) if row["url"] else None,
            "function": row["function"],
            "function_version": row["function_version"],
        },
    )


def _enquiry(row: asyncpg.Record) -> Hop:
    return Hop(
        id=row["id"],
        service=SERVICE,
        kind="provider_call",
        name=f"POST {row['service']}/{row['route']}{ENQUIRY}",
        attempt=row["number"],
        next_at=row["next_at"],
        received_at=row["started_at"],
        handled_at=row["ended_at"],
        outcome=_RESULTS.get(row["result"], "unknown"),
        detail=row["reason_message"] or row["reason_code"],
        data={
            "enquiry": True,
            "http_status": row["http_status"],
            "result": row["result"],
            "function": row["function"],
        },
    )


def _callback(row: asyncpg.Record) -> Hop:
    return Hop(
        id=row["id"],
        service=SERVICE,
        kind="provider_call",
        name="callback",
        received_at=row["received_at"],
        handled_at=row["ended_at"],
        outcome="ok" if row["state"] in ("applied", "repeated", "asked") else "unknown",
        detail=row["reason"],
        data={"state": row["state"]},
    )


def _transition(payment_id: str, row: asyncpg.Record) -> Hop:
    return Hop(
        id=f"{payment_id}:{row['version']}",
        service=SERVICE,
        kind="state",
        name=f"{row['from_status']} → {row['to_status']}",
        received_at=row["at"],
        handled_at=row["at"],
        outcome=_STATES.get(row["to_status"], "failed"),
        detail=f"because of {row['evidence']}",
        data={
            "version": row["version"],
            "from": row["from_status"],
            "to": row["to_status"],
            "evidence": row["evidence"],
            "source_id": row["source_id"],
        },
    )
