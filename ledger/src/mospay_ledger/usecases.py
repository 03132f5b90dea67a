"""Verbs of the ledger: one transaction over a sequence of payments."""

import datetime as dt
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

from mospay_ledger import storage
from mospay_ledger.domain import AmountTooLarge, Entry, FeePlan, capture, effect_key

log = structlog.get_logger()


async def post_captures(
    tx: Tx, relay: Relay, plan: FeePlan, events: Sequence[Event[PaymentEventV1]]
) -> list[Entry]:
    """Book succeeded payments, each effect once, and tell of the new entries.

    An effect that is booked already is skipped: another event (or event version) told of it.
    """
    payments, taken = await storage.known_effects(
        tx,
        [e.data.payment_id for e in events],
        [effect_key(e.data) for e in events],
    )
    entries: list[Entry] = []
    told: list[Outgoing] = []
    for event in events:
        payment = event.data
        key = effect_key(payment)
        if key in taken:
            continue
        taken.add(key)
        try:
            second = payment.payment_id in payments
            entry = capture(new_id("ent"), payment, plan, second=second)
        except AmountTooLarge as error:
            raise Permanent(str(error)) from error
        payments.add(payment.payment_id)
        if second:
            log.error("second_capture", payment_id=payment.payment_id)
        entries.append(entry)
        told.append(_posted(entry, event))
    if entries:
        await storage.write_entries(tx, entries)
        await relay.enqueue(tx, told)
    return entries


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
        posted_at=dt.datetime.now(dt.UTC),
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
