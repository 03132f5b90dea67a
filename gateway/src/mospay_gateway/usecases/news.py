"""The router's news of payments: applied by version, then whoever waits is woken."""

from collections.abc import Sequence
from typing import Any

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import Event, PaymentEventV1

from mospay_gateway.domain.payments import News
from mospay_gateway.storage import payments
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
