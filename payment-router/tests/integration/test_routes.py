"""HTTP in: the payment as it is now, for its tenant alone; the hops of its trace."""

from mospay_shared.ids import new_id

from .conftest import Answering, Stage, until


async def test_payment_is_read_with_its_attempts(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    url = f"/internal/v1/payments/{payment_id}"
    answer = await stage.http.get(url, headers=stage.token("payments:read"))
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["version"], body["late"]) == ("succeeded", 2, False)
    (attempt,) = body["attempts"]
    assert attempt["state"] == "ended"
    assert attempt["route"] == "payment"
    assert (attempt["http_status"], attempt["result"]) == (200, "processed")
    assert attempt["started_at"] <= attempt["ended_at"]


async def test_payment_is_seen_by_its_own_client_and_mode_alone(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    url = f"/internal/v1/payments/{payment_id}"
    for claims, wanted in (
        ({"client_id": merchant.client_id}, 200),
        ({"client_id": merchant.client_id, "mode": "test"}, 200),
        ({"client_id": merchant.client_id, "mode": "live"}, 404),
        ({"client_id": new_id("cli")}, 404),
        ({"client_id": ""}, 404),
        ({"customer_id": "x"}, 404),
        ({}, 200),
    ):
        answer = await stage.http.get(url, headers=stage.token("payments:read", **claims))
        assert answer.status_code == wanted, claims


async def test_token_and_scope_are_needed(stage: Stage) -> None:
    url = f"/internal/v1/payments/{new_id('pay')}"
    assert (await stage.http.get(url)).status_code == 401
    assert (await stage.http.get(url, headers=stage.token("trace:read"))).status_code == 403
    answer = await stage.http.get(url, headers=stage.token("payments:read"))
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


async def test_trace_shows_command_call_enquiry_and_changes(stage: Stage, simulator: str) -> None:
    merchant = await stage.merchant(simulator, timeout=0.4)
    payment_id = await stage.pay(merchant, phone="+250780000004")
    await stage.ends(payment_id, "succeeded")
    answer = await stage.http.get(
        f"/internal/v1/traces/{payment_id}", headers=stage.token("trace:read")
    )
    assert answer.status_code == 200
    hops = answer.json()["hops"]
    kinds = [hop["kind"] for hop in hops]
    assert kinds.count("message") >= 1
    calls = {hop["name"]: hop for hop in hops if hop["kind"] == "provider_call"}
    assert calls["POST collection/payment"]["outcome"] == "unknown"
    assert calls["POST collection/paymentStatus"]["outcome"] == "ok"
    states = [hop["name"] for hop in hops if hop["kind"] == "state"]
    assert states == ["processing → unknown", "unknown → succeeded"]
    assert "+250780000004" not in answer.text


async def test_ready_and_healthy(stage: Stage) -> None:
    assert (await stage.http.get("/healthz")).status_code == 200

    async def ready() -> bool:
        return (await stage.http.get("/readyz")).status_code == 200

    await until(ready)
