"""What the reporter does with what it is told; one verb is one transaction over a sequence."""

import datetime as dt
from collections.abc import Sequence

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import (
    ApiCalledV1,
    Event,
    LedgerEntryPostedV1,
    PaymentEventV1,
    ProviderHealthV1,
    RefundEventV1,
    RiskAssessedV1,
    SaleEventV1,
    SecurityEventV1,
    WebhookEventV1,
)

from mospay_reporter.domain import refunds as refund_rules
from mospay_reporter.domain.facts import (
    ForeignPayment,
    Known,
    bookings,
    newest,
    news,
    storable,
)
from mospay_reporter.domain.sales import Key, Place, checked, named_payments
from mospay_reporter.storage import backlog, calls, facts, refunds, sales
from mospay_reporter.storage import events as told_events

log = structlog.get_logger()


class Moved(Exception):
    """A payment's row was moved to its month's partition meanwhile: the same again finds it."""


async def record_payments(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
    """Bring facts to the newest state told, in whatever order and how often it is told.

    Raises FactError for what no try can store, Moved for what the next try will.
    """
    latest = newest(event.data for event in events)
    await sales.share_names(tx)
    inserted = await facts.insert(tx, latest)
    earlier = [event for event in latest if event.payment_id not in inserted]
    told = [event for event in latest if event.payment_id in inserted]
    if earlier:
        known = await _lock(tx, [event.payment_id for event in earlier])
        told += news(earlier, known)
    if told:
        await facts.change(tx, told, inserted)
        await _sell(tx, [event.payment_id for event in told])


async def record_entries(tx: Tx, events: Sequence[Event[LedgerEntryPostedV1]]) -> None:
    """Add fees and net amounts of journal entries to their payments, each entry once.

    Raises as `record_payments` does. An entry may come before its payment.
    """
    entries = [event.data for event in events]
    told = bookings(entries)
    await sales.share_names(tx)
    await facts.insert_stubs(tx, told)
    known = await _lock(tx, [booking.payment_id for booking in told])
    fresh = bookings(entries, known)
    if fresh:
        await facts.book(tx, fresh)
        await _sell(tx, [booking.payment_id for booking in fresh])


async def record_refunds(tx: Tx, events: Sequence[Event[RefundEventV1]]) -> None:
    """Bring refunds to the newest state told, and what was given back of their payments.

    Raises as `record_payments` does. A refund may come before its payment.
    """
    latest = refund_rules.newest(event.data for event in events)
    known = await refunds.lock(tx, [event.refund_id for event in latest])
    fresh = refund_rules.news(latest, known)
    if not fresh:
        return
    await sales.share_names(tx)
    await refunds.put(tx, fresh)
    by_payment = refund_rules.by_payment(fresh)
    await refunds.insert_stubs(tx, by_payment)
    payments = await _lock(tx, [event.payment_id for event in by_payment])
    for event in fresh:
        if payments[event.payment_id].identity != refund_rules.identity(event):
            raise ForeignPayment(f"{event.payment_id} has another client, mode or currency")
    await refunds.give_back(tx, [event.payment_id for event in by_payment])
    await _sell(tx, [event.payment_id for event in by_payment])


async def record_sales(tx: Tx, events: Sequence[Event[SaleEventV1]]) -> None:
    """Store a merchant's sale events, each key once, and count what is new of their sales.

    An event whose transaction id is a payment's id or reference belongs to that payment's sale,
    whichever of the two is told of first. Raises FactError.
    """
    told = checked(event.data for event in events)
    ids = named_payments(told)
    references: dict[Key, str] = {}
    if ids:
        await sales.own_names(tx)
        for row in await facts.named(tx, ids):
            references[row["client_id"], row["mode"], row["payment_id"]] = row["name"]
    places = await sales.insert_events(
        tx,
        [
            (event, references.get((event.client_id, event.mode, name), name))
            for event in told
            for name in [storable(event.transaction_id)]
        ],
    )
    if places:
        await sales.refresh(tx, places)


async def sell_earlier(tx: Tx, limit: int) -> int:
    """Count payments as sales that were told of before there were any; return how many."""
    earlier = await backlog.take(tx, limit)
    if earlier:
        await sales.share_names(tx)
        await _sell(tx, earlier)
    return len(earlier)


async def _sell(tx: Tx, payment_ids: Sequence[str]) -> None:
    """Count payments that have changed as sales; those known by their books alone are none yet."""
    rows = await facts.named(tx, payment_ids)
    places = [Place(row["client_id"], row["mode"], row["name"], row["payment_id"]) for row in rows]
    if places:
        await sales.refresh(tx, [*places, *await sales.absorb(tx, places)])


async def record_security(tx: Tx, events: Sequence[Event[SecurityEventV1]]) -> None:
    """Store security events, each once; raises FactError."""
    await told_events.add_security(
        tx, [(event.envelope.type.split(".")[1], event.data) for event in events]
    )


async def record_risk(tx: Tx, events: Sequence[Event[RiskAssessedV1]]) -> None:
    """Store what risk decided, each once; raises FactError."""
    await told_events.add_risk(tx, [(event.id, event.data) for event in events])


async def record_health(tx: Tx, events: Sequence[Event[ProviderHealthV1]]) -> None:
    """Store changes of providers' health, each once; raises FactError."""
    await told_events.add_health(tx, [(event.id, event.data) for event in events])


async def _lock(tx: Tx, payment_ids: Sequence[str]) -> dict[str, Known]:
    known = await facts.lock(tx, payment_ids)
    if len(known) != len(payment_ids):
        raise Moved(f"{len(payment_ids) - len(known)} payments changed place")
    return known


async def record_calls(tx: Tx, events: Sequence[Event[ApiCalledV1]]) -> None:
    """Store calls of client apps and count them by hour; raises FactError."""
    await calls.add_calls(tx, [(event.id, event.data) for event in events])


async def record_webhooks(tx: Tx, events: Sequence[Event[WebhookEventV1]]) -> None:
    """Store attempts of webhooks; raises FactError."""
    await calls.add_webhook_attempts(
        tx,
        [(event.envelope.type.startswith("webhook.delivered."), event.data) for event in events],
    )


async def keep_partitions(tx: Tx, today: dt.date, retention_days: int) -> None:
    """Make the partitions of the coming months and days; drop days past retention."""
    made = await calls.keep_partitions(tx, today, retention_days)
    if made:
        log.info("partitions_made", count=made)
