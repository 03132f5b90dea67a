"""Messages into the ledger; its queue is declared here."""

from collections.abc import Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Event

from mospay_ledger.domain import MoneyEvent
from mospay_ledger.usecases import posting

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
