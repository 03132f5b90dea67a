"""Messages into the ledger; its queues are declared here."""

from collections.abc import Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Event, PaymentEventV1

from mospay_ledger.domain import MoneyEvent
from mospay_ledger.usecases import posting
from mospay_ledger.usecases.paying import Till

TYPES = (
    "payment.succeeded.v1",
    "refund.failed.v1",
    "refund.pending.v1",
    "refund.succeeded.v1",
    "refund.unknown.v1",
)


def subscriptions(relay: Relay, *, linger_seconds: float, limit: int) -> list[Subscription]:
    """Return what the ledger listens to: proven money and refunds, in any order, early or late."""

    async def on_money(tx: Tx, events: Sequence[Event[MoneyEvent]]) -> None:
        await posting.post_events(tx, relay, events)

    queue = QueueSpec("ledger.payments", events=TYPES)
    return [
        Subscription(
            queue, dict.fromkeys(TYPES, on_money), linger_seconds=linger_seconds, limit=limit
        )
    ]


# News of payments that an invoice may wait for. A queue of its own: money is booked whatever
# becomes of an invoice, and an invoice that can't be settled holds up no booking.
OUTCOMES = tuple(
    f"payment.{status}.v1"
    for status in (
        "cancelled", "conflicted", "expired", "failed", "held", "requires_customer_action",
        "succeeded", "unknown",
    )
)  # fmt: skip


def intent_subscriptions(till: Till, *, linger_seconds: float, limit: int) -> list[Subscription]:
    """Return what ends the payments of invoices; a payment without an intent costs no statement."""

    async def on_payment(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        await till.on_outcomes(tx, events)

    queue = QueueSpec("ledger.intents", events=OUTCOMES)
    return [
        Subscription(
            queue, dict.fromkeys(OUTCOMES, on_payment), linger_seconds=linger_seconds, limit=limit
        )
    ]
