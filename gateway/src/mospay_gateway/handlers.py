"""Messages in: the router's events about payments and their refunds."""

from collections.abc import Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.contracts import MESSAGES, Event, PaymentEventV1, RefundEventV1

from mospay_gateway.usecases.news import news_of, refund_of, take_news, take_refund_news
from mospay_gateway.usecases.waiting import Waiters

TYPES = tuple(
    name
    for name, message in MESSAGES.items()
    if message.model is PaymentEventV1 and message.producer == "payment-router"
)

REFUND_TYPES = tuple(name for name, message in MESSAGES.items() if message.model is RefundEventV1)


def subscriptions(waiters: Waiters) -> list[Subscription]:
    """Return the queues of the gateway besides the directory's."""

    async def on_payment_news(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        await take_news(tx, [news_of(event) for event in events], waiters)

    async def on_refund_news(tx: Tx, events: Sequence[Event[RefundEventV1]]) -> None:
        await take_refund_news(tx, [refund_of(event) for event in events])

    payments = QueueSpec("gateway.payments", events=TYPES)
    refunds = QueueSpec("gateway.refunds", events=REFUND_TYPES)
    return [
        Subscription(payments, dict.fromkeys(TYPES, on_payment_news), ignore_unknown=True),
        Subscription(refunds, dict.fromkeys(REFUND_TYPES, on_refund_news), ignore_unknown=True),
    ]
