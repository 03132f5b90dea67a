"""The path of a payment through the router, command to event."""

import httpx

from .conftest import Answering, Stage


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
    assert told["data"]["phone_masked"] == "**********000"
    assert told["correlation_id"] == "req_1"
    attempt = await stage.attempt(payment_id)
    assert (attempt["state"], attempt["result"]) == ("ended", "processed")
    assert told["data"]["attempt_id"] == attempt["id"]
    assert provider.seen(payment_id) == 1


async def test_simulator_success(stage: Stage, simulator: str) -> None:
    merchant = await stage.merchant(simulator)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    effects = httpx.get(f"{simulator}/_effects", params={"reference": payment_id}).json()
    assert len(effects["effects"]) == 1
    assert effects["repeats"] == 0
