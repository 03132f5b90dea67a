"""Invoice and customer events in: webhooks as for payments, to whom they concern."""

import datetime as dt
from typing import Any

import orjson
import pytest
from mospay_shared.contracts import CustomerEventV1, InvoiceEventV1, InvoiceStatus, outgoing
from mospay_shared.ids import new_id
from standardwebhooks import Webhook

from .conftest import Receiver, Stage, until

NOW = dt.datetime.now(dt.UTC)


def invoice(client_id: str | None, **changes: Any) -> InvoiceEventV1:
    """A paid test invoice of a client."""
    values: dict[str, Any] = {
        "invoice_id": new_id("inv"), "issuer_id": new_id("iss"), "client_id": client_id,
        "mode": "test", "customer_id": new_id("cus"), "number": "INV-2026-000001",
        "currency": "RWF", "status": InvoiceStatus.PAID, "total_minor": 1000, "tax_minor": 0,
        "discount_minor": 0, "paid_minor": 1000, "credited_minor": 0, "open_minor": 0,
        "due_on": NOW.date(), "issued_at": NOW, "payment_id": new_id("pay"), "amount_minor": 1000,
        "version": 3, "occurred_at": NOW,
    }  # fmt: skip
    return InvoiceEventV1(**(values | changes))


def customer(client_id: str) -> CustomerEventV1:
    """A new test customer of a client."""
    return CustomerEventV1(
        customer_id=new_id("cus"), issuer_id=new_id("iss"), client_id=client_id, mode="test",
        name="Amélie", locale="en", active=True, version=1, occurred_at=NOW,
    )  # fmt: skip


async def tell(stage: Stage, kind: str, body: InvoiceEventV1 | CustomerEventV1) -> str:
    subject = body.invoice_id if isinstance(body, InvoiceEventV1) else body.customer_id
    event = outgoing(kind, subject, body, source="ledger")
    await stage.publish(kind, event.body)
    return event.id


async def test_paid_invoice_is_told_signed_and_listed_with_its_payment(
    stage: Stage, receiver: Receiver
) -> None:
    _, secret = await stage.endpoint(receiver.url)
    body = invoice(stage.client_id)
    event_id = await tell(stage, "invoice.paid.v1", body)
    await receiver.wait(1)
    headers, raw = receiver.got[0]
    content = Webhook(secret).verify(raw, headers)
    assert (headers["webhook-id"], content["type"]) == (event_id, "invoice.paid")
    told = content["data"]
    assert (told["id"], told["version"], told["open_minor"]) == (body.invoice_id, 3, 0)
    assert body.payment_id is not None
    await stage.state(body.payment_id, "delivered")


async def test_client_is_told_of_what_the_operator_invoices_it(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    await tell(stage, "invoice.paid.v1", invoice(None, recipient_client_id=stage.client_id))
    nobody = await tell(stage, "invoice.paid.v1", invoice(None))  # the operator's own customer
    await receiver.wait(1)
    await stage.handled(nobody)
    assert len(receiver.got) == 1


async def test_customer_and_issue_are_told_to_whom_asked_for_them(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url, ["customer.created", "invoice.issued"])
    silent = await tell(stage, "invoice.paid.v1", invoice(stage.client_id))
    body = customer(stage.client_id)
    await tell(stage, "customer.created.v1", body)
    await receiver.wait(1)
    await stage.handled(silent)
    (told,) = [orjson.loads(raw) for _, raw in receiver.got]
    assert (told["type"], told["data"]["id"]) == ("customer.created", body.customer_id)


@pytest.mark.parametrize("kind", ["invoice.issued.v1", "customer.updated.v1"])
async def test_news_nobody_asked_for_make_no_webhook(
    stage: Stage, receiver: Receiver, kind: str
) -> None:
    await stage.endpoint(receiver.url)
    body = invoice(stage.client_id) if kind.startswith("invoice") else customer(stage.client_id)
    await stage.handled(await tell(stage, kind, body))
    assert await stage.fetch(
        "select 1 from deliveries where client_id = $1", stage.client_id) == []  # fmt: skip


async def test_malformed_invoice_is_dead_and_a_repeat_is_told_once(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    body = invoice(stage.client_id)
    good = outgoing("invoice.paid.v1", body.invoice_id, body, source="ledger")
    bad = orjson.loads(outgoing("invoice.paid.v1", body.invoice_id, body, source="ledger").body)
    del bad["data"]["number"]
    await stage.publish("invoice.paid.v1", good.body, good.body)
    await stage.publish("invoice.paid.v1", orjson.dumps(bad))
    await stage.handled(bad["id"], "dead")

    async def one() -> bool:
        return len(receiver.got) == 1

    await until(one, "one webhook")
