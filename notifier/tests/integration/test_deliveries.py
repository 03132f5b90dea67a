"""Outcomes reach endpoints: signed, once an event and endpoint, again until they arrive."""

import asyncio
import datetime as dt
from typing import Any

import aio_pika
import httpx
import orjson
import pytest
from aiohttp import web
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1, PaymentStatus, outgoing
from mospay_shared.ids import new_id
from standardwebhooks import Webhook

from .conftest import Receiver, Stage


def payment(stage: Stage, **changes: Any) -> PaymentEventV1:
    """A succeeded payment of the stage's client."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "payment_id": new_id("pay"),
        "client_id": stage.client_id,
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


async def send(stage: Stage, *bodies: PaymentEventV1 | bytes, times: int = 1) -> list[str]:
    """Publish events; return their ids."""
    connection = await aio_pika.connect(stage.service.broker.url)
    ids = []
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange("mospay.events")
        for body in bodies:
            raw, key = body, "payment.succeeded.v1"
            if isinstance(body, PaymentEventV1):
                key = f"payment.{body.status}.v1"
                event = outgoing(key, body.payment_id, body, source="t")
                ids.append(event.id)
                raw = event.body
            assert isinstance(raw, bytes)
            for _ in range(times):
                await exchange.publish(aio_pika.Message(b"[" + raw + b"]"), key)
    return ids


async def attempts(stage: Stage, payment_id: str) -> list[Any]:
    """The stored attempts of a payment's deliveries."""
    async with stage.service.database.transaction() as tx:
        return await tx.fetch(
            "select a.* from delivery_attempts a join deliveries d on d.id = a.delivery_id "
            "where d.payment_id = $1 order by a.number",
            payment_id,
        )


async def test_webhook_verifies_with_the_published_library(
    stage: Stage, receiver: Receiver
) -> None:
    _, secret = await stage.endpoint(receiver.url)
    body = payment(stage)
    [event_id] = await send(stage, body)
    await receiver.wait(1)
    headers, raw = receiver.got[0]
    content = Webhook(secret).verify(raw, {k.lower(): v for k, v in headers.items()})
    assert content["type"] == "payment.succeeded"
    assert content["data"]["id"] == body.payment_id
    assert {k.lower(): v for k, v in headers.items()}["webhook-id"] == event_id
    await stage.state(body.payment_id, "delivered")


async def test_repeated_event_is_delivered_once(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    first, last = payment(stage), payment(stage)
    await send(stage, first, times=4)
    await send(stage, last)
    await stage.state(last.payment_id, "delivered")
    await stage.state(first.payment_id, "delivered")
    assert len(receiver.got) == 2


async def test_failed_attempt_is_made_again_under_the_same_id(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [
        web.Response(status=500),
        web.Response(status=302, headers={"Location": "/x"}),
    ]
    body = payment(stage)
    await send(stage, body)
    await stage.state(body.payment_id, "delivered")
    ids = {dict(h)["webhook-id"] for h, _ in receiver.got}
    assert len(receiver.got) == 3 and len(ids) == 1
    assert [a["status_code"] for a in await attempts(stage, body.payment_id)] == [500, 302, 204]


async def test_delivery_fails_visibly_after_its_last_attempt_and_can_be_replayed(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=500) for _ in range(4)]
    body = payment(stage)
    await send(stage, body)
    await stage.state(body.payment_id, "failed")
    async with stage.service.database.transaction() as tx:
        delivery = await tx.value("select id from deliveries where payment_id=$1", body.payment_id)
    keys = stage.service.settings.trusted_keys
    assert keys
    answer = await call(stage, "POST", f"/internal/v1/deliveries/{delivery}/replay")
    assert answer.status_code == 202
    await stage.state(body.payment_id, "delivered")
    assert [a["number"] for a in await attempts(stage, body.payment_id)] == [1, 2, 3, 4, 5]


async def call(stage: Stage, method: str, path: str, **more: Any) -> httpx.Response:
    """Call the notifier as portal-api would."""
    import os

    from mospay_dev.infrastructure.keys import load_keys
    from mospay_dev.services import ROOT

    assert os.environ["NOTIFIER_TRUSTED_KEYS"]
    seed = load_keys(ROOT / ".mospay/test")["portal_signing"]
    scope = "endpoints:write endpoints:read deliveries:read"
    token = TokenSigner("portal-api", seed).token("notifier", scope)
    transport = httpx.ASGITransport(app=stage.service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://notifier") as client:
        return await client.request(
            method, path, headers={"Authorization": f"Bearer {token}"}, **more
        )


async def test_gone_disables_the_endpoint(stage: Stage, receiver: Receiver) -> None:
    endpoint, _ = await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=410)]
    body = payment(stage)
    await send(stage, body)
    await stage.state(body.payment_id, "failed")
    for _ in range(200):
        answer = await call(stage, "GET", f"/internal/v1/endpoints?client_id={stage.client_id}")
        if not answer.json()[0]["active"]:
            break
        await asyncio.sleep(0.02)
    assert answer.json()[0]["id"] == endpoint and not answer.json()[0]["active"]
    assert "secret" not in answer.text


async def test_dead_endpoint_does_not_delay_another(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    await stage.endpoint("http://127.0.0.1:9/nobody")
    bodies = [payment(stage) for _ in range(30)]
    await send(stage, *bodies)
    await receiver.wait(30)


async def test_crash_between_post_and_store_delivers_again_under_the_same_id(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    body = payment(stage)
    await send(stage, body)
    await stage.state(body.payment_id, "delivered")
    async with stage.service.database.transaction() as tx:  # as if the store had not happened
        await tx.run(
            "update deliveries set state='sending', next_at=now(), ended_at=null "
            "where payment_id=$1",
            body.payment_id,
        )
    await receiver.wait(2)
    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]


async def test_only_what_an_endpoint_wants_is_told(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url, ["payment.failed"])
    failed = payment(stage, status=PaymentStatus.FAILED, version=3)
    await send(stage, payment(stage), failed)
    await stage.state(failed.payment_id, "delivered")
    assert len(receiver.got) == 1


async def test_live_news_never_reaches_a_test_endpoint(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    tested = payment(stage)
    await send(stage, payment(stage, mode="live"), tested)
    await stage.state(tested.payment_id, "delivered")
    assert len(receiver.got) == 1


async def test_unknown_field_is_ignored_and_malformed_is_dead(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    good, bad = payment(stage), payment(stage)
    raws = [
        orjson.loads(outgoing("payment.succeeded.v1", b.payment_id, b, source="t").body)
        for b in (good, bad)
    ]
    raws[0]["data"]["colour"] = "red"
    del raws[1]["data"]["status"]
    await send(stage, orjson.dumps(raws[1]), orjson.dumps(raws[0]))
    await stage.state(good.payment_id, "delivered")
    async with stage.service.database.transaction() as tx:
        state = await tx.value("select state from inbox where subject=$1", bad.payment_id)
    assert state == "dead"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example",
        "https://u:p@x.example",
        "nonsense",
        "https://x.example/#f",
        "https://" + "a" * 3000,
    ],
)
async def test_bad_address_is_refused_by_name(stage: Stage, url: str) -> None:
    body = {"client_id": stage.client_id, "mode": "test", "url": url}
    answer = await call(stage, "POST", "/internal/v1/endpoints", json=body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == "url"


async def test_rotated_secret_signs_beside_the_old_one(stage: Stage, receiver: Receiver) -> None:
    endpoint, old = await stage.endpoint(receiver.url)
    answer = await call(stage, "POST", f"/internal/v1/endpoints/{endpoint}/rotate")
    new = answer.json()["secret"]
    body = payment(stage)
    await send(stage, body)
    await receiver.wait(1)
    headers = {k.lower(): v for k, v in receiver.got[0][0].items()}
    for secret in (old, new):
        Webhook(secret).verify(receiver.got[0][1], headers)


async def test_request_role_sees_its_tenant_alone_and_never_a_secret(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    async with stage.service.database.request(client_id=new_id("cli")) as tx:
        assert await tx.fetch("select id from endpoints") == []
    with pytest.raises(Exception, match="permission denied"):
        async with stage.service.database.request(client_id=stage.client_id) as tx:
            await tx.fetch("select secret from endpoints")
