"""The path of a payment through the router, command to event."""

import asyncio
from typing import Any

import httpx

from .conftest import Answering, Stage, success, until


async def effects(simulator: str, reference: str) -> dict[str, Any]:
    """The simulator's own record of a reference."""
    async with httpx.AsyncClient(base_url=simulator) as http:
        found: dict[str, Any] = (
            await http.get("/_effects", params={"reference": reference})
        ).json()
        return found


async def test_command_is_paid_and_told_once(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "succeeded")
    assert row["version"] == 2
    assert row["provider_reference"] == f"prov_{payment_id}"
    assert row["next_action_at"] is None
    (told,) = await stage.told(payment_id, 1)
    assert told["type"] == "payment.succeeded.v1"
    assert told["data"]["version"] == 2
    assert told["data"]["previous_status"] == "processing"
    assert told["data"]["phone_masked"] == "**********000"
    assert told["data"]["metadata"] == {"order": "7"}
    assert told["correlation_id"] == "req_1"
    attempt = await stage.attempt(payment_id)
    assert (attempt["state"], attempt["result"]) == ("ended", "processed")
    assert told["data"]["attempt_id"] == attempt["id"]
    assert provider.seen(payment_id) == 1


async def test_provider_gets_attempt_id_callback_url_and_trace(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    path, _, headers, body = provider.requests[-1]
    attempt = await stage.attempt(payment_id)
    assert path == "/collection/payment"
    assert headers["X-Attempt-Id"] == attempt["id"]
    assert headers["X-Callback-Url"].endswith(f"/v1/callbacks/{merchant.microservice}")
    assert headers["traceparent"].startswith("00-")
    assert {item["i"]: item["v"] for item in body} == {
        0: merchant.microservice,
        1: "collection",
        2: "payment",
        3: merchant.app_id,
        4: "1000",
        5: "+250780000000",
        9: "till-1",
        10: payment_id,
    }


async def test_simulator_success_has_one_effect(stage: Stage, simulator: str) -> None:
    merchant = await stage.merchant(simulator)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    found = await effects(simulator, payment_id)
    assert (len(found["effects"]), found["repeats"]) == (1, 0)


async def test_decline_fails_with_its_reason(stage: Stage, simulator: str) -> None:
    merchant = await stage.merchant(simulator)
    payment_id = await stage.pay(merchant, phone="+250780000001")
    row = await stage.ends(payment_id, "failed")
    assert row["reason_code"] == "insufficient_funds"
    (told,) = await stage.told(payment_id, 1)
    assert told["data"]["reason_code"] == "insufficient_funds"


async def test_timeout_but_paid_ends_succeeded_by_enquiry_with_one_effect(
    stage: Stage, simulator: str
) -> None:
    merchant = await stage.merchant(simulator, timeout=0.4)
    payment_id = await stage.pay(merchant, phone="+250780000004")
    await stage.ends(payment_id, "succeeded")
    told = await stage.told(payment_id, 2)
    assert [e["data"]["status"] for e in told if e["data"]["version"] > 1] == [
        "unknown",
        "succeeded",
    ]
    found = await effects(simulator, payment_id)
    assert (len(found["effects"]), found["repeats"]) == (1, 0)
    assert {e["data"]["attempt_id"] for e in told if e["data"]["version"] > 1} == {
        (await stage.attempt(payment_id))["id"]
    }


async def test_timeout_unpaid_fails_only_after_the_grace(stage: Stage, simulator: str) -> None:
    merchant = await stage.merchant(simulator, timeout=0.4)
    payment_id = await stage.pay(merchant, phone="+250780000014")
    row = await stage.ends(payment_id, "failed")
    assert row["reason_code"] == "never_sent"
    assert (await effects(simulator, payment_id))["effects"] == []
    waited = (row["updated_at"] - (await stage.attempt(payment_id))["lease_until"]).total_seconds()
    assert waited >= 0.3


async def test_not_found_proves_nothing_where_the_enquiry_is_not_authoritative(
    stage: Stage, simulator: str
) -> None:
    merchant = await stage.merchant(simulator, timeout=0.3, connector={})
    payment_id = await stage.pay(merchant, phone="+250780000014")
    await stage.ends(payment_id, "unknown")

    async def asked_often() -> bool:
        row = await stage.payment(payment_id)
        assert row is not None
        return bool(row["enquiries"] >= 4)

    await until(asked_often)
    row = await stage.payment(payment_id)
    assert row is not None
    assert (row["status"], row["attention"]) == ("unknown", "not_found_unproven")


async def test_pending_ends_by_enquiry_and_never_by_resending(stage: Stage, simulator: str) -> None:
    merchant = await stage.merchant(simulator)
    payment_id = await stage.pay(merchant, phone="+250780000006")
    row = await stage.ends(payment_id, "succeeded")
    assert row["enquiries"] >= 1
    assert row["late"] is False
    found = await effects(simulator, payment_id)
    assert (len(found["effects"]), found["repeats"]) == (1, 0)


async def test_error_after_the_effect_is_unknown_then_succeeded(
    stage: Stage, simulator: str
) -> None:
    merchant = await stage.merchant(simulator)
    for phone in ("+250780000007", "+250780000010", "+250780000011"):
        payment_id = await stage.pay(merchant, phone=phone)
        await stage.ends(payment_id, "succeeded")
        statuses = [e["data"]["status"] for e in await stage.told(payment_id, 2)]
        assert statuses[-2:] == ["unknown", "succeeded"], phone
        found = await effects(simulator, payment_id)
        assert (len(found["effects"]), found["repeats"]) == (1, 0), phone


async def test_rule_06_other_amount_is_conflicted_and_asks_for_people(
    stage: Stage, simulator: str
) -> None:
    merchant = await stage.merchant(simulator)
    payment_id = await stage.pay(merchant, phone="+250780000009")
    row = await stage.ends(payment_id, "conflicted")
    assert row["attention"] == "conflicted"
    assert row["next_action_at"] is not None
    assert "1001" in row["reason_message"]


async def test_slow_call_is_announced_as_processing_once(stage: Stage, provider: Answering) -> None:
    release = asyncio.Event()

    async def slow(reference: str) -> Any:
        await release.wait()
        return success(reference)

    provider.plays["payment"] = [slow]
    merchant = await stage.merchant(provider.url, timeout=8)
    payment_id = await stage.pay(merchant)
    (told,) = await stage.told(payment_id, 1, announced=True)
    assert (told["type"], told["data"]["version"]) == ("payment.processing.v1", 1)
    release.set()
    await stage.ends(payment_id, "succeeded")
    events = await stage.told(payment_id, 2, announced=True)
    assert [e["data"]["status"] for e in events] == ["processing", "succeeded"]
