"""Refund events in: webhooks as for payments, signed alike, listed with the payment."""

import orjson
import pytest
from mospay_shared.contracts import RefundStatus, outgoing
from standardwebhooks import Webhook

from ..samples import payment, refund
from .conftest import Receiver, Stage


async def test_refund_is_told_with_a_signature_the_published_library_verifies(
    stage: Stage, receiver: Receiver
) -> None:
    _, secret = await stage.endpoint(receiver.url)
    body = refund(stage.client_id, reason="broken")
    [event_id] = await stage.tell(body)
    await receiver.wait(1)
    headers, raw = receiver.got[0]
    content = Webhook(secret).verify(raw, headers)
    assert headers["webhook-id"] == event_id
    assert set(content) == {"type", "timestamp", "data"}
    assert content["type"] == "refund.succeeded"
    told = content["data"]
    assert (told["id"], told["refund_id"]) == (body.refund_id, body.refund_id)
    assert (told["payment_id"], told["version"]) == (body.payment_id, 2)
    assert (told["amount_minor"], told["refunded_minor"], told["currency"]) == (500, 500, "RWF")
    assert told["reason"] == "broken"
    assert not {"service_id", "app_id", "previous_status"} & set(told)
    await stage.state(body.payment_id, "delivered")  # listed with its payment


async def test_repeated_refund_event_is_delivered_once(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    first, last = refund(stage.client_id), refund(stage.client_id)
    event = outgoing("refund.succeeded.v1", first.payment_id, first, source="payment-router")
    for _ in range(3):
        await stage.publish(event.type, event.body, event.body)
    await stage.tell(last)
    for body in (first, last):
        await stage.state(body.payment_id, "delivered")
    assert len(receiver.got) == 2


async def test_refund_news_out_of_order_all_arrive_with_their_version(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    newer = refund(stage.client_id, version=3, late=True, over_refund=True)
    older = newer.model_copy(
        update={"status": RefundStatus.FAILED, "version": 2, "late": False, "over_refund": False}
    )
    await stage.tell(newer)
    await stage.state(newer.payment_id, "delivered")
    await stage.tell(older)
    await receiver.wait(2)
    told = [orjson.loads(raw) for _, raw in receiver.got]
    assert [(t["type"], t["data"]["version"], t["data"]["late"]) for t in told] == [
        ("refund.succeeded", 3, True),
        ("refund.failed", 2, False),
    ]


async def test_unknown_field_is_ignored_and_malformed_refund_is_dead(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    good, bad = refund(stage.client_id), refund(stage.client_id)
    raws = [
        orjson.loads(outgoing("refund.succeeded.v1", b.payment_id, b, source="t").body)
        for b in (good, bad)
    ]
    raws[0]["data"]["colour"] = "red"
    del raws[1]["data"]["refund_id"]
    await stage.publish("refund.succeeded.v1", *(orjson.dumps(raw) for raw in reversed(raws)))
    await stage.state(good.payment_id, "delivered")
    await stage.handled(raws[1]["id"], "dead")
    assert b"colour" not in receiver.got[0][1]


async def test_filter_chooses_between_payments_and_refunds(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url, ["refund.pending", "payment.succeeded"])
    paid = payment(stage.client_id)
    pending = refund(stage.client_id, status=RefundStatus.PENDING, version=1)
    unwanted = refund(stage.client_id)
    [unwanted_event] = await stage.tell(unwanted)
    await stage.handled(unwanted_event)
    await stage.tell(pending, paid)
    for body in (pending, paid):
        await stage.state(body.payment_id, "delivered")
    told = {orjson.loads(raw)["type"] for _, raw in receiver.got}
    assert told == {"refund.pending", "payment.succeeded"}
    rows = await stage.fetch("select 1 from deliveries where payment_id = $1", unwanted.payment_id)
    assert rows == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "unknown"])
async def test_endpoint_without_a_filter_is_told_what_a_merchant_acts_on(
    stage: Stage, receiver: Receiver, status: str
) -> None:
    await stage.endpoint(receiver.url)
    pending = refund(stage.client_id, status=RefundStatus.PENDING, version=1)
    [quiet] = await stage.tell(pending)
    await stage.handled(quiet)
    ended = refund(stage.client_id, status=RefundStatus(status))
    await stage.tell(ended)
    await stage.state(ended.payment_id, "delivered")
    assert [orjson.loads(raw)["type"] for _, raw in receiver.got] == [f"refund.{status}"]


async def test_live_refund_never_reaches_a_test_endpoint(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    tested = refund(stage.client_id)
    [live] = await stage.tell(refund(stage.client_id, mode="live"))
    await stage.handled(live)
    await stage.tell(tested)
    await stage.state(tested.payment_id, "delivered")
    assert len(receiver.got) == 1
