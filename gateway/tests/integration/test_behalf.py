"""Payments the ledger asks for on behalf of a client: accepted once, refused by name, provable."""

import asyncio
import datetime as dt
from typing import Any

import httpx
import pytest
from mospay_dev.infrastructure.cluster import Cluster
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from .conftest import Gateway, Merchant, newer, news, wire

URL = "/internal/v1/payments"
SCOPES = "payments:create payments:read"


@pytest.fixture
def ledger(infrastructure: Cluster) -> TokenSigner:
    """The ledger's key."""
    return TokenSigner("ledger", infrastructure.keys["ledger_signing"])


def headers(signer: TokenSigner, merchant: Merchant, scopes: str = SCOPES) -> dict[str, str]:
    """A service token for a merchant's test mode."""
    token = signer.token("gateway", scopes, client_id=merchant.client.client_id, mode="test")
    return {"Authorization": f"Bearer {token}"}


def body(merchant: Merchant, **changes: Any) -> dict[str, Any]:
    """A valid body: the intent's id is key and reference."""
    intent = new_id("int")
    values = {
        **merchant.body(reference=intent),
        "client_id": merchant.client.client_id,
        "mode": "test",
        "idempotency_key": intent,
        "not_after": (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)).isoformat(),
        "customer_id": new_id("cus"),
        "metadata": {"invoice_id": new_id("inv")},
    }
    return {k: v for k, v in (values | changes).items() if v is not None}


async def by_key(
    gateway: Gateway, signer: TokenSigner, merchant: Merchant, key: str
) -> httpx.Response:
    """GET what a key was used for."""
    path = f"{URL}/by-key/{merchant.client.client_id}/test/{key}"
    return await gateway.http.get(path, headers=headers(signer, merchant))


async def test_a_payment_on_behalf_is_the_clients_own(
    gateway: Gateway, ledger: TokenSigner
) -> None:
    merchant = await gateway.merchant()
    sent = body(merchant)
    answer = await gateway.http.post(URL, json=sent, headers=headers(ledger, merchant))
    assert answer.status_code == 202, answer.text
    payment = answer.json()
    assert payment["reference"] == sent["idempotency_key"] and payment["mode"] == "test"
    own = await gateway.http.get(f"/v1/payments/{payment['id']}", headers=merchant.headers)
    assert own.status_code == 200 and own.json()["metadata"] == sent["metadata"]


async def test_twenty_at_once_under_one_key_are_one_payment(
    gateway: Gateway, ledger: TokenSigner
) -> None:
    merchant = await gateway.merchant()
    sent = body(merchant)
    answers = await asyncio.gather(
        *(gateway.http.post(URL, json=sent, headers=headers(ledger, merchant)) for _ in range(20))
    )
    assert {a.status_code for a in answers} <= {202, 409}
    assert len({a.json()["id"] for a in answers if a.status_code == 202}) == 1
    assert await gateway.count("payments", "client_id = $1", merchant.client.client_id) == 1


async def test_the_same_key_again_answers_with_the_payment_whatever_became_of_the_client(
    gateway: Gateway, ledger: TokenSigner
) -> None:
    merchant = await gateway.merchant()
    sent = body(merchant)
    first = await gateway.http.post(URL, json=sent, headers=headers(ledger, merchant))
    await gateway.tell(newer(merchant.client, active=False))
    past = "2020-01-01T00:00:00Z"
    again = await gateway.http.post(
        URL, json={**sent, "not_after": past}, headers=headers(ledger, merchant)
    )
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    new = await gateway.http.post(URL, json=body(merchant), headers=headers(ledger, merchant))
    assert new.status_code == 403 and new.json()["code"] == "client_inactive"


async def test_another_body_under_the_key_is_refused(gateway: Gateway, ledger: TokenSigner) -> None:
    merchant = await gateway.merchant()
    sent = body(merchant)
    await gateway.http.post(URL, json=sent, headers=headers(ledger, merchant))
    other = await gateway.http.post(
        URL, json={**sent, "amount_minor": 2000}, headers=headers(ledger, merchant)
    )
    assert other.status_code == 422 and other.json()["code"] == "idempotency_key_reused"


async def test_nothing_new_is_accepted_after_its_time(
    gateway: Gateway, ledger: TokenSigner
) -> None:
    merchant = await gateway.merchant()
    late = body(merchant, not_after="2020-01-01T00:00:00Z")
    answer = await gateway.http.post(URL, json=late, headers=headers(ledger, merchant))
    assert answer.status_code == 422
    assert [(f["field"], f["code"]) for f in answer.json()["errors"]] == [("not_after", "too_late")]
    absent = await by_key(gateway, ledger, merchant, late["idempotency_key"])
    assert absent.status_code == 404


async def test_a_key_finds_its_payment_even_when_only_the_reference_is_left(
    gateway: Gateway, ledger: TokenSigner
) -> None:
    merchant = await gateway.merchant()
    sent = body(merchant)
    made = await gateway.http.post(URL, json=sent, headers=headers(ledger, merchant))
    await gateway.publish(*wire(news(made.json(), merchant)))
    key = sent["idempotency_key"]
    await gateway.sql.execute("delete from idempotency_keys where key = $1", key)
    found = await by_key(gateway, ledger, merchant, key)
    assert found.status_code == 200 and found.json()["id"] == made.json()["id"]


async def test_limits_are_those_of_any_payment(gateway: Gateway, ledger: TokenSigner) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.http.post(
        URL, json=body(merchant, amount_minor=50), headers=headers(ledger, merchant)
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "amount_too_small"
    await gateway.tell(newer(merchant.client, rate_per_minute=1))
    first, second = [
        await gateway.http.post(URL, json=body(merchant), headers=headers(ledger, merchant))
        for _ in range(2)
    ]
    assert {first.status_code, second.status_code} >= {429}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"client_id": "cli\x00"}, "client_id"),
        ({"mode": "both"}, "mode"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"not_after": "soon"}, "not_after"),
        ({"not_after": None}, "not_after"),
        ({"amount_minor": 2**63}, "amount_minor"),
        ({"phone": "123"}, "phone"),
        ({"metadata": {"a": "\x00"}}, "metadata.a"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_bad_input_is_named(
    gateway: Gateway, ledger: TokenSigner, changes: dict[str, Any], field: str
) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.http.post(
        URL, json=body(merchant, **changes), headers=headers(ledger, merchant)
    )
    assert answer.status_code == 422, answer.text
    assert field in {fault["field"] for fault in answer.json()["errors"]}


async def test_only_the_ledger_pays_and_only_for_the_tenant_of_its_token(
    gateway: Gateway, ledger: TokenSigner, infrastructure: Cluster
) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()
    portal = TokenSigner("portal-api", infrastructure.keys["portal_signing"])
    sent = body(merchant)
    for given in (headers(portal, merchant), headers(ledger, other)):
        answer = await gateway.http.post(URL, json=sent, headers=given)
        assert answer.status_code == 403 and answer.json()["code"] == "not_allowed"
    reading = headers(ledger, merchant, "payments:read")
    answer = await gateway.http.post(URL, json=sent, headers=reading)
    assert answer.status_code == 403 and answer.json()["code"] == "missing_scope"
    assert (await gateway.http.post(URL, json=sent)).status_code == 401
    foreign = f"{URL}/by-key/{merchant.client.client_id}/test/k"
    assert (await gateway.http.get(foreign, headers=headers(ledger, other))).status_code == 403
