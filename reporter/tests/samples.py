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
    ProviderHealthV1,
    RefundEventV1,
    SaleEventV1,
    SecurityEventV1,
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


def refund(event: PaymentEventV1, **changes: Any) -> RefundEventV1:
    """A refund of half a payment, asked for a second after it was accepted."""
    moment = event.accepted_at + dt.timedelta(seconds=1)
    amount = changes.get("amount_minor", event.amount_minor // 2)
    values: dict[str, Any] = {
        "refund_id": new_id("ref"),
        "payment_id": event.payment_id,
        "client_id": event.client_id,
        "mode": event.mode,
        "app_id": event.app_id,
        "service_id": event.service_id,
        "microservice": event.microservice,
        "service": event.service,
        "amount_minor": amount,
        "currency": event.currency,
        "payment_amount_minor": event.amount_minor,
        "refunded_minor": 0,
        "status": "pending",
        "version": 1,
        "payment_accepted_at": event.accepted_at,
        "requested_at": moment,
        "occurred_at": moment,
    }
    return RefundEventV1(**(values | changes))


def refund_later(event: RefundEventV1, status: str, version: int, **changes: Any) -> RefundEventV1:
    """The same refund after a change."""
    moved = {
        "status": status,
        "version": version,
        "occurred_at": event.requested_at + dt.timedelta(seconds=version),
    }
    return RefundEventV1(**(event.model_dump() | moved | changes))


def sale(**changes: Any) -> SaleEventV1:
    """What a merchant tells of a transaction of its own."""
    moment = changes.get("occurred_at", now())
    transaction = changes.get("transaction_id", new_id("tx"))
    kind = changes.get("kind", "payment_succeeded")
    values: dict[str, Any] = {
        "sale_event_id": new_id("sal"),
        "client_id": new_id("cli"),
        "mode": "test",
        "dedupe_key": f"{transaction}:{kind}",
        "transaction_id": transaction,
        "kind": kind,
        "amount_minor": 1500,
        "currency": "RWF",
        "occurred_at": moment,
        "received_at": moment,
    }
    return SaleEventV1(**(values | changes))


def security(**changes: Any) -> SecurityEventV1:
    """Something about access."""
    values: dict[str, Any] = {
        "event_id": new_id("sec"),
        "client_id": new_id("cli"),
        "mode": "test",
        "ip": "203.0.113.9",
        "reason": "client limit of 600 a minute",
        "count": 3,
        "first_at": now(),
        "last_at": now(),
    }
    return SecurityEventV1(**(values | changes))


def health(**changes: Any) -> ProviderHealthV1:
    """A connector's breaker that opened."""
    values: dict[str, Any] = {
        "microservice": new_id("m"),
        "mode": "test",
        "state": "open",
        "previous_state": "closed",
        "reason": "12 of 20 calls failed",
        "failures": 12,
        "calls": 20,
        "changed_at": now(),
    }
    return ProviderHealthV1(**(values | changes))


def wire_type(body: Contract) -> str:
    """The type a body travels under (payments at version 0 are the gateway's acceptance)."""
    if isinstance(body, PaymentEventV1):
        return f"payment.{body.status.value}.v1" if body.version else "payment.accepted.v1"
    if isinstance(body, LedgerEntryPostedV1):
        return "ledger.entry_posted.v1"
    if isinstance(body, RefundEventV1):
        return f"refund.{body.status.value}.v1"
    others: dict[type[Contract], str] = {
        ApiCalledV1: "api.called.v1",
        SaleEventV1: "sale.recorded.v1",
        SecurityEventV1: "security.rate_limited.v1",
        ProviderHealthV1: "provider.health_changed.v1",
        WebhookEventV1: "webhook.delivered.v1",
    }
    return others[type(body)]


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
