"""Verbs of the notifier: one transaction over a sequence."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import orjson
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.contracts import (
    CustomerEventV1,
    Event,
    InvoiceEventV1,
    InvoiceReminderV1,
    MailPayerV1,
    Outgoing,
    PaymentEventV1,
    PayoutV1,
    RefundEventV1,
    SettlementV1,
    WebhookEventV1,
    outgoing,
)
from mospay_shared.ids import new_id

from mospay_notifier import storage
from mospay_notifier.domain import TEST_EVENT, TooManyEndpoints, event_name, new_secret, wants

_HIDDEN = {"service_id", "app_id", "previous_status"}

Told = PaymentEventV1 | RefundEventV1 | SettlementV1 | PayoutV1 | InvoiceEventV1 | CustomerEventV1
News = (
    Event[PaymentEventV1]
    | Event[RefundEventV1]
    | Event[SettlementV1]
    | Event[PayoutV1]
    | Event[InvoiceEventV1 | CustomerEventV1]
)
# Which member of a body names what it is about.
_SUBJECTS: dict[type, str] = {
    PaymentEventV1: "payment_id",
    RefundEventV1: "refund_id",
    SettlementV1: "settlement_id",
    PayoutV1: "payout_id",
    InvoiceEventV1: "invoice_id",
    CustomerEventV1: "customer_id",
}


def webhook_body(event: News) -> bytes:
    """Return what the merchant gets: `{type, timestamp, data}` (Standard Webhooks 1.0).

    `data.id` is that of the payment, refund, settlement, payout, invoice or customer, and
    `data.version` says which news of it is newer.
    """
    data = event.data.model_dump(mode="json", exclude=_HIDDEN)
    subject = data[_SUBJECTS[type(event.data)]]
    return orjson.dumps(
        {
            "type": event_name(event.envelope.type),
            "timestamp": event.envelope.time,
            "data": {"id": subject, **data},
        },
        option=orjson.OPT_UTC_Z,
    )


def owner_of(told: Told) -> str | None:
    """Return the client that is told; of what the operator invoices, the client it invoices."""
    if isinstance(told, InvoiceEventV1 | CustomerEventV1):
        return told.client_id or told.recipient_client_id
    return told.client_id


async def make_deliveries(tx: Tx, events: Sequence[News]) -> int:
    """Write a delivery for each event and endpoint that wants it; return how many.

    A refund's deliveries, and those of an invoice it paid, are listed with the payment.
    """
    owners = sorted({(owner, e.data.mode) for e in events if (owner := owner_of(e.data))})
    endpoints: dict[tuple[str, str], list[Any]] = {}
    for row in await storage.endpoints_of(tx, owners):
        endpoints.setdefault((row["client_id"], row["mode"]), []).append(row)
    new = []
    for event in events:
        told, name = event.data, event_name(event.envelope.type)
        owner = owner_of(told) or ""
        wanted = [
            row for row in endpoints.get((owner, told.mode), []) if wants(row["event_types"], name)
        ]
        body = webhook_body(event) if wanted else b""
        new += [
            storage.NewDelivery(
                id=new_id("dlv"),
                endpoint_id=row["id"],
                client_id=owner,
                mode=told.mode,
                event_id=event.id,
                event_type=name,
                payment_id=getattr(told, "payment_id", None),
                body=body,
                correlation_id=event.envelope.correlation_id,
                traceparent=event.envelope.traceparent,
            )
            for row in wanted
        ]
    if new:
        await storage.insert_deliveries(tx, new)
    return len(new)


def attempt_event(
    delivery: Any, state: str, answer: Any, next_at: dt.datetime | None, at: dt.datetime
) -> Outgoing:
    """Return the event that tells of one attempt."""
    delivered = state == "delivered"
    body = WebhookEventV1(
        delivery_id=delivery["id"],
        endpoint_id=delivery["endpoint_id"],
        client_id=delivery["client_id"],
        mode=delivery["mode"],
        event_id=delivery["event_id"],
        event_type=delivery["event_type"],
        payment_id=delivery["payment_id"],
        attempt=delivery["attempts"],
        status_code=answer.status_code,
        error=answer.error,
        duration_ms=answer.duration_ms,
        final=state in ("delivered", "failed"),
        next_at=next_at,
        attempted_at=at,
    )
    return outgoing(
        "webhook.delivered.v1" if delivered else "webhook.failed.v1",
        delivery["payment_id"] or delivery["id"],
        body,
        source="notifier",
        causation_id=delivery["event_id"],
        correlation_id=delivery["correlation_id"],
        traceparent=delivery["traceparent"],
    )


async def store_attempts(tx: Tx, attempts: Sequence[storage.Attempt]) -> None:
    """Store what became of attempts; endpoints that are gone are told no more."""
    await storage.store_attempts(tx, attempts)
    gone = {a.endpoint_id for a in attempts if a.disable}
    if gone:
        await storage.disable_endpoints(tx, sorted(gone), "it answered 410 Gone")


async def send_test(tx: Tx, endpoint: Any) -> str:
    """Write a delivery of a test event to one endpoint, made like any other; return its id."""
    now = dt.datetime.now(dt.UTC)
    body = {
        "type": TEST_EVENT,
        "timestamp": now,
        "data": {"endpoint_id": endpoint["id"], "mode": endpoint["mode"]},
    }
    delivery = storage.NewDelivery(
        id=new_id("dlv"),
        endpoint_id=endpoint["id"],
        client_id=endpoint["client_id"],
        mode=endpoint["mode"],
        event_id=new_id("evt"),
        event_type=TEST_EVENT,
        payment_id=None,
        body=orjson.dumps(body, option=orjson.OPT_UTC_Z),
        correlation_id=None,
        traceparent=None,
    )
    await storage.insert_deliveries(tx, [delivery])
    return delivery.id


async def create_endpoint(
    tx: Tx,
    sealer: Sealer,
    *,
    client_id: str,
    mode: str,
    url: str,
    event_types: list[str],
    limit: int,
) -> tuple[str, str]:
    """Write an endpoint and return its id and secret; the secret is never shown again."""
    if await storage.count_endpoints(tx, client_id, mode) >= limit:
        raise TooManyEndpoints(f"a client has at most {limit} endpoints in each mode")
    endpoint_id, secret = new_id("ep"), new_secret()
    sealed = sealer.seal({"secret": secret}, endpoint_id).model_dump()
    await storage.insert_endpoint(tx, endpoint_id, client_id, mode, url, event_types, sealed)
    return endpoint_id, secret


async def rotate(tx: Tx, sealer: Sealer, endpoint_id: str, overlap_seconds: int) -> str:
    """Replace an endpoint's secret and return the new one; it is never shown again."""
    secret = new_secret()
    sealed = sealer.seal({"secret": secret}, endpoint_id).model_dump()
    await storage.rotate_secret(tx, endpoint_id, sealed, overlap_seconds)
    return secret


async def keep_mails(tx: Tx, events: Sequence[Event[InvoiceReminderV1]]) -> None:
    """Keep a mail for each reminder; one of an invoice and kind is never made twice."""
    for event in events:
        await storage.insert_mail(tx, new_id("mail"), event.data)


async def keep_payer_mails(tx: Tx, events: Sequence[Event[MailPayerV1]]) -> None:
    """Keep a mail for each payer's link; one is never made twice."""
    for event in events:
        await storage.insert_payer_mail(tx, event.data)
