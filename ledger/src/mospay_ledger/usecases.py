"""Verbs of the ledger: one transaction over a sequence of payments."""

import datetime as dt
from collections import Counter as Tally
from collections.abc import Sequence

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import (
    Event,
    LedgerEntryPostedV1,
    Outgoing,
    PaymentEventV1,
    PostingV1,
    outgoing,
)
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_ledger import domain, storage
from mospay_ledger.domain import Entry, FeePlanMissing, LedgerError

log = structlog.get_logger()
POSTED = Counter("mospay_ledger_entries_posted", "Journal entries written", ["kind", "mode"])


async def post_captures(
    tx: Tx, relay: Relay, events: Sequence[Event[PaymentEventV1]]
) -> list[Entry]:
    """Book succeeded payments, each effect once, and tell of the new entries.

    Raises Permanent for what can't be booked by trying again, FeePlanMissing for what can.
    """
    try:
        entries = await _book(tx, relay, events)
    except FeePlanMissing:
        raise
    except LedgerError as error:
        raise Permanent(str(error)) from error
    tx.after_commit(lambda: _count(entries))
    return entries


async def _book(tx: Tx, relay: Relay, events: Sequence[Event[PaymentEventV1]]) -> list[Entry]:
    payments = [event.data for event in events]
    for payment in payments:
        domain.check_postable(payment)
    plans = await storage.fee_plans(tx, payments)
    # Locks come before the look at what is booked: whoever books another attempt of one of these
    # payments holds its pending account, so what is seen below stays true until the commit.
    await storage.open_and_lock(
        tx, [of(p) for p in payments for of in (domain.clearing, domain.pending, domain.fees)]
    )
    captured, taken = await storage.known_effects(
        tx, [p.payment_id for p in payments], [domain.effect_key(p) for p in payments]
    )
    now = dt.datetime.now(dt.UTC)
    entries: list[Entry] = []
    told: list[Outgoing] = []
    for event, plan in zip(events, plans, strict=True):
        payment, key = event.data, domain.effect_key(event.data)
        if key in taken:
            continue  # another event, or another version of it, told of this effect before
        taken.add(key)
        if payment.payment_id in captured:
            entry = domain.second_capture(new_id("ent"), payment, now)
            log.error("second_capture", payment_id=payment.payment_id, entry_id=entry.id)
        elif plan is None:
            raise FeePlanMissing(f"none was in force for {payment.payment_id} at its acceptance")
        else:
            entry = domain.capture(new_id("ent"), payment, plan, now)
        captured.add(payment.payment_id)
        assert domain.is_balanced(entry.postings), entry.id
        entries.append(entry)
        told.append(_posted(entry, event))
    if entries:
        await storage.open_and_lock(
            tx, [domain.refund_due(e.payment) for e in entries if e.kind == "second_capture"]
        )
        await storage.write_entries(tx, entries)
        await relay.enqueue(tx, told)
    return entries


async def check_books(tx: Tx) -> tuple[int, int]:
    """Return how many recent entries are off balance and how many accounts are adrift: 0 and 0."""
    return await storage.count_unbalanced(tx), await storage.count_adrift(tx)


def _count(entries: Sequence[Entry]) -> None:
    for (kind, mode), count in Tally((e.kind, e.payment.mode) for e in entries).items():
        POSTED.labels(kind, mode).inc(count)


def _posted(entry: Entry, event: Event[PaymentEventV1]) -> Outgoing:
    payment = entry.payment
    body = LedgerEntryPostedV1(
        entry_id=entry.id,
        kind=entry.kind,
        payment_id=payment.payment_id,
        attempt_id=payment.attempt_id,
        client_id=payment.client_id,
        mode=payment.mode,
        currency=payment.currency,
        amount_minor=payment.amount_minor,
        fee_minor=entry.fee_minor,
        net_minor=entry.net_minor,
        postings=[
            PostingV1(account=p.account.id, amount_minor=p.amount_minor) for p in entry.postings
        ],
        posted_at=entry.posted_at,
    )
    return outgoing(
        "ledger.entry_posted.v1",
        payment.payment_id,
        body,
        source="ledger",
        causation_id=event.id,
        correlation_id=event.envelope.correlation_id,
        traceparent=event.envelope.traceparent,
    )
