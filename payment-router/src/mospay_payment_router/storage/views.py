"""Reads for people: a payment with its attempts, and the hops of its trace."""

from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop

from mospay_payment_router.domain.errors import NoSuchPayment, NoSuchRefund
from mospay_payment_router.domain.functions import ENQUIRY, place

SERVICE = "payment-router"
_PAYMENT = """
select id, client_id, mode, status, version, provider_reference, reason_code, reason_message, late,
       attention, updated_at, route, retry_of, refund_open_minor, refunded_minor,
       over_refunded_minor
from payments where id = $1"""
_ATTEMPTS = """
select id, number, state, started_at, ended_at, http_status, result,
       coalesce(reason_message, reason_code) as reason
from attempts where payment_id = $1 order by number"""
_REFUND_VIEW = """
select id, payment_id, client_id, mode, amount_minor, currency, status, version, late, over_refund,
       resolved, provider_reference, reason, reason_code, reason_message, attention, attempt_state,
       enquiries, requested_at, updated_at
from refunds"""
_REFUNDS = f"{_REFUND_VIEW} where payment_id = $1 order by id limit 200"
_ONE_REFUND = f"{_REFUND_VIEW} where id = $1"
# The status is written out: only so is the index of open refunds of use.
_OPEN_REFUNDS = {
    status: f"""{_REFUND_VIEW}
where status = '{status}' and ($1::text is null or id > $1) order by id limit $2"""
    for status in ("pending", "unknown")
}
_REFUND_CALLS = """
select r.id, r.attempt_id, r.attempt_state, r.amount_minor, r.url, r.http_status, r.status,
       r.reason_code, r.reason_message, r.created_at, r.started_at, r.answered_at, r.next_action_at,
       p.service
from refunds r join payments p on p.id = r.payment_id where r.payment_id = $1
order by r.id limit 200"""
_REFUND_ENQUIRIES = """
select id, refund_id, number, started_at, ended_at, http_status, result, reason_code,
       reason_message
from refund_enquiries where payment_id = $1 order by started_at limit 200"""
_REFUND_TRANSITIONS = """
select refund_id, version, from_status, to_status, evidence, source_id, at
from refund_transitions where payment_id = $1 order by at limit 500"""
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
_RISK = """
select d.payment_id, d.decision, d.score, d.reasons, d.by_default, d.took_ms, d.rules_version,
       d.assessed_at, p.accepted_at
from risk_decisions d join payments p on p.id = d.payment_id where d.payment_id = $1"""
_REVIEWS = """
select payment_id, version, by, decision, note, applied, requested_at, at from risk_reviews
where payment_id = $1 order by at limit 50"""
_RESULTS = {
    "processed": "ok",
    "declined": "failed",
    "never_sent": "failed",
    "pending": "pending",
    "undefined": "unknown",
}
_STATES = {"succeeded": "ok", "unknown": "unknown", "conflicted": "unknown", "processing": "ok"}


# Why a state changed, in words a person reads in the trace.
EVIDENCE_WORDS = {
    "succeeded": "the provider proved that it was paid",
    "declined": "the provider said that no money moved",
    "pending": "the provider has it and has not decided",
    "undefined": "no usable answer came: anything may have happened",
    "silent": "asking brought no news",
    "never_sent": "nothing left for the provider",
    "not_found": "the provider, asked with authority, knows no such payment",
    "refused": "no call was made",
    "unsent_expired": "its time was over before anything was sent",
    "mismatch": "the provider names another amount or currency",
    "people_succeeded": "two people proved that the money moved",
    "people_failed": "two people proved that no money moved",
    "held_by_risk": "risk wants a person to look first",
    "released": "a person released it",
    "refused_in_review": "a person refused it",
    "cancelled": "the client cancelled it, nothing was sent",
    "action": "the payer has to do something",
    "expired": "the provider said that the payer's time is over",
}


async def payment(tx: Tx, payment_id: str) -> dict[str, Any]:
    """Return a payment and its attempts; raises NoSuchPayment."""
    row = await tx.row(_PAYMENT, payment_id)
    if row is None:
        raise NoSuchPayment(payment_id)
    attempts = await tx.fetch(_ATTEMPTS, payment_id)
    refunds = [dict(r) for r in await tx.fetch(_REFUNDS, payment_id)]
    shown = [{**dict(a), "route": row["route"]} for a in attempts]
    return {**dict(row), "attempts": shown, "refunds": refunds}


async def refund(tx: Tx, refund_id: str) -> dict[str, Any]:
    """Return a refund; raises NoSuchRefund."""
    row = await tx.row(_ONE_REFUND, refund_id)
    if row is None:
        raise NoSuchRefund(refund_id)
    return dict(row)


async def open_refunds(tx: Tx, status: str, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Return refunds that are `pending` or `unknown`, the oldest first."""
    return [dict(row) for row in await tx.fetch(_OPEN_REFUNDS[status], after, limit)]


async def hops(tx: Tx, payment_id: str) -> list[Hop]:
    """Return provider calls, enquiries, callbacks and changes of state as hops of the trace."""
    found = [_call(row) for row in await tx.fetch(_CALLS, payment_id)]
    found += [_risk(row) for row in await tx.fetch(_RISK, payment_id)]
    found += [_review(row) for row in await tx.fetch(_REVIEWS, payment_id)]
    found += [_enquiry(row) for row in await tx.fetch(_ENQUIRIES, payment_id)]
    found += [_callback(row) for row in await tx.fetch(_CALLBACKS, payment_id)]
    found += [_refund(row) for row in await tx.fetch(_REFUND_CALLS, payment_id)]
    found += [_refund_enquiry(row) for row in await tx.fetch(_REFUND_ENQUIRIES, payment_id)]
    found += [
        _transition(row["refund_id"], row, "refund ")
        for row in await tx.fetch(_REFUND_TRANSITIONS, payment_id)
    ]
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


def _risk(row: asyncpg.Record) -> Hop:
    outcomes = {"allow": "ok", "hold": "pending", "refuse": "failed"}
    reasons = "; ".join(reason["detail"] for reason in row["reasons"])
    return Hop(
        id=f"{row['payment_id']}:risk",
        service=SERVICE,
        kind="state",
        name=f"risk: {row['decision']}",
        received_at=row["assessed_at"],
        handled_at=row["assessed_at"],
        outcome=outcomes[row["decision"]],
        detail=f"score {row['score']}: {reasons}"[:500],
        data={
            "risk": row["decision"],
            "score": row["score"],
            "reasons": row["reasons"],
            "by_default": row["by_default"],
            "took_ms": row["took_ms"],
            "rules_version": row["rules_version"],
        },
    )


def _review(row: asyncpg.Record) -> Hop:
    return Hop(
        id=f"{row['payment_id']}:review:{row['version']}:{row['by']}",
        service=SERVICE,
        kind="state",
        name=f"review: {row['decision']}",
        received_at=row["requested_at"],
        handled_at=row["at"],
        outcome="ok" if row["applied"] else "failed",
        detail=row["note"] if row["applied"] else f"it had moved on by then: {row['note']}",
        data={"risk": row["decision"], "by": row["by"], "seen_version": row["version"]},
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


def _refund(row: asyncpg.Record) -> Hop:
    words = {"succeeded": "ok", "failed": "failed", "pending": "pending"}
    return Hop(
        id=row["attempt_id"],
        service=SERVICE,
        kind="provider_call",
        name=f"POST {row['service']}/refund",
        next_at=row["next_action_at"],
        received_at=row["started_at"] or row["created_at"],
        handled_at=row["answered_at"],
        outcome=words.get(row["status"], "unknown"),
        detail=row["reason_message"] or row["reason_code"],
        data={
            "refund_id": row["id"],
            "amount_minor": row["amount_minor"],
            "state": row["attempt_state"],
            "http_status": row["http_status"],
            "host": place(row["url"]) if row["url"] else None,
            "sent": row["started_at"] is not None,
        },
    )


def _refund_enquiry(row: asyncpg.Record) -> Hop:
    return Hop(
        id=row["id"],
        service=SERVICE,
        kind="provider_call",
        name="POST refundStatus",
        attempt=row["number"],
        received_at=row["started_at"],
        handled_at=row["ended_at"],
        outcome=_RESULTS.get(row["result"], "unknown"),
        detail=row["reason_message"] or row["reason_code"],
        data={
            "enquiry": True,
            "refund_id": row["refund_id"],
            "http_status": row["http_status"],
            "result": row["result"],
        },
    )


def _transition(subject: str, row: asyncpg.Record, prefix: str = "") -> Hop:
    return Hop(
        id=f"{subject}:{row['version']}",
        service=SERVICE,
        kind="state",
        name=f"{prefix}{row['from_status']} → {row['to_status']}",
        received_at=row["at"],
        handled_at=row["at"],
        outcome=_STATES.get(row["to_status"], "failed"),
        detail=EVIDENCE_WORDS.get(row["evidence"], row["evidence"]),
        data={
            "version": row["version"],
            "from": row["from_status"],
            "to": row["to_status"],
            "evidence": row["evidence"],
            "source_id": row["source_id"],
        },
    )
