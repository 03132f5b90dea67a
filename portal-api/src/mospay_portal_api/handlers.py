"""Messages into portal-api; its queues are declared here."""

from collections.abc import Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import (
    MESSAGES,
    CustomerEventV1,
    Event,
    PaymentEventV1,
    SnapshotRequestedV1,
)

from mospay_portal_api.usecases import live, payers, snapshot

# By body: `payment.risk_assessed` is not news of a state.
PAYMENT_EVENTS = tuple(sorted(n for n, m in MESSAGES.items() if m.model is PaymentEventV1))
CUSTOMER_EVENTS = tuple(sorted(n for n, m in MESSAGES.items() if m.model is CustomerEventV1))


def subscriptions(relay: Relay, feed: live.Feed) -> list[Subscription]:
    """Return what portal-api listens to: requests for a snapshot, news for open browsers, and
    customers, whose payers' accounts follow them.
    """

    async def on_snapshot_requested(tx: Tx, events: Sequence[Event[SnapshotRequestedV1]]) -> None:
        for event in events:
            await snapshot.answer(tx, relay, event)

    async def on_payment(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        await live.keep_news(tx, events)
        tx.after_commit(feed.wake)

    async def on_customer(tx: Tx, events: Sequence[Event[CustomerEventV1]]) -> None:
        await payers.follow(tx, events)

    asked = QueueSpec("portal-api.directory", commands=("directory.snapshot_requested.v1",))
    news = QueueSpec("portal-api.live", events=PAYMENT_EVENTS)
    customers = QueueSpec("portal-api.customers", events=CUSTOMER_EVENTS)
    return [
        Subscription(asked, {"directory.snapshot_requested.v1": on_snapshot_requested}, limit=1),
        Subscription(
            news, dict.fromkeys(PAYMENT_EVENTS, on_payment), linger_seconds=0.1, ignore_unknown=True
        ),
        Subscription(customers, dict.fromkeys(CUSTOMER_EVENTS, on_customer), linger_seconds=0.1),
    ]
