"""Reminders: what customers are to be told by mail, as events for whoever sends mail."""

import datetime as dt

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import InvoiceReminderV1, outgoing
from prometheus_client import Counter

from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import reminders

REMINDERS = Counter("mospay_ledger_reminders", "Mails about invoices that were asked for", ["kind"])


async def publish(tx: Tx, relay: Relay, settings: LedgerSettings) -> int:
    """Publish the reminders that are due, each once an invoice; return how many."""
    rows = await reminders.note_due(
        tx,
        before_days=settings.reminder_before_days,
        overdue_days=settings.reminder_overdue_days,
        in_test=settings.reminders_in_test,
        limit=settings.invoice_batch,
    )
    at = dt.datetime.now(dt.UTC)
    await relay.enqueue(
        tx,
        [
            outgoing(
                "invoice.reminder_due.v1",
                row["invoice_id"],
                InvoiceReminderV1(**dict(row), occurred_at=at),
                source="ledger",
            )
            for row in rows
        ],
    )
    kinds = [row["kind"] for row in rows]

    def count() -> None:
        for kind in kinds:
            REMINDERS.labels(kind).inc()

    tx.after_commit(count)
    return len(rows)
