"""Messages for the notifier's tests."""

import datetime as dt
from typing import Any

from mospay_shared.contracts import PaymentEventV1, PaymentStatus, RefundEventV1, RefundStatus
from mospay_shared.ids import new_id


def payment(client_id: str, **changes: Any) -> PaymentEventV1:
    """A succeeded test payment of a client, unless `changes` say otherwise."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "payment_id": new_id("pay"),
        "client_id": client_id,
        "mode": "test",
        "app_id": "app",
        "service_id": "svc",
        "microservice": "simulator",
        "service": "collection",
        "route": "payment",
        "amount_minor": 1500,
        "currency": "RWF",
        "status": PaymentStatus.SUCCEEDED,
        "version": 2,
        "reference": "r",
        "accepted_at": now,
        "occurred_at": now,
    }
    return PaymentEventV1(**(values | changes))


def refund(client_id: str, **changes: Any) -> RefundEventV1:
    """A succeeded test refund of a part of a client's payment, unless `changes` say otherwise."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "refund_id": new_id("ref"),
        "payment_id": new_id("pay"),
        "client_id": client_id,
        "mode": "test",
        "app_id": "app",
        "service_id": "svc",
        "microservice": "simulator",
        "service": "collection",
        "amount_minor": 500,
        "currency": "RWF",
        "payment_amount_minor": 1500,
        "refunded_minor": 500,
        "status": RefundStatus.SUCCEEDED,
        "version": 2,
        "payment_accepted_at": now,
        "requested_at": now,
        "occurred_at": now,
    }
    return RefundEventV1(**(values | changes))
