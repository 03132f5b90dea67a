"""The router's news of payments and refunds: applied by version, then whoever waits is woken."""

from collections.abc import Sequence
from typing import Any

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import Event, PaymentEventV1, RefundEventV1

from mospay_gateway.domain.payments import News
from mospay_gateway.domain.refunds import Refund
from mospay_gateway.storage import payments, refunds
from mospay_gateway.usecases.waiting import Waiters

log = structlog.get_logger()


def news_of(event: Event[PaymentEventV1]) -> News:
    """Read the news out of an event."""
    body = event.data
    return News(
        payment_id=body.payment_id,
        client_id=body.client_id,
        mode=body.mode,
        status=body.status,
        version=body.version,
        provider_reference=body.provider_reference,
        reason_code=body.reason_code,
        reason_message=body.reason_message,
        late=body.late,
        occurred_at=body.occurred_at,
    )


async def take_news(tx: Tx, news: Sequence[News], waiters: Waiters) -> int:
    """Apply news; older or repeated ones change nothing. Return how many payments changed."""
    changed = await payments.apply_news(tx, news)
    if changed:
        tx.after_commit(waiters.nudge)
    return len(changed)


def refund_of(event: Event[RefundEventV1]) -> Refund:
    """Read a refund as it is now out of an event."""
    body = event.data
    return Refund(
        id=body.refund_id,
        payment_id=body.payment_id,
        client_id=body.client_id,
        mode=body.mode,
        amount_minor=body.amount_minor,
        currency=body.currency,
        reason=body.reason,
        requested_at=body.requested_at,
        status=body.status,
        version=body.version,
        provider_reference=body.provider_reference,
        reason_code=body.reason_code,
        reason_message=body.reason_message,
        late=body.late,
        over_refund=body.over_refund,
        updated_at=body.occurred_at,
    )


async def take_refund_news(tx: Tx, news: Sequence[Refund]) -> int:
    """Apply news of refunds, whoever asked for them; return how many changed.

    Those of a payment that is another tenant's or not here at all touch nothing and are logged.
    """
    changed, unmatched = await refunds.apply_news(tx, news)
    for refund_id in sorted(unmatched):
        log.warning("refund_news_without_payment", refund_id=refund_id)
    return len(changed)


async def http_hops(tx: Tx, subject: str) -> list[dict[str, Any]]:
    """Return the HTTP call that made a payment, as a step of its trace; nothing secret in it."""
    payment = await payments.find(tx, subject)
    if payment is None:
        return []
    view = payment.view()
    shown = (
        "app_id", "mode", "microservice", "service", "route", "amount_minor", "currency",
        "phone", "reference",
    )  # fmt: skip
    return [
        {
            "id": f"http:{payment.id}",
            "kind": "http",
            "name": payment.accepted_via,
            "received_at": payment.received_at,
            "handled_at": payment.accepted_at,
            "outcome": "ok",
            "detail": f"accepted as {payment.id}",
            "data": {"request_id": payment.request_id, **{name: view[name] for name in shown}},
        }
    ]
