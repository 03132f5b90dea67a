"""Messages in: the router's events about payments."""

from collections.abc import Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.contracts import MESSAGES, Event, PaymentEventV1

from mospay_gateway.usecases.news import news_of, take_news
from mospay_gateway.usecases.waiting import Waiters

TYPES = tuple(
    name
    for name, message in MESSAGES.items()
    if message.model is PaymentEventV1 and message.producer == "payment-router"
)


def subscriptions(waiters: Waiters) -> list[Subscription]:
    """Return the queues of the gateway besides the directory's."""

    async def on_payment_news(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        await take_news(tx, [news_of(event) for event in events], waiters)

    queue = QueueSpec("gateway.payments", events=TYPES)
    return [Subscription(queue, dict.fromkeys(TYPES, on_payment_news))]
