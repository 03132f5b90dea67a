"""Refunds: asked for in one transaction, never more than was paid, moved by version."""

import asyncio
import datetime as dt
import json
import secrets
from typing import Any

import asyncpg
import httpx
import pytest
from mospay_shared.contracts import RefundEventV1, RefundStatus, outgoing
from mospay_shared.ids import new_id

from .conftest import Gateway, Merchant, Tap, eventually, running
from .test_operations import ended


async def refund(
    gateway: Gateway, merchant: Merchant, payment: dict[str, Any], key: str | None = None,
    **body: Any,
) -> httpx.Response:  # fmt: skip
    """POST /v1/payments/{id}/refunds."""
    headers = {**merchant.headers, "Idempotency-Key": key or secrets.token_hex(8)}
    path = f"/v1/payments/{payment['id']}/refunds"
    return await gateway.http.post(path, json=body, headers=headers)


async def paid(gateway: Gateway, merchant: Merchant) -> dict[str, Any]:
    """Make a payment of 1000 that succeeded."""
    return await ended(gateway, merchant, "succeeded")


def refund_news(refund: dict[str, Any], merchant: Merchant, **changes: Any) -> RefundEventV1:
    """Return what the router would say of a refund."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "refund_id": refund["id"], "payment_id": refund["payment_id"],
        "client_id": merchant.client.client_id, "mode": "test", "app_id": merchant.app_id,
        "service_id": merchant.service.service_id, "microservice": merchant.service.microservice,
        "service": merchant.service.name, "amount_minor": refund["amount_minor"],
        "currency": "RWF", "payment_amount_minor": 1000, "refunded_minor": 0,
        "status": RefundStatus.SUCCEEDED, "version": 2, "payment_accepted_at": now,
        "requested_at": now, "occurred_at": now, "provider_reference": "sim_r1",
    }  # fmt: skip
    return RefundEventV1(**(values | changes))


def refund_wire(body: RefundEventV1) -> tuple[str, bytes]:
    """Return a refund event's type and envelope."""
    name = f"refund.{body.status}.v1"
    return name, outgoing(name, body.payment_id, body, source="payment-router").body


async def row_of(gateway: Gateway, refund_id: str) -> Any:
    """Return a refund's row."""
    return await gateway.sql.fetchrow("select * from refunds where id = $1", refund_id)


async def version_is(gateway: Gateway, refund_id: str, version: int) -> Any:
    """Wait until a refund has a version; return its row."""
    await eventually(
        lambda: gateway.count("refunds", "id = $1 and version = $2", refund_id, version)
    )
    return await row_of(gateway, refund_id)


async def handled(gateway: Gateway, body: bytes) -> Any:
    """Wait until an event has been handled; return its inbox row."""
    asked = "select * from inbox where event_id = $1 and queue = 'gateway.refunds'"
    return await eventually(lambda: gateway.sql.fetchrow(asked, json.loads(body)["id"]))


async def money_of(gateway: Gateway, merchant: Merchant, payment_id: str) -> tuple[int, int]:
    """Return what of a payment is refunded, and what is asked for."""
    shown = await gateway.http.get(f"/v1/payments/{payment_id}", headers=merchant.headers)
    return shown.json()["refunded_minor"], shown.json()["refunds_open_minor"]


async def test_refund_is_on_record_with_its_command(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    answer = await refund(gateway, merchant, payment, amount_minor=300, reason="broken cup")
    made = answer.json()
    assert answer.status_code == 202 and answer.headers["location"] == f"/v1/refunds/{made['id']}"
    assert made["id"].startswith("ref_") and made["status"] == "pending"
    assert (made["amount_minor"], made["currency"], made["reason"]) == (300, "RWF", "broken cup")
    command = await tap.about(payment["id"], "payments.refund.v1")
    assert command["data"] == {
        "refund_id": made["id"], "payment_id": payment["id"], "mode": "test",
        "client_id": merchant.client.client_id, "amount_minor": 300, "currency": "RWF",
        "reason": "broken cup", "requested_at": made["requested_at"],
    }  # fmt: skip
    assert await money_of(gateway, merchant, payment["id"]) == (0, 300)
    rest = (await refund(gateway, merchant, payment)).json()
    assert rest["amount_minor"] == 700, "nothing given means everything left"
    over = await refund(gateway, merchant, payment)
    assert over.status_code == 422 and over.json()["code"] == "refund_too_large"
    shown = await gateway.http.get(f"/v1/refunds/{made['id']}", headers=merchant.headers)
    assert shown.json() == made


async def test_more_than_is_left_is_refused_with_what_is(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    await refund(gateway, merchant, payment, amount_minor=600)
    over = await refund(gateway, merchant, payment, amount_minor=401)
    fault = over.json()["errors"][0]
    assert over.status_code == 422
    assert (fault["field"], fault["code"]) == ("amount_minor", "refund_too_large")
    assert "400 RWF" in fault["message"]


async def test_refunds_at_once_never_exceed_what_was_paid(
    gateway: Gateway, gateway_env: dict[str, str]
) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    path = f"/v1/payments/{payment['id']}/refunds"
    async with running(gateway_env) as (_, second):
        answers = await asyncio.gather(
            *(
                http.post(
                    path,
                    json={"amount_minor": 150},
                    headers={**merchant.headers, "Idempotency-Key": secrets.token_hex(8)},
                )
                for _ in range(8)
                for http in (gateway.http, second)
            )
        )
    assert sorted(a.status_code for a in answers) == [202] * 6 + [422] * 10
    assert await money_of(gateway, merchant, payment["id"]) == (0, 900)


@pytest.mark.parametrize("status", ["failed", "processing", "unknown", "conflicted", "held"])
async def test_only_a_payment_that_succeeded_is_refunded(gateway: Gateway, status: str) -> None:
    merchant = await gateway.merchant()
    payment = await ended(gateway, merchant, status)
    answer = await refund(gateway, merchant, payment)
    assert answer.status_code == 422 and answer.json()["code"] == "not_refundable"


async def test_refund_without_a_key_is_400(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    path = f"/v1/payments/{payment['id']}/refunds"
    answer = await gateway.http.post(path, json={}, headers=merchant.headers)
    assert answer.status_code == 400 and answer.json()["code"] == "idempotency_key_missing"


async def test_refund_under_a_key_is_made_once(
    gateway: Gateway, gateway_env: dict[str, str]
) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    payment = await paid(gateway, merchant)
    first = await refund(gateway, merchant, payment, key, amount_minor=10)
    again = await refund(gateway, merchant, payment, f'"{key}"', amount_minor=10, reason=None)
    assert again.status_code == 202 and again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await refund(gateway, merchant, payment, key, amount_minor=11)
    assert other.status_code == 422 and other.json()["code"] == "idempotency_key_reused"
    async with running(gateway_env) as (_, second):
        headers = {**merchant.headers, "Idempotency-Key": "race"}
        path = f"/v1/payments/{payment['id']}/refunds"
        answers = await asyncio.gather(
            *(
                http.post(path, json={"amount_minor": 5}, headers=headers)
                for http in (gateway.http, second) * 4
            )
        )
    assert {a.status_code for a in answers} <= {202, 409}
    assert len({a.json()["id"] for a in answers if a.status_code == 202}) == 1
    assert await gateway.count("refunds", "payment_id = $1", payment["id"]) == 2


async def test_refund_whose_first_request_is_open_is_409(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    payment = await paid(gateway, merchant)
    async with gateway.sql.transaction():
        await gateway.sql.execute("select 1 from payments where id = $1 for update", payment["id"])
        first = asyncio.create_task(refund(gateway, merchant, payment, key))
        waits = "select count(*) from pg_locks where not granted"
        await eventually(lambda: gateway.sql.fetchval(waits))
        second = await refund(gateway, merchant, payment, key)
        assert second.status_code == 409
        assert second.json()["code"] == "first_request_still_open"
        assert second.headers["retry-after"] == "1"
    assert (await first).status_code == 202


async def test_refund_that_could_not_be_announced_is_not_made(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    payment = await paid(gateway, merchant)
    owner = await asyncpg.connect(gateway.env["GATEWAY_MIGRATION_DATABASE_URL"])
    try:
        await owner.execute(
            "alter table outbox add constraint no_refund"
            " check (type <> 'payments.refund.v1') not valid"
        )
        assert (await refund(gateway, merchant, payment, key)).status_code == 500
    finally:
        await owner.execute("alter table outbox drop constraint if exists no_refund")
        await owner.close()
    assert await gateway.count("refunds", "payment_id = $1", payment["id"]) == 0
    assert await money_of(gateway, merchant, payment["id"]) == (0, 0)
    made = await refund(gateway, merchant, payment, key)
    assert made.status_code == 202 and "idempotent-replayed" not in made.headers


async def test_refunds_are_listed_by_key_and_of_one_tenant(gateway: Gateway) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()
    payment, second = await paid(gateway, merchant), await paid(gateway, merchant)
    made = [(await refund(gateway, merchant, payment, amount_minor=1)).json() for _ in range(3)]
    await refund(gateway, merchant, second)

    async def page(**query: Any) -> httpx.Response:
        return await gateway.http.get("/v1/refunds", params=query, headers=merchant.headers)

    answer = await page(payment_id=payment["id"], limit=2)
    assert answer.status_code == 200, answer.text
    first = answer.json()
    assert [r["id"] for r in first["items"]] == [made[2]["id"], made[1]["id"]]
    rest = (await page(payment_id=payment["id"], limit=2, cursor=first["next_cursor"])).json()
    assert [r["id"] for r in rest["items"]] == [made[0]["id"]] and rest["next_cursor"] is None
    assert len((await page()).json()["items"]) == 4
    assert (await page(cursor="x")).status_code == 422
    for path in (f"/v1/refunds/{made[0]['id']}", f"/v1/refunds?payment_id={payment['id']}",
                 "/v1/refunds/ref_x"):  # fmt: skip
        assert (await gateway.http.get(path, headers=other.headers)).status_code == 404
    assert (await gateway.http.get("/v1/refunds", headers=other.headers)).json()["items"] == []


# -- the handler: valid, repeated, out of order, unknown field, malformed


async def test_refund_news_apply_and_move_the_payments_sums(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    made = (await refund(gateway, merchant, payment, amount_minor=400)).json()
    await gateway.publish(
        *refund_wire(refund_news(made, merchant, status=RefundStatus.UNKNOWN, version=1))
    )
    await version_is(gateway, made["id"], 1)
    assert await money_of(gateway, merchant, payment["id"]) == (0, 400), "unknown keeps it"
    await gateway.publish(*refund_wire(refund_news(made, merchant)))
    row = await version_is(gateway, made["id"], 2)
    assert (row["status"], row["provider_reference"]) == ("succeeded", "sim_r1")
    assert await money_of(gateway, merchant, payment["id"]) == (400, 0)
    again = await gateway.http.get(f"/v1/refunds/{made['id']}", headers=merchant.headers)
    assert again.json()["status"] == "succeeded"


async def test_repeated_and_late_refund_news_change_nothing(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    made = (await refund(gateway, merchant, payment, amount_minor=400)).json()
    newest = refund_wire(refund_news(made, merchant, version=5))
    older = refund_wire(refund_news(made, merchant, status=RefundStatus.FAILED, version=4))
    for name, body in (newest, newest, older):
        await gateway.publish(name, body)
        assert (await handled(gateway, body))["state"] == "done"
    row = await version_is(gateway, made["id"], 5)
    assert row["status"] == "succeeded"
    assert await money_of(gateway, merchant, payment["id"]) == (400, 0)


async def test_late_and_over_refund_are_shown(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    made = (await refund(gateway, merchant, payment)).json()
    failed = refund_news(made, merchant, status=RefundStatus.FAILED, reason_code="declined")
    await gateway.publish(*refund_wire(failed))
    await version_is(gateway, made["id"], 2)
    assert await money_of(gateway, merchant, payment["id"]) == (0, 0)
    second = (await refund(gateway, merchant, payment)).json()
    await gateway.publish(*refund_wire(refund_news(second, merchant)))
    await gateway.publish(
        *refund_wire(refund_news(made, merchant, version=3, late=True, over_refund=True))
    )
    row = await version_is(gateway, made["id"], 3)
    await version_is(gateway, second["id"], 2)
    assert row["late"] and row["over_refund"]
    shown = await gateway.http.get(f"/v1/refunds/{made['id']}", headers=merchant.headers)
    assert shown.json()["late"] and shown.json()["over_refund"]
    assert await money_of(gateway, merchant, payment["id"]) == (2000, 0)


async def test_refund_a_person_asked_for_is_known_too(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    elsewhere = {"id": new_id("ref"), "payment_id": payment["id"], "amount_minor": 250}
    name, body = refund_wire(refund_news(elsewhere, merchant, version=1))
    event = json.loads(body)
    event["data"]["colour"] = "unknown members are ignored"
    await gateway.publish(name, json.dumps(event).encode())
    await version_is(gateway, elsewhere["id"], 1)
    assert await money_of(gateway, merchant, payment["id"]) == (250, 0)


async def test_refund_news_of_another_tenant_mode_or_payment_touch_nothing(
    gateway: Gateway,
) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()
    payment = await paid(gateway, merchant)
    made = (await refund(gateway, merchant, payment, amount_minor=400)).json()
    nowhere = {**made, "id": new_id("ref"), "payment_id": new_id("pay")}
    for foreign in (
        refund_news(made, other),
        refund_news(made, merchant, mode="live"),
        refund_news(nowhere, merchant),
    ):
        name, body = refund_wire(foreign)
        await gateway.publish(name, body)
        assert (await handled(gateway, body))["state"] == "done"
    assert (await row_of(gateway, made["id"]))["version"] == 0
    assert await row_of(gateway, nowhere["id"]) is None
    assert await money_of(gateway, merchant, payment["id"]) == (0, 400)


async def test_malformed_refund_news_are_dead_and_block_nothing(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = await paid(gateway, merchant)
    made = (await refund(gateway, merchant, payment)).json()
    name, body = refund_wire(refund_news(made, merchant))
    event = json.loads(body)
    event["data"]["amount_minor"] = "much"
    broken = json.dumps(event).encode()
    await gateway.publish(name, broken)
    dead = await handled(gateway, broken)
    assert dead["state"] == "dead" and "amount_minor" in dead["reason"]
    await gateway.publish(*refund_wire(refund_news(made, merchant, version=3)))
    await version_is(gateway, made["id"], 3)
