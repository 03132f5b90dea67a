"""Messages in: payments to process, wishes about them, refunds, callbacks to match."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Permanent, Subscription
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import (
    CancelPaymentV1,
    EnquirePaymentV1,
    Event,
    PaymentCallbackV1,
    ProcessPaymentV1,
    RefundPaymentV1,
    ResolvePaymentV1,
    ResolveRefundV1,
    ReviewPaymentV1,
)

from mospay_payment_router.usecases import callbacks
from mospay_payment_router.usecases.accept import Acceptance
from mospay_payment_router.usecases.operations import Operations
from mospay_payment_router.usecases.refunds import Refunds
from mospay_payment_router.usecases.review import Reviews

COMMANDS = QueueSpec("payment-router.commands", commands=("payments.process.v1",))
OPERATIONS = QueueSpec(
    "payment-router.operations",
    commands=(
        "payments.cancel.v1",
        "payments.enquire.v1",
        "payments.refund.v1",
        "payments.resolve.v1",
        "payments.review.v1",
        "refunds.resolve.v1",
    ),
)
CALLBACKS = QueueSpec("payment-router.callbacks", commands=("payments.callback.v1",))
BATCH = 64  # functions a dispatcher call, rows a statement
RUNNERS = 2  # one batch waits for the disk while the next one runs its functions


@dataclass(frozen=True, slots=True)
class Woken:
    """The workers that have something to do once a message is committed."""

    matcher: Worker
    enquirer: Worker
    canceller: Worker


def subscriptions(
    acceptance: Acceptance,
    operations: Operations,
    refunds: Refunds,
    reviews: Reviews,
    woken: Woken,
) -> list[Subscription]:
    """Return the router's queues."""

    async def on_process(tx: Tx, events: Sequence[Event[ProcessPaymentV1]]) -> None:
        now = asyncio.get_running_loop().time()
        for one in events:
            _refuse_nul(one.data)
        await acceptance.take(tx, events, now)

    async def on_callback(tx: Tx, events: Sequence[Event[PaymentCallbackV1]]) -> None:
        await callbacks.store(tx, events)
        tx.after_commit(woken.matcher.wake)

    async def on_cancel(tx: Tx, events: Sequence[Event[CancelPaymentV1]]) -> None:
        await operations.wish_cancels(tx, events)
        tx.after_commit(woken.canceller.wake)

    async def on_enquire(tx: Tx, events: Sequence[Event[EnquirePaymentV1]]) -> None:
        await operations.ask_now(tx, events)
        tx.after_commit(woken.enquirer.wake)

    async def on_resolve(tx: Tx, events: Sequence[Event[ResolvePaymentV1]]) -> None:
        await operations.resolve(tx, events)

    async def on_review(tx: Tx, events: Sequence[Event[ReviewPaymentV1]]) -> None:
        await reviews.review(tx, events)

    async def on_refund(tx: Tx, events: Sequence[Event[RefundPaymentV1]]) -> None:
        await refunds.take(tx, events)

    async def on_refund_resolve(tx: Tx, events: Sequence[Event[ResolveRefundV1]]) -> None:
        await refunds.resolve(tx, events)

    return [
        Subscription(COMMANDS, {"payments.process.v1": on_process}, limit=BATCH, runners=RUNNERS),
        Subscription(CALLBACKS, {"payments.callback.v1": on_callback}),
        Subscription(
            OPERATIONS,
            {
                "payments.cancel.v1": on_cancel,
                "payments.enquire.v1": on_enquire,
                "payments.refund.v1": on_refund,
                "payments.resolve.v1": on_resolve,
                "payments.review.v1": on_review,
                "refunds.resolve.v1": on_refund_resolve,
            },
            limit=BATCH,
        ),
    ]


def _refuse_nul(command: ProcessPaymentV1) -> None:
    """A NUL is no text to PostgreSQL, today or later: such a command is dead at once."""
    texts = (
        *(command.payment_id, command.app_id, command.service_id, command.client_id),
        *(command.microservice, command.service, command.route, command.reference),
        *(command.phone, command.customer_id, command.product_id, command.product_name),
        *(command.ip, command.device),
        *(*command.metadata, *command.metadata.values()),
        *(*command.fields, *command.fields.values()),
    )
    if any(text is not None and "\x00" in text for text in texts):
        raise Permanent("the command holds a NUL character")
