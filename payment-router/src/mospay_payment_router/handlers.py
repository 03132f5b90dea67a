"""Messages in: payments to process and callbacks to match."""

import asyncio
from collections.abc import Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Permanent, Subscription
from mospay_shared.chassis.workers import Worker
from mospay_shared.contracts import Event, PaymentCallbackV1, ProcessPaymentV1

from mospay_payment_router.usecases import callbacks
from mospay_payment_router.usecases.accept import Acceptance

COMMANDS = QueueSpec("payment-router.commands", commands=("payments.process.v1",))
CALLBACKS = QueueSpec("payment-router.callbacks", commands=("payments.callback.v1",))
BATCH = 64  # functions a dispatcher call, rows a statement
RUNNERS = 2  # one batch waits for the disk while the next one runs its functions


def subscriptions(acceptance: Acceptance, matcher: Worker) -> list[Subscription]:
    """Return the router's queues; `matcher` is woken when callbacks have been stored."""

    async def on_process(tx: Tx, events: Sequence[Event[ProcessPaymentV1]]) -> None:
        now = asyncio.get_running_loop().time()
        for one in events:
            _refuse_nul(one.data)
        await acceptance.take(tx, events, now)

    async def on_callback(tx: Tx, events: Sequence[Event[PaymentCallbackV1]]) -> None:
        await callbacks.store(tx, events)
        tx.after_commit(matcher.wake)

    return [
        Subscription(COMMANDS, {"payments.process.v1": on_process}, limit=BATCH, runners=RUNNERS),
        Subscription(CALLBACKS, {"payments.callback.v1": on_callback}),
    ]


def _refuse_nul(command: ProcessPaymentV1) -> None:
    """A NUL is no text to PostgreSQL, today or later: such a command is dead at once."""
    texts = (
        *(command.payment_id, command.app_id, command.service_id, command.client_id),
        *(command.microservice, command.service, command.route, command.reference),
        *(command.phone, command.customer_id, command.product_id, command.product_name),
        *(*command.metadata, *command.metadata.values()),
        *(*command.fields, *command.fields.values()),
    )
    if any(text is not None and "\x00" in text for text in texts):
        raise Permanent("the command holds a NUL character")
