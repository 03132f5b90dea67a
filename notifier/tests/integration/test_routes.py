"""HTTP in: endpoints, rotation, test events, deliveries, replay, the trace; each in its tenant."""

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web
from mospay_shared.ids import new_id
from standardwebhooks import Webhook

from ..samples import payment
from .conftest import Receiver, Stage

HOOK = "http://127.0.0.1:9/hook"


def new_body(stage: Stage, **changes: Any) -> dict[str, Any]:
    """A good request for an endpoint, unless `changes` say otherwise."""
    return {"client_id": stage.client_id, "mode": "test", "url": HOOK} | changes


async def only_delivery(stage: Stage, payment_id: str) -> dict[str, Any]:
    """The one delivery of a payment, as the API shows it."""
    answer = await stage.call("GET", f"/internal/v1/deliveries?payment_id={payment_id}")
    [delivery] = answer.json()["deliveries"]
    return dict(delivery)


async def test_endpoint_made_by_the_api_receives_and_its_secret_is_shown_once(
    stage: Stage, receiver: Receiver
) -> None:
    made = await stage.call(
        "POST", "/internal/v1/endpoints", json=new_body(stage, url=receiver.url)
    )
    assert made.status_code == 201
    secret = made.json()["secret"]
    await stage.tell(payment(stage.client_id))
    await receiver.wait(1)
    Webhook(secret).verify(receiver.got[0][1], receiver.got[0][0])
    listed = await stage.call("GET", f"/internal/v1/endpoints?client_id={stage.client_id}")
    assert [one["id"] for one in listed.json()] == [made.json()["endpoint_id"]]
    assert "secret" not in listed.text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "ftp://x.example"}, "url"),
        ({"url": "https://[::1"}, "url"),
        ({"url": "https://u:p@x.example"}, "url"),
        ({"url": "https://" + "a" * 2000}, "url"),
        ({"url": 7}, "url"),
        ({"mode": "prod"}, "mode"),
        ({"client_id": "cli_\x00"}, "client_id"),
        ({"event_types": ["payment.payed"]}, "event_types.0"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_endpoint_is_refused_by_field(
    quiet: Stage, changes: dict[str, Any], field: str
) -> None:
    answer = await quiet.call("POST", "/internal/v1/endpoints", json=new_body(quiet, **changes))
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_endpoints_of_a_client_and_mode_have_a_limit(quiet: Stage) -> None:
    calls = (
        quiet.call("POST", "/internal/v1/endpoints", json=new_body(quiet))
        for _ in range(quiet.settings.endpoints_limit + 2)
    )
    codes = [answer.status_code for answer in await asyncio.gather(*calls)]
    assert sorted(codes) == [201] * quiet.settings.endpoints_limit + [409, 409]


@pytest.mark.parametrize("path", ["/endpoints/%00/test", "/endpoints/%00/rotate"])
async def test_unreadable_id_is_refused(quiet: Stage, path: str) -> None:
    assert (await quiet.call("POST", f"/internal/v1{path}")).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/endpoints", "endpoints:read"),
        ("GET", "/endpoints?client_id=x", "endpoints:write"),
        ("POST", "/endpoints/ep_1/rotate", "endpoints:read"),
        ("POST", "/endpoints/ep_1/test", "endpoints:read"),
        ("DELETE", "/endpoints/ep_1", "endpoints:read"),
        ("GET", "/deliveries?payment_id=x", "endpoints:write"),
        ("GET", "/deliveries/dlv_1", "endpoints:write"),
        ("POST", "/deliveries/dlv_1/replay", "deliveries:read"),
    ],
)
async def test_each_route_needs_its_scope(quiet: Stage, method: str, path: str, scope: str) -> None:
    answer = await quiet.call(method, f"/internal/v1{path}", scope=scope)
    assert answer.status_code == 403 and answer.json()["code"] == "missing_scope"


@pytest.mark.parametrize("tenant", ["another client", "another mode"])
async def test_another_tenant_sees_and_changes_nothing(
    stage: Stage, receiver: Receiver, tenant: str
) -> None:
    endpoint, _ = await stage.endpoint(receiver.url)
    body = payment(stage.client_id)
    await stage.tell(body)
    await stage.state(body.payment_id, "delivered")
    delivery = (await only_delivery(stage, body.payment_id))["delivery_id"]
    client = new_id("cli") if tenant == "another client" else stage.client_id
    who = {"client_id": client, "mode": "test" if tenant == "another client" else "live"}
    for method, path in (
        ("POST", f"/endpoints/{endpoint}/rotate"),
        ("POST", f"/endpoints/{endpoint}/test"),
        ("DELETE", f"/endpoints/{endpoint}"),
        ("GET", f"/deliveries/{delivery}"),
        ("POST", f"/deliveries/{delivery}/replay"),
    ):
        assert (await stage.call(method, f"/internal/v1{path}", **who)).status_code == 404
    made = await stage.call("POST", "/internal/v1/endpoints", json=new_body(stage), **who)
    assert made.status_code == 404
    listed = await stage.call("GET", f"/internal/v1/endpoints?client_id={stage.client_id}", **who)
    assert listed.json() == []
    path = f"/internal/v1/deliveries?payment_id={body.payment_id}"
    assert (await stage.call("GET", path, **who)).json() == {"deliveries": []}
    [row] = await stage.fetch("select active, version from endpoints where id = $1", endpoint)
    assert row["active"] and row["version"] == 1


async def test_rotated_secret_signs_beside_the_old_one(stage: Stage, receiver: Receiver) -> None:
    endpoint, old = await stage.endpoint(receiver.url)
    answer = await stage.call("POST", f"/internal/v1/endpoints/{endpoint}/rotate")
    new = answer.json()["secret"]
    assert new != old
    await stage.tell(payment(stage.client_id))
    await receiver.wait(1)
    for secret in (old, new):
        Webhook(secret).verify(receiver.got[0][1], receiver.got[0][0])


async def test_old_secret_signs_no_more_once_its_overlap_is_over(
    stage: Stage, receiver: Receiver
) -> None:
    endpoint, _ = await stage.endpoint(receiver.url)
    await stage.call("POST", f"/internal/v1/endpoints/{endpoint}/rotate")
    await stage.run("update endpoints set previous_until = now() where id = $1", endpoint)
    await stage.tell(payment(stage.client_id))
    await receiver.wait(1)
    assert len(receiver.got[0][0]["webhook-signature"].split()) == 1


async def test_test_event_is_signed_and_logged_like_any_other(
    stage: Stage, receiver: Receiver
) -> None:
    endpoint, secret = await stage.endpoint(receiver.url, ["payment.failed"])
    answer = await stage.call("POST", f"/internal/v1/endpoints/{endpoint}/test")
    assert answer.status_code == 202
    await receiver.wait(1)
    headers, raw = receiver.got[0]
    assert Webhook(secret).verify(raw, headers)["type"] == "endpoint.test"
    assert orjson.loads(raw)["data"] == {"endpoint_id": endpoint, "mode": "test"}
    delivery = answer.json()["delivery_id"]
    rows = "select 1 from deliveries where id = $1 and state = 'delivered'"
    while not await stage.fetch(rows, delivery):
        await asyncio.sleep(0.02)
    shown = await stage.call("GET", f"/internal/v1/deliveries/{delivery}")
    assert [one["status_code"] for one in shown.json()["attempts"]] == [204]


async def test_removed_endpoint_is_told_no_more(stage: Stage, receiver: Receiver) -> None:
    endpoint, _ = await stage.endpoint(receiver.url)
    other, _ = await stage.endpoint(receiver.url)
    path = f"/internal/v1/endpoints/{endpoint}"
    for _ in range(2):
        assert (await stage.call("DELETE", path)).status_code == 204
    assert (await stage.call("POST", f"{path}/test")).status_code == 409
    body = payment(stage.client_id)
    await stage.tell(body)
    await stage.state(body.payment_id, "delivered")
    assert (await only_delivery(stage, body.payment_id))["endpoint_id"] == other
    assert len(receiver.got) == 1


async def test_failed_delivery_is_replayed_under_the_same_id(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=500) for _ in range(4)]
    body = payment(stage.client_id)
    [event_id] = await stage.tell(body)
    await stage.state(body.payment_id, "failed")
    delivery = await only_delivery(stage, body.payment_id)
    path = f"/internal/v1/deliveries/{delivery['delivery_id']}/replay"
    assert (await stage.call("POST", path)).status_code == 202
    await stage.state(body.payment_id, "delivered")
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {event_id}
    after = await only_delivery(stage, body.payment_id)
    assert [one["number"] for one in after["attempts"]] == [1, 2, 3, 4, 5]


async def test_delivery_under_way_is_not_replayed(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    receiver.hold = asyncio.Event()
    body = payment(stage.client_id)
    await stage.tell(body)
    await receiver.wait(1)
    delivery = await only_delivery(stage, body.payment_id)
    assert delivery["state"] == "sending" and delivery["next_at"] is None
    path = f"/internal/v1/deliveries/{delivery['delivery_id']}/replay"
    answer = await stage.call("POST", path)
    assert answer.status_code == 409 and answer.json()["code"] == "not_replayable"


async def test_trace_shows_each_attempt_and_when_the_next_one_starts(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [
        web.Response(status=500),
        web.Response(status=503, headers={"Retry-After": "600"}),
    ]
    body = payment(stage.client_id)
    await stage.tell(body)
    await receiver.wait(2)
    await stage.state(body.payment_id, "pending")
    trace = await stage.call("GET", f"/internal/v1/traces/{body.payment_id}")
    first, second = (hop for hop in trace.json()["hops"] if hop["kind"] == "delivery")
    assert (first["attempt"], first["max_attempts"], first["outcome"]) == (1, 4, "retry")
    assert first["next_at"] is None and first["detail"] == "HTTP 500"
    assert (second["attempt"], second["outcome"], second["detail"]) == (2, "retry", "HTTP 503")
    assert second["next_at"] is not None
    assert second["name"] == "webhook payment.succeeded"
