"""Messages into the notifier; its queues are declared here."""

from collections.abc import Callable, Sequence

from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Handler, Subscription
from mospay_shared.contracts import (
    MESSAGES,
    CustomerEventV1,
    Event,
    InvoiceEventV1,
    InvoiceReminderV1,
    MailPayerV1,
    PaymentEventV1,
    PayoutV1,
    RefundEventV1,
    SettlementV1,
)

from mospay_notifier import usecases

# By body, as `payment.risk_assessed` tells merchants nothing.
PAYMENT_EVENTS = tuple(sorted(n for n, m in MESSAGES.items() if m.model is PaymentEventV1))
REFUND_EVENTS = tuple(sorted(n for n, m in MESSAGES.items() if m.model is RefundEventV1))
SETTLEMENT_EVENTS = tuple(
    sorted(n for n, m in MESSAGES.items() if m.model in (SettlementV1, PayoutV1))
)
INVOICE_EVENTS = tuple(
    sorted(n for n, m in MESSAGES.items() if m.model in (InvoiceEventV1, CustomerEventV1))
)


def subscriptions(
    wake: Callable[[], None], *, linger_seconds: float, limit: int
) -> list[Subscription]:
    """Return what the notifier listens to; `wake` tells the sender of new deliveries."""

    async def on_payment(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        if await usecases.make_deliveries(tx, events):
            tx.after_commit(wake)

    async def on_refund(tx: Tx, events: Sequence[Event[RefundEventV1]]) -> None:
        if await usecases.make_deliveries(tx, events):
            tx.after_commit(wake)

    async def on_settlement(
        tx: Tx, events: Sequence[Event[SettlementV1] | Event[PayoutV1]]
    ) -> None:
        if await usecases.make_deliveries(tx, events):
            tx.after_commit(wake)

    async def on_invoice(tx: Tx, events: Sequence[Event[InvoiceEventV1 | CustomerEventV1]]) -> None:
        if await usecases.make_deliveries(tx, events):
            tx.after_commit(wake)

    def subscription(name: str, types: tuple[str, ...], handler: Handler) -> Subscription:
        return Subscription(
            QueueSpec(name, events=types),
            dict.fromkeys(types, handler),
            linger_seconds=linger_seconds,
            limit=limit,
            ignore_unknown=True,
        )

    return [
        subscription("notifier.payments", PAYMENT_EVENTS, on_payment),
        subscription("notifier.refunds", REFUND_EVENTS, on_refund),
        subscription("notifier.settlements", SETTLEMENT_EVENTS, on_settlement),
        subscription("notifier.invoices", INVOICE_EVENTS, on_invoice),
    ]


def mail_subscriptions(
    wake: Callable[[], None], wake_payer: Callable[[], None]
) -> list[Subscription]:
    """Return what mails are made of.

    The ledger says once for each invoice and kind, portal-api for each link a payer is to get.
    """

    async def on_reminder(tx: Tx, events: Sequence[Event[InvoiceReminderV1]]) -> None:
        await usecases.keep_mails(tx, events)
        tx.after_commit(wake)

    async def on_mail_payer(tx: Tx, events: Sequence[Event[MailPayerV1]]) -> None:
        await usecases.keep_payer_mails(tx, events)
        tx.after_commit(wake_payer)

    reminder, payer = "invoice.reminder_due.v1", "payers.mail.v1"
    mails = QueueSpec("notifier.mails", events=(reminder,))
    payers = QueueSpec("notifier.payers", commands=(payer,))
    return [
        Subscription(mails, {reminder: on_reminder}, ignore_unknown=True),
        Subscription(payers, {payer: on_mail_payer}),
    ]
