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
    WebhookEventV1,
)

from mospay_reporter.domain.facts import Known, bookings, newest, news
from mospay_reporter.storage import calls, facts

log = structlog.get_logger()


class Moved(Exception):
    """A payment's row was moved to its month's partition meanwhile: the same again finds it."""


async def record_payments(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
    """Bring facts to the newest state told, in whatever order and how often it is told.

    Raises FactError for what no try can store, Moved for what the next try will.
    """
    latest = newest(event.data for event in events)
    inserted = await facts.insert(tx, latest)
    earlier = [event for event in latest if event.payment_id not in inserted]
    told = [event for event in latest if event.payment_id in inserted]
    if earlier:
        known = await _lock(tx, [event.payment_id for event in earlier])
        told += news(earlier, known)
    if told:
        await facts.change(tx, told, inserted)


async def record_entries(tx: Tx, events: Sequence[Event[LedgerEntryPostedV1]]) -> None:
    """Add fees and net amounts of journal entries to their payments, each entry once.

    Raises as `record_payments` does. An entry may come before its payment.
    """
    entries = [event.data for event in events]
    told = bookings(entries)
    await facts.insert_stubs(tx, told)
    known = await _lock(tx, [booking.payment_id for booking in told])
    fresh = bookings(entries, known)
    if fresh:
        await facts.book(tx, fresh)


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
