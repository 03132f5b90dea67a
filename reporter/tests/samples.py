"""Messages for the reporter's tests, and the way they take into its inbox."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from mospay_shared.chassis.inbox import Subscription, parse
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import (
    ApiCalledV1,
    Contract,
    LedgerEntryPostedV1,
    PaymentEventV1,
    PostingV1,
    WebhookEventV1,
    outgoing,
)
from mospay_shared.ids import new_id

Message = tuple[str, Contract]


def now() -> dt.datetime:
    """The present, aware."""
    return dt.datetime.now(dt.UTC)


def payment(**changes: Any) -> PaymentEventV1:
    """A payment of a client of its own, accepted just now, unless `changes` say otherwise."""
    moment = changes.get("accepted_at", now())
    values: dict[str, Any] = {
        "payment_id": new_id("pay"),
        "client_id": new_id("cli"),
        "mode": "test",
        "app_id": "app_test",
        "service_id": "svc_1",
        "microservice": "simulator",
        "service": "collection",
        "route": "payment",
        "amount_minor": 1000,
        "currency": "RWF",
        "status": "processing",
        "version": 1,
        "reference": new_id("ref"),
        "accepted_at": moment,
        "occurred_at": moment,
    }
    return PaymentEventV1(**(values | changes))


def later(event: PaymentEventV1, status: str, version: int, **changes: Any) -> PaymentEventV1:
    """The same payment after a change."""
    moved = {
        "status": status,
        "version": version,
        "occurred_at": event.accepted_at + dt.timedelta(seconds=version),
    }
    return PaymentEventV1(**(event.model_dump() | moved | changes))


def entry(event: PaymentEventV1, fee_minor: int = 20, **changes: Any) -> LedgerEntryPostedV1:
    """The journal entry of a payment's capture."""
    net = event.amount_minor - fee_minor
    values: dict[str, Any] = {
        "entry_id": new_id("ent"),
        "kind": "capture",
        "payment_id": event.payment_id,
        "client_id": event.client_id,
        "mode": event.mode,
        "currency": event.currency,
        "amount_minor": event.amount_minor,
        "fee_minor": fee_minor,
        "net_minor": net,
        "postings": [
            PostingV1(account="clearing", amount_minor=event.amount_minor),
            PostingV1(account="pending", amount_minor=-net),
            PostingV1(account="fees", amount_minor=-fee_minor),
        ],
        "posted_at": now(),
    }
    return LedgerEntryPostedV1(**(values | changes))


def call(**changes: Any) -> ApiCalledV1:
    """A call of a client app."""
    values: dict[str, Any] = {
        "request_id": new_id("req"),
        "client_id": new_id("cli"),
        "mode": "test",
        "method": "POST",
        "path": "/v1/payments",
        "status": 202,
        "latency_ms": 12.5,
        "called_at": now(),
    }
    return ApiCalledV1(**(values | changes))


def webhook(**changes: Any) -> WebhookEventV1:
    """An attempt to deliver a webhook."""
    values: dict[str, Any] = {
        "delivery_id": new_id("dlv"),
        "endpoint_id": new_id("ep"),
        "client_id": new_id("cli"),
        "mode": "test",
        "event_id": new_id("evt"),
        "event_type": "payment.succeeded",
        "attempt": 1,
        "status_code": 200,
        "duration_ms": 30,
        "final": True,
        "attempted_at": now(),
    }
    return WebhookEventV1(**(values | changes))


def wire_type(body: Contract) -> str:
    """The type a body travels under (payments at version 0 are the gateway's acceptance)."""
    if isinstance(body, PaymentEventV1):
        return f"payment.{body.status.value}.v1" if body.version else "payment.accepted.v1"
    if isinstance(body, LedgerEntryPostedV1):
        return "ledger.entry_posted.v1"
    return "api.called.v1" if isinstance(body, ApiCalledV1) else "webhook.delivered.v1"


def encoded(body: Contract) -> bytes:
    """An event with a new event id, as it travels."""
    subject = getattr(body, "payment_id", None) or "none"
    return outgoing(wire_type(body), subject, body, source="test").body


def queue_of(service: Service, body: Contract) -> Subscription:
    """The subscription a body arrives on."""
    kind = wire_type(body)
    return next(s for s in service.subscriptions if kind in s.handlers)


async def tell(service: Service, bodies: Sequence[Contract]) -> None:
    """Hand messages to the inbox in this order, as many at once as come on one queue in a row."""
    start = 0
    while start < len(bodies):
        queue = queue_of(service, bodies[start])
        end = start
        while end < len(bodies) and queue_of(service, bodies[end]) is queue and end - start < 100:
            end += 1
        await tell_raw(service, queue, [encoded(body) for body in bodies[start:end]])
        start = end


async def tell_raw(service: Service, queue: Subscription, events: Iterable[bytes]) -> None:
    """Hand encoded events to the inbox as one message."""
    await service.inbox.process(queue, parse(b"[" + b",".join(events) + b"]", queue))
