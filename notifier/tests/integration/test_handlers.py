"""Payment events in: a delivery for each endpoint that wants it, once, whatever comes."""

import orjson
from mospay_shared.contracts import PaymentStatus, outgoing
from standardwebhooks import Webhook

from ..samples import payment
from .conftest import Receiver, Stage


async def test_webhook_verifies_with_the_published_library(
    stage: Stage, receiver: Receiver
) -> None:
    _, secret = await stage.endpoint(receiver.url)
    body = payment(stage.client_id)
    [event_id] = await stage.tell(body)
    await receiver.wait(1)
    headers, raw = receiver.got[0]
    content = Webhook(secret).verify(raw, headers)
    assert headers["webhook-id"] == event_id
    assert set(content) == {"type", "timestamp", "data"}
    assert content["type"] == "payment.succeeded"
    assert content["data"]["id"] == body.payment_id
    assert content["data"]["amount_minor"] == 1500
    await stage.state(body.payment_id, "delivered")


async def test_repeated_event_is_delivered_once(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    first, last = payment(stage.client_id), payment(stage.client_id)
    event = outgoing("payment.succeeded.v1", first.payment_id, first, source="payment-router")
    for _ in range(3):
        await stage.publish(event.type, event.body, event.body)
    await stage.tell(last)
    for body in (first, last):
        await stage.state(body.payment_id, "delivered")
    assert len(receiver.got) == 2


async def test_event_past_the_inbox_still_makes_one_delivery(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    body = payment(stage.client_id)
    event = outgoing("payment.succeeded.v1", body.payment_id, body, source="payment-router")
    await stage.publish(event.type, event.body)
    await stage.state(body.payment_id, "delivered")
    await stage.run("delete from inbox where event_id = $1", event.id)  # as after its retention
    await stage.publish(event.type, event.body)
    await stage.handled(event.id)
    rows = await stage.fetch("select 1 from deliveries where payment_id = $1", body.payment_id)
    assert len(rows) == 1


async def test_news_out_of_order_all_arrive_with_their_version(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    newer = payment(stage.client_id, version=3, late=True)
    older = newer.model_copy(update={"status": PaymentStatus.EXPIRED, "version": 2, "late": False})
    await stage.tell(newer)
    await stage.state(newer.payment_id, "delivered")
    await stage.tell(older)
    await receiver.wait(2)
    told = [orjson.loads(raw) for _, raw in receiver.got]
    assert [(t["type"], t["data"]["version"], t["data"]["late"]) for t in told] == [
        ("payment.succeeded", 3, True),
        ("payment.expired", 2, False),
    ]


async def test_unknown_field_is_ignored_and_malformed_is_dead(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    good, bad = payment(stage.client_id), payment(stage.client_id)
    raws = [
        orjson.loads(outgoing("payment.succeeded.v1", b.payment_id, b, source="t").body)
        for b in (good, bad)
    ]
    raws[0]["data"]["colour"] = "red"
    del raws[1]["data"]["status"]
    await stage.publish("payment.succeeded.v1", *(orjson.dumps(raw) for raw in reversed(raws)))
    await stage.state(good.payment_id, "delivered")
    await stage.handled(raws[1]["id"], "dead")
    assert b"colour" not in receiver.got[0][1]


async def test_only_what_an_endpoint_wants_is_told(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url, ["payment.failed"])
    failed = payment(stage.client_id, status=PaymentStatus.FAILED, version=3)
    await stage.tell(payment(stage.client_id), failed)
    await stage.state(failed.payment_id, "delivered")
    assert [orjson.loads(raw)["type"] for _, raw in receiver.got] == ["payment.failed"]


async def test_processing_is_told_to_those_alone_who_ask(stage: Stage, receiver: Receiver) -> None:
    plain, _ = await stage.endpoint(receiver.url)
    asking, _ = await stage.endpoint(receiver.url, ["payment.processing"])
    body = payment(stage.client_id, status=PaymentStatus.PROCESSING, version=1)
    await stage.tell(body)
    await stage.state(body.payment_id, "delivered")
    rows = await stage.fetch(
        "select endpoint_id from deliveries where endpoint_id = any($1)", [plain, asking]
    )
    assert [row["endpoint_id"] for row in rows] == [asking]


async def test_live_news_never_reaches_a_test_endpoint(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    tested = payment(stage.client_id)
    await stage.tell(payment(stage.client_id, mode="live"), tested)
    await stage.state(tested.payment_id, "delivered")
    assert len(receiver.got) == 1
