"""Messages into the notifier; its queue is declared here."""

from collections.abc import Callable, Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.contracts import MESSAGES, Event, PaymentEventV1

from mospay_notifier import usecases

PAYMENT_EVENTS = tuple(sorted(name for name in MESSAGES if name.startswith("payment.")))


def subscriptions(
    wake: Callable[[], None], *, linger_seconds: float, limit: int
) -> list[Subscription]:
    """Return what the notifier listens to; `wake` tells the sender of new deliveries."""

    async def on_payment(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        if await usecases.make_deliveries(tx, events):
            tx.after_commit(wake)

    queue = QueueSpec("notifier.payments", events=PAYMENT_EVENTS)
    return [
        Subscription(
            queue,
            dict.fromkeys(PAYMENT_EVENTS, on_payment),
            linger_seconds=linger_seconds,
            limit=limit,
        )
    ]
