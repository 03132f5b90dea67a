"""Cancel, retry, enquire: wishes about a payment that reach the router once."""

import asyncio
import secrets
from typing import Any

import httpx
import pytest
from mospay_shared.contracts import FieldDefinitionV1, LimitsV1, PaymentStatus

from .conftest import PHONE, Gateway, Merchant, Tap, eventually, newer, news, wire


async def ended(
    gateway: Gateway, merchant: Merchant, status: str = "failed", **changes: Any
) -> dict[str, Any]:
    """Make a payment and let the router end it."""
    answer = await gateway.pay(merchant, **changes)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    await gateway.publish(*wire(news(made, merchant, status=PaymentStatus(status))))
    await eventually(lambda: gateway.count("payments", "id = $1 and version = 2", made["id"]))
    return made


async def post(
    gateway: Gateway, merchant: Merchant, path: str, body: Any = None, key: str | None = None
) -> httpx.Response:
    """POST below /v1/payments/."""
    headers = merchant.headers | ({"Idempotency-Key": key} if key else {})
    return await gateway.http.post(f"/v1/payments/{path}", json=body, headers=headers)


def commands(tap: Tap, subject: str, wire_type: str) -> list[dict[str, Any]]:
    """Return the commands of a type heard so far."""
    return [e for e in tap.of(subject) if e["type"] == wire_type]


async def test_cancel_is_asked_of_the_router_once(gateway: Gateway, tap: Tap) -> None:
    merchant = await gateway.merchant()
    made = (await gateway.pay(merchant)).json()
    assert made["cancel_requested_at"] is None
    first = await post(gateway, merchant, f"{made['id']}/cancel", {"reason": "changed my mind"})
    again = await post(gateway, merchant, f"{made['id']}/cancel")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["status"] == "processing", "a wish, not an outcome"
    assert first.json()["cancel_requested_at"] == again.json()["cancel_requested_at"] is not None
    assert first.headers["location"] == f"/v1/payments/{made['id']}"
    command = await tap.about(made["id"], "payments.cancel.v1")
    assert command["data"] == {
        "payment_id": made["id"], "client_id": merchant.client.client_id, "mode": "test",
        "reason": "changed my mind", "requested_at": command["data"]["requested_at"],
    }  # fmt: skip
    await tap.about(made["id"], "payments.process.v1")
    assert await gateway.count("outbox", "subject = $1", made["id"]) == 0
    assert len(commands(tap, made["id"], "payments.cancel.v1")) == 1


async def test_cancel_of_an_ended_payment_is_409_and_of_a_cancelled_one_200(
    gateway: Gateway,
) -> None:
    merchant = await gateway.merchant()
    for status in ("succeeded", "failed", "expired"):
        made = await ended(gateway, merchant, status)
        answer = await post(gateway, merchant, f"{made['id']}/cancel")
        assert answer.status_code == 409 and answer.json()["code"] == "already_final"
        assert "retry-after" not in answer.headers
    made = await ended(gateway, merchant, "cancelled")
    answer = await post(gateway, merchant, f"{made['id']}/cancel")
    assert answer.status_code == 200 and answer.json()["status"] == "cancelled"


async def test_cancel_under_a_key_is_replayed_and_other_payload_is_422(gateway: Gateway) -> None:
    merchant, key = await gateway.merchant(), secrets.token_hex(8)
    made = (await gateway.pay(merchant)).json()
    path = f"{made['id']}/cancel"
    first = await post(gateway, merchant, path, {"reason": "a"}, key)
    again = await post(gateway, merchant, path, {"reason": "a"}, f'"{key}"')
    assert again.status_code == 202 and again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await post(gateway, merchant, path, {"reason": "b"}, key)
    assert other.status_code == 422 and other.json()["code"] == "idempotency_key_reused"
    bad = await post(gateway, merchant, path, {"reason": 5, "why": "x"})
    assert {e["field"] for e in bad.json()["errors"]} == {"reason", "why"}


@pytest.mark.parametrize("wish", ["cancel", "retry", "refunds"])
async def test_one_tenant_never_moves_the_others_payment(gateway: Gateway, wish: str) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()
    made = await ended(gateway, merchant)
    for payment_id in (made["id"], "pay_" + "0" * 32, "pay_x", "%00"):
        body = {"reference": "r"} if wish == "retry" else {}
        answer = await post(gateway, other, f"{payment_id}/{wish}", body, "k")
        assert answer.status_code == 404, answer.text


async def test_retry_is_a_new_payment_like_the_first(gateway: Gateway, tap: Tap) -> None:
    colour = FieldDefinitionV1(code="f011", label="Colour", required=False)
    merchant, key = await gateway.merchant(fields=[colour]), secrets.token_hex(8)
    first = await ended(
        gateway, merchant, customer_id="cust_7", product_name="Tea", metadata={"a": "b"},
        fields={"f009": "till-1", "f011": "red", "f008": "hush"},
    )  # fmt: skip
    body = {"reference": "again", "fields": {"f008": "hush"}}
    answer = await post(gateway, merchant, f"{first['id']}/retry", body, key)
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert made["id"] != first["id"] and made["retry_of"] == first["id"]
    assert made["reference"] == "again" and made["fields"] == {"f009": "till-1", "f011": "red"}
    same = ("amount_minor", "currency", "phone", "customer_id", "product_name", "metadata", "route")
    assert {name: made[name] for name in same} == {name: first[name] for name in same}
    command = (await tap.about(made["id"], "payments.process.v1"))["data"]
    assert command["retry_of"] == first["id"] and command["fields"]["f005"] == PHONE
    assert command["secrets"] is not None and command["device"] == "till-1"
    event = (await tap.about(made["id"], "payment.accepted.v1"))["data"]
    assert event["retry_of"] == first["id"]
    again = await post(gateway, merchant, f"{first['id']}/retry", body, key)
    assert again.json() == made and again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("status", ["processing", "unknown", "held", "conflicted", "succeeded"])
async def test_only_what_ended_without_money_is_retried(gateway: Gateway, status: str) -> None:
    merchant = await gateway.merchant()
    made = await ended(gateway, merchant, status)
    answer = await post(gateway, merchant, f"{made['id']}/retry", {"reference": "r2"}, "k1")
    assert answer.status_code == 422 and answer.json()["code"] == "not_retryable"


async def test_retry_is_replayed_after_the_first_succeeded_late(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    first = await ended(gateway, merchant, "expired")
    made = await post(gateway, merchant, f"{first['id']}/retry", {"reference": "r2"}, "k1")
    await gateway.publish(*wire(news(first, merchant, version=3, late=True)))
    await eventually(lambda: gateway.count("payments", "id = $1 and late", first["id"]))
    again = await post(gateway, merchant, f"{first['id']}/retry", {"reference": "r2"}, "k1")
    assert again.status_code == 202 and again.json()["id"] == made.json()["id"]
    fresh = await post(gateway, merchant, f"{first['id']}/retry", {"reference": "r3"}, "k2")
    assert fresh.status_code == 422 and fresh.json()["code"] == "not_retryable"


async def test_retry_asks_for_erased_secrets_again(gateway: Gateway) -> None:
    needed = [
        FieldDefinitionV1(code=code, label=code, type="secret") for code in ("f007", "f008", "f012")
    ]
    merchant = await gateway.merchant(fields=needed)
    given = {"f007": "a", "f008": "b", "f012": "c"}
    first = await ended(gateway, merchant, fields=given)
    path = f"{first['id']}/retry"
    bare = await post(gateway, merchant, path, {"reference": "r2"}, "k1")
    assert bare.status_code == 422
    assert {(e["field"], e["code"]) for e in bare.json()["errors"]} == {
        (f"fields.{code}", "required") for code in given
    }
    odd = await post(gateway, merchant, path, {"reference": "r2", "fields": {"f009": "x"}}, "k1")
    assert ("fields.f009", "not_here") in {(e["field"], e["code"]) for e in odd.json()["errors"]}
    whole = await post(gateway, merchant, path, {"reference": "r2", "fields": given}, "k1")
    assert whole.status_code == 202


async def test_retry_meets_todays_limits_and_services(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    first = await ended(gateway, merchant)
    path, body = f"{first['id']}/retry", {"reference": "r2"}
    await gateway.tell(newer(merchant.service, limits=LimitsV1(max_minor=999)))
    answer = await post(gateway, merchant, path, body, "k1")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "amount_too_large"
    await gateway.tell(newer(merchant.service, active=False))
    answer = await post(gateway, merchant, path, body, "k1")
    assert answer.json()["errors"][0]["code"] == "service_inactive"
    assert (await post(gateway, merchant, path, body)).status_code == 400, "no key"


async def test_status_asks_the_provider_at_most_once_in_a_while_and_waits(
    gateway: Gateway, tap: Tap
) -> None:
    merchant = await gateway.merchant()
    fields = merchant.fields()
    headers = {**merchant.headers, "Prefer": "wait=0"}
    made = await gateway.http.post("/api/v1/payment/process", json=fields, headers=headers)
    payment_id = made.json()["payment_id"]

    async def status(body: dict[str, Any], wait: int) -> httpx.Response:
        return await gateway.http.post(
            "/api/v1/payment/status", json=body, headers={**headers, "Prefer": f"wait={wait}"}
        )

    answers = await asyncio.gather(*(status(fields, 0) for _ in range(5)))
    assert {a.status_code for a in answers} == {202}
    command = await tap.about(payment_id, "payments.enquire.v1")
    assert command["data"]["client_id"] == merchant.client.client_id
    waiting = asyncio.create_task(status({"f010": fields["f010"]}, 20))
    await gateway.publish(*wire(news({"id": payment_id}, merchant)))
    answer = await waiting
    assert answer.status_code == 200 and answer.json()["outcome"] == "succeeded"
    await tap.about(payment_id, "payment.succeeded.v1")
    assert len(commands(tap, payment_id, "payments.enquire.v1")) == 1
    await gateway.sql.execute(
        "update payments set enquired_at = enquired_at - interval '1 m' where id = $1", payment_id
    )
    assert (await status(fields, 0)).status_code == 200
    assert await gateway.count("outbox", "subject = $1", payment_id) == 0, "it has ended"


async def test_command_carries_address_and_device_and_the_row_forgets_them(
    gateway: Gateway, tap: Tap
) -> None:
    merchant = await gateway.merchant()
    headers = {**merchant.headers, "Idempotency-Key": "k1", "X-Device-Id": "phone-7"}
    answer = await gateway.http.post("/v1/payments", json=merchant.body(), headers=headers)
    made = answer.json()
    command = (await tap.about(made["id"], "payments.process.v1"))["data"]
    assert (command["ip"], command["device"]) == ("127.0.0.1", "phone-7")
    body = merchant.body(fields={"f009": "till-1"})
    answer = await gateway.http.post(
        "/v1/payments", json=body, headers={**headers, "Idempotency-Key": "k2"}
    )
    command = (await tap.about(answer.json()["id"], "payments.process.v1"))["data"]
    assert command["device"] == "till-1", "f009 is what the payer's device says of itself"
    refused = await gateway.http.post(
        "/v1/payments", json=merchant.body(),
        headers={**headers, "Idempotency-Key": "k3", "X-Device-Id": "x" * 256},
    )  # fmt: skip
    assert refused.json()["errors"][0]["field"] == "X-Device-Id"
    await gateway.publish(*wire(news(made, merchant)))
    gone = "id = $1 and settled_at is not null and ip is null and device is null"
    await eventually(lambda: gateway.count("payments", gone, made["id"]))


async def test_client_defined_fields_are_found_shown_and_masked(gateway: Gateway) -> None:
    definitions = [
        FieldDefinitionV1(code="f011", label="Meter", required=False, max_length=20),
        FieldDefinitionV1(code="f012", label="Card", required=False, mask=True),
        FieldDefinitionV1(code="f013", label="Pin", required=False, type="secret"),
    ]
    merchant = await gateway.merchant(fields=definitions)
    other = await gateway.merchant(fields=definitions)
    given = {"f011": "meter 7", "f012": "4000123412341234", "f013": "0000"}
    made = (await gateway.pay(merchant, fields=given)).json()
    await gateway.pay(merchant, fields={"f011": "meter 8"})
    await gateway.pay(other, fields={"f011": "meter 7"})
    assert made["fields"] == {"f011": "meter 7", "f012": "*************234"}

    async def found(**query: str) -> httpx.Response:
        return await gateway.http.get("/v1/payments", params=query, headers=merchant.headers)

    for query in ({"field.f011": "meter 7"}, {"field.f012": given["f012"]},
                  {"field.f011": "meter 7", "field.f012": given["f012"]}):  # fmt: skip
        shown = (await found(**query)).json()
        assert [item["id"] for item in shown["items"]] == [made["id"]], query
        assert shown["items"][0]["fields"] == made["fields"]
    for query in ({"field.f011": "none"}, {"field.f013": "0000"},
                  {"field.f011": "meter 8", "field.f012": given["f012"]}):  # fmt: skip
        assert (await found(**query)).json()["items"] == []
    for name in ("field.f005", "field.x", "f011", "field."):
        refused = await found(**{name: "x"})
        assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == name
    await gateway.tell(newer(merchant.service, fields=[]))
    shown = (await gateway.http.get(f"/v1/payments/{made['id']}", headers=merchant.headers)).json()
    assert shown["fields"] == made["fields"], "what was masked stays masked"
