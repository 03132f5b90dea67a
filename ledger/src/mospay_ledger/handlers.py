"""Messages into the ledger; its queue is declared here."""

from collections.abc import Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Event, PaymentEventV1

from mospay_ledger import usecases


def subscriptions(relay: Relay, *, linger_seconds: float, limit: int) -> list[Subscription]:
    """Return what the ledger listens to: proven money, early or late."""

    async def on_payment_succeeded(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        await usecases.post_captures(tx, relay, events)

    queue = QueueSpec("ledger.payments", events=("payment.succeeded.v1",))
    return [
        Subscription(
            queue,
            {"payment.succeeded.v1": on_payment_succeeded},
            linger_seconds=linger_seconds,
            limit=limit,
        )
    ]
