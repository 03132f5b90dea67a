"""The live stream: payment events become rows that open browsers are sent."""

from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import Event, PaymentEventV1

from mospay_portal_api.storage import people


async def keep_news(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
    """Write a live row for each payment event."""
    rows: list[tuple[str, str, str, Any]] = []
    for event in events:
        payment = event.data
        news = {
            "id": payment.payment_id,
            "client_id": payment.client_id,
            "mode": payment.mode,
            "status": payment.status,
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
            "service": payment.service,
            "version": payment.version,
            "updated_at": payment.occurred_at.isoformat(),
        }
        rows.append(("payment", payment.client_id, payment.mode, news))
    if rows:
        await people.insert_stream(tx, rows)
