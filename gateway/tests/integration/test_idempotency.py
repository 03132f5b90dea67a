"""Each rule of idempotency by name: keys, references, races, crashes."""

import asyncio
import hashlib
import secrets
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest
from mospay_shared.contracts import AppV1
from mospay_shared.ids import new_id

from .conftest import Gateway, Merchant, Tap, eventually, newer, news, running, wire


async def payments_of(gateway: Gateway, merchant: Merchant) -> int:
    """Count the client's payments."""
    return await gateway.count("payments", "client_id = $1", merchant.client.client_id)


async def test_missing_key_is_400(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.http.post("/v1/payments", json=merchant.body(), headers=merchant.headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == "idempotency_key_missing"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("key", ['""', "x" * 256, "tab\tin it"])
async def test_malformed_key_is_400(gateway: Gateway, key: str) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.pay(merchant, key)
    assert answer.status_code == 400 and answer.json()["code"] == "idempotency_key_invalid"


async def test_same_key_and_body_answer_with_the_same_payment(gateway: Gateway, tap: Tap) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    first = await gateway.pay(merchant, key, reference="once")
    again = await gateway.pay(merchant, f'"{key}"', reference="once")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert await payments_of(gateway, merchant) == 1
    payment = first.json()["id"]
    await tap.about(payment, "payment.accepted.v1")
    await tap.about(payment, "payments.process.v1")
    assert len(tap.of(payment)) == 2


async def test_same_key_other_payload_is_422(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    await gateway.pay(merchant, key, reference="a")
    for changes in ({"reference": "b"}, {"reference": "a", "amount_minor": 2000}):
        answer = await gateway.pay(merchant, key, **changes)
        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency_key_reused"
    assert await payments_of(gateway, merchant) == 1
    claimed = "client_id = $1"
    assert await gateway.count("payment_references", claimed, merchant.client.client_id) == 1


async def test_members_in_another_order_and_nulls_are_the_same_payload(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    body = merchant.body()
    headers = {**merchant.headers, "Idempotency-Key": key}
    first = await gateway.http.post("/v1/payments", json=body, headers=headers)
    turned = {**dict(reversed(body.items())), "customer_id": None}
    again = await gateway.http.post("/v1/payments", json=turned, headers=headers)
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]


async def test_first_still_open_is_409(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    async with gateway.sql.transaction():
        await gateway.sql.execute("lock table payment_references in access exclusive mode")
        first = asyncio.create_task(gateway.pay(merchant, key, reference="r"))
        blocked = "select count(*) from pg_locks where not granted and relation = $1::regclass"
        await eventually(lambda: gateway.sql.fetchval(blocked, "payment_references"))
        second = await gateway.pay(merchant, key, reference="r")
        assert second.status_code == 409
        assert second.json()["code"] == "first_request_still_open"
        assert second.headers["retry-after"] == "1"
    accepted = await first
    third = await gateway.pay(merchant, key, reference="r")
    assert accepted.status_code == third.status_code == 202
    assert accepted.json()["id"] == third.json()["id"]


async def test_replay_after_the_end_answers_with_the_outcome(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    first = (await gateway.pay(merchant, key, reference="r")).json()
    await gateway.publish(*wire(news(first, merchant)))
    again = await gateway.pay(merchant, key, wait=10, reference="r")
    assert again.status_code == 200 and again.json()["status"] == "succeeded"
    assert again.headers["idempotent-replayed"] == "true"


async def test_keys_are_scoped_to_client(gateway: Gateway) -> None:
    one, other, key = await gateway.merchant(), await gateway.merchant(), secrets.token_hex(8)
    first, second = await gateway.pay(one, key), await gateway.pay(other, key)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] != second.json()["id"]


async def test_same_reference_and_body_under_a_new_key_is_the_same_payment(
    gateway: Gateway,
) -> None:
    merchant, later = await gateway.merchant(), secrets.token_hex(8)
    first = await gateway.pay(merchant, reference="order-1")
    again = await gateway.pay(merchant, later, reference="order-1")
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
    reused = await gateway.pay(merchant, later, reference="order-2")
    assert reused.status_code == 422, "the later key is on record as well"
    assert reused.json()["code"] == "idempotency_key_reused"


async def test_same_reference_other_body_is_422_for_ever(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    first = await gateway.pay(merchant, reference="order-1")
    await gateway.sql.execute(
        "delete from idempotency_keys where client_id = $1", merchant.client.client_id
    )
    answer = await gateway.pay(merchant, reference="order-1", amount_minor=2000)
    assert answer.status_code == 422 and answer.json()["code"] == "reference_reused"
    again = await gateway.pay(merchant, reference="order-1")
    assert again.json()["id"] == first.json()["id"]
    assert await payments_of(gateway, merchant) == 1


async def test_field_api_dedupes_by_f010_whatever_the_password(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    headers = {**merchant.headers, "Prefer": "wait=0"}

    async def process(**changes: Any) -> httpx.Response:
        body = merchant.fields(f010="txn_1", **changes)
        return await gateway.http.post("/api/v1/payment/process", json=body, headers=headers)

    first, again = await process(f008="one"), await process(f008="two")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["payment_id"] == again.json()["payment_id"]
    other = await process(f004="2000")
    assert other.status_code == 422 and other.json()["code"] == "reference_reused"
    assert other.json()["type"] == "error" and other.json()["status"] == "422"


async def test_one_key_at_two_gateways_at_once_makes_one_payment(
    gateway: Gateway, gateway_env: dict[str, str]
) -> None:
    merchant = await gateway.merchant()
    async with running(gateway_env) as (_, second):
        for _ in range(10):
            body = merchant.body()
            headers = {**merchant.headers, "Idempotency-Key": secrets.token_hex(8)}
            answers = await asyncio.gather(
                *(
                    http.post("/v1/payments", json=body, headers=headers)
                    for http in (gateway.http, second)
                )
            )
            made = {a.json()["id"] for a in answers if a.status_code == 202}
            assert len(made) == 1 and {a.status_code for a in answers} <= {202, 409}
    assert await payments_of(gateway, merchant) == 10


async def test_what_was_accepted_is_replayed_when_the_service_is_gone(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    first = await gateway.pay(merchant, key, reference="r")
    await gateway.tell(newer(merchant.service, active=False))
    again = await gateway.pay(merchant, key, reference="r")
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
    fresh = await gateway.pay(merchant)
    assert fresh.status_code == 422
    assert fresh.json()["errors"][0]["code"] == "service_inactive"


async def test_accepts_without_broker_and_the_next_start_publishes_once(
    gateway: Gateway, gateway_env: dict[str, str], tap: Tap
) -> None:
    """Crash rows 2 and 3: committed, never published, the process gone; replayed and sent."""
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    body = merchant.body()
    headers = {**merchant.headers, "Idempotency-Key": key}
    # without a relay the commit is all that happens: what a kill right after it leaves behind
    async with running(
        gateway_env, GATEWAY_BROKER_URL="amqp://127.0.0.1:1/", GATEWAY_ROLES="http"
    ) as (_, lonely):
        first = await lonely.post("/v1/payments", json=body, headers=headers)
        assert first.status_code == 202, first.text
    again = await gateway.http.post("/v1/payments", json=body, headers=headers)
    payment = first.json()["id"]
    assert again.json()["id"] == payment and again.headers["idempotent-replayed"] == "true"
    await tap.about(payment, "payments.process.v1")
    await tap.about(payment, "payment.accepted.v1")
    assert len(tap.of(payment)) == 2
    assert await gateway.count("outbox", "subject = $1", payment) == 0


async def test_a_failed_batch_leaves_no_half_of_a_payment(gateway: Gateway) -> None:
    """Crash row 1: nothing of a transaction that did not commit is left; the same key works."""
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    broken = "alter table outbox add constraint no_news check (type <> 'payment.accepted.v1')"
    owner = gateway.env["GATEWAY_MIGRATION_DATABASE_URL"]
    connection = await asyncpg.connect(owner)
    try:
        await connection.execute(broken + " not valid")
        refused = await gateway.pay(merchant, key, reference="r")
        assert refused.status_code == 500
    finally:
        await connection.execute("alter table outbox drop constraint if exists no_news")
        await connection.close()
    for table in ("payments", "payment_references", "idempotency_keys"):
        assert await gateway.count(table, "client_id = $1", merchant.client.client_id) == 0
    accepted = await gateway.pay(merchant, key, reference="r")
    assert accepted.status_code == 202 and "idempotent-replayed" not in accepted.headers


async def test_one_bad_payment_of_a_batch_does_not_take_the_others_along(
    gateway: Gateway,
) -> None:
    merchant = await gateway.merchant()
    owner = gateway.env["GATEWAY_MIGRATION_DATABASE_URL"]
    connection = await asyncpg.connect(owner)
    try:
        await connection.execute(
            "alter table payments add constraint unlucky check (reference <> 'unlucky') not valid"
        )
        references = ["unlucky", *(f"r{n}" for n in range(20))]
        answers = await asyncio.gather(
            *(gateway.pay(merchant, reference=reference) for reference in references)
        )
    finally:
        await connection.execute("alter table payments drop constraint if exists unlucky")
        await connection.close()
    assert [a.status_code for a in answers] == [500] + [202] * 20


async def test_key_of_255_characters_is_good_quoted_or_bare(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), "k" * 255
    first = await gateway.pay(merchant, key, reference="r")
    again = await gateway.pay(merchant, f'"{key}"', reference="r")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]


async def test_same_key_on_another_path_is_free(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    made = [(await gateway.pay(merchant)).json() for _ in range(2)]
    for payment in made:
        await gateway.publish(*wire(news(payment, merchant)))
    ids = [payment["id"] for payment in made]
    ended = partial(gateway.count, "payments", "id = any($1) and version = 2", ids)

    async def both() -> bool:
        return await ended() == 2

    await eventually(both)
    headers = {**merchant.headers, "Idempotency-Key": key}
    answers = [await gateway.pay(merchant, key)] + [
        await gateway.http.post(f"/v1/payments/{p['id']}/refunds", json={}, headers=headers)
        for p in made
    ]
    assert [a.status_code for a in answers] == [202] * 3
    assert not any("idempotent-replayed" in a.headers for a in answers)
    assert len({a.json()["id"] for a in answers}) == 3


async def test_key_and_reference_are_free_in_the_other_mode(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    app_id, secret = f"{merchant.client.name}_live", secrets.token_urlsafe(24)
    live = newer(
        merchant.key, credential_id=new_id("crd"), app_id=app_id, mode="live", lookup=f"l{key}",
        secret_hash=hashlib.sha256(secret.encode()).hexdigest(),
    )  # fmt: skip
    apps = [*merchant.client.apps, AppV1(app_id=app_id, mode="live")]
    urls = dict.fromkeys(("live", "test"), "http://127.0.0.1:1")
    await gateway.tell(newer(merchant.client, apps=apps), newer(merchant.service, urls=urls), live)
    other = replace(merchant, api_key=f"mp_live_l{key}_{secret}")
    first = (await gateway.pay(merchant, key, reference="r")).json()
    second = (await gateway.pay(other, key, reference="r")).json()
    assert (first["mode"], second["mode"]) == ("test", "live")
    assert first["id"] != second["id"]
    shown = await gateway.http.get(f"/v1/payments/{first['id']}", headers=other.headers)
    assert shown.status_code == 404, "the other mode's payment is another tenant's"


async def test_refused_request_leaves_its_key_and_reference_free(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    refused = await gateway.pay(merchant, key, reference="r", amount_minor=1)
    assert refused.status_code == 422
    accepted = await gateway.pay(merchant, key, reference="r")
    assert accepted.status_code == 202 and "idempotent-replayed" not in accepted.headers


async def test_key_is_kept_for_a_day_at_least_and_then_free_while_the_reference_never_is(
    gateway: Gateway, gateway_env: dict[str, str]
) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    first = (await gateway.pay(merchant, key, reference="r")).json()
    recorded = "payment_id = $1 and key = $2"

    async def aged(hours: int) -> None:
        await gateway.sql.execute(
            "update idempotency_keys set created_at = now() - make_interval(hours => $2)"
            " where payment_id = $1", first["id"], hours,
        )  # fmt: skip

    async with running(gateway_env) as (_, http):
        await aged(71)
        again = await gateway.pay(merchant, key, reference="r")
        assert again.headers["idempotent-replayed"] == "true"
        assert await gateway.count("idempotency_keys", recorded, first["id"], key) == 1
        assert http
    await aged(73)
    async with running(gateway_env):

        async def dropped() -> bool:
            return not await gateway.count("idempotency_keys", recorded, first["id"], key)

        await eventually(dropped)
    other = await gateway.pay(merchant, key, reference="another", amount_minor=2000)
    assert other.status_code == 202 and other.json()["id"] != first["id"]
    replayed = await gateway.pay(merchant, reference="r")
    assert replayed.json()["id"] == first["id"], "f010 is for ever"
    changed = await gateway.pay(merchant, reference="r", amount_minor=2000)
    assert changed.status_code == 422 and changed.json()["code"] == "reference_reused"


async def test_replay_shows_location_and_the_payment_as_it_is(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    first = await gateway.pay(merchant, key, reference="r")
    open_still = await gateway.pay(merchant, key, reference="r")
    for name in ("location", "retry-after"):
        assert open_still.headers[name] == first.headers[name]
    await gateway.publish(*wire(news(first.json(), merchant)))
    await eventually(
        lambda: gateway.count("payments", "id = $1 and version = 2", first.json()["id"])
    )
    ended = await gateway.pay(merchant, key, reference="r")
    assert ended.status_code == 200 and ended.headers["idempotent-replayed"] == "true"
    assert ended.headers["location"] == first.headers["location"]
    assert ended.json()["status"] == "succeeded" and "retry-after" not in ended.headers
