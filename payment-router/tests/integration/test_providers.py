"""Routing rules, failover, breakers, credentials per client, callbacks a connector reads."""

import base64
from typing import Any

import orjson
import pytest

from .conftest import Answering, Merchant, Stage, staged, success, until

WRITES = "providers:write"
DOWN = "http://127.0.0.1:1"  # nothing listens there: refused before the first byte


async def two_services(stage: Stage, first: str, second: str) -> tuple[Merchant, Merchant]:
    """Return one client with two services, each of a connector of its own."""
    one = await stage.merchant(first)
    other = await stage.merchant(second, client_id=one.client_id, app_id=one.app_id)
    return one, other


async def add_rule(stage: Stage, client_id: str, rule: dict[str, Any], **other: Any) -> str:
    """Add a routing rule and wait until it holds."""
    body = {"client_id": client_id, "mode": "test", "rule": rule, **other}
    made = await stage.http.post(
        "/internal/v1/routing-rules", json=body, headers=stage.token(WRITES, actor="usr_a")
    )
    assert made.status_code == 201, made.text
    rule_id: str = made.json()["id"]

    async def holds() -> bool:
        return any(r.id == rule_id for r in stage.wiring.providers.rules)

    await until(holds)
    return rule_id


def targets(*merchants: Merchant) -> list[dict[str, Any]]:
    """Return targets of a rule, in this order."""
    return [{"service_id": m.service_id} for m in merchants]


async def provider_of(stage: Stage, payment_id: str) -> str:
    """Return which connector has a payment."""
    return str(
        await stage.database.fetchval(
            "select provider from attempts where payment_id = $1 order by number desc limit 1",
            payment_id,
        )
    )


async def test_a_rule_sends_large_amounts_another_way(stage: Stage, provider: Answering) -> None:
    one, other = await two_services(stage, provider.url, provider.url)
    rule = {"amount_from_minor": 5_000, "currency": "RWF", "targets": targets(other)}
    await add_rule(stage, one.client_id, rule)
    provider.plays["payment"] = [lambda r: success(r, "1000")]
    small = await stage.pay(one)
    await stage.ends(small, "succeeded")
    assert await provider_of(stage, small) == one.microservice
    provider.plays["payment"] = [lambda r: success(r, "5000")]
    large = await stage.pay(one, amount_minor=5_000)
    await stage.ends(large, "succeeded")
    assert await provider_of(stage, large) == other.microservice
    (event,) = await stage.told(large, 1)
    assert event["data"]["microservice"] == other.microservice


async def test_failover_follows_only_an_attempt_that_was_never_sent(
    stage: Stage, provider: Answering
) -> None:
    dead, alive = await two_services(stage, DOWN, provider.url)
    await add_rule(stage, dead.client_id, {"targets": targets(dead, alive)})
    payment_id = await stage.pay(dead)
    await stage.ends(payment_id, "succeeded")
    rows = await stage.database.fetch(
        "select number, provider, state, result from attempts where payment_id = $1 order by 1",
        payment_id,
    )
    assert [tuple(r) for r in rows] == [
        (1, dead.microservice, "ended", "never_sent"),
        (2, alive.microservice, "ended", "processed"),
    ]
    assert provider.seen(payment_id) == 1
    body = next(b for _, ref, _, b in provider.requests if ref == payment_id)
    assert body[0] == {"i": 0, "v": alive.microservice}, "its function sees the chosen connector"


async def test_rule_02_no_failover_while_the_first_attempt_is_unknown(
    stage: Stage, provider: Answering
) -> None:
    first, second = await two_services(stage, provider.url, provider.url)
    await add_rule(stage, first.client_id, {"targets": targets(first, second)})
    provider.plays["payment"] = [lambda _: (503, {})]
    provider.plays["enquiry"] = [lambda _: (503, {})]
    payment_id = await stage.pay(first)
    await stage.ends(payment_id, "unknown")
    provider.plays["enquiry"] = [success]
    await stage.ends(payment_id, "succeeded")
    assert provider.seen(payment_id) == 1
    assert (await stage.attempt(payment_id))["provider"] == first.microservice


async def test_without_a_rule_nothing_fails_over(stage: Stage, provider: Answering) -> None:
    dead, _ = await two_services(stage, DOWN, provider.url)
    payment_id = await stage.pay(dead)
    assert (await stage.ends(payment_id, "failed"))["reason_code"] == "never_sent"


async def test_a_breaker_opens_tells_and_closes_again(
    router_env: dict[str, str], owner_url: str, infrastructure: Any, provider: Answering
) -> None:
    async with staged(
        router_env, owner_url, infrastructure.keys, breaker_calls=3, breaker_open_seconds=0.5
    ) as stage:
        merchant = await stage.merchant(provider.url)
        lane = f"test/{merchant.microservice}"
        provider.plays["payment"] = [lambda _: (503, {})]
        provider.plays["enquiry"] = [success]
        for _ in range(3):
            await stage.ends(await stage.pay(merchant), "succeeded")
        assert stage.wiring.breakers.state(lane) in ("open", "half_open")
        provider.plays["payment"] = [success]
        payment_id = await stage.pay(merchant)
        await stage.ends(payment_id, "succeeded")
        assert provider.seen(payment_id) == 1

        async def closed() -> Any:
            states = [e["data"]["state"] for e in stage.events.get(lane, [])]
            return states if states[-1:] == ["closed"] else None

        assert await until(closed) == ["open", "half_open", "closed"]
        shown = await stage.http.get(
            "/internal/v1/providers", headers=stage.token("providers:read")
        )
        one = next(h for h in shown.json() if h["microservice"] == merchant.microservice)
        assert one["state"] == "closed"


async def test_a_payment_behind_an_open_breaker_waits_unsent_and_expires(
    stage: Stage, provider: Answering
) -> None:
    import datetime as dt

    merchant = await stage.merchant(provider.url)
    stage.wiring.slots.cap(f"test/{merchant.microservice}", 0)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    payment_id = await stage.pay(merchant, send_before=soon)
    row = await stage.ends(payment_id, "expired")
    assert row["reason_code"] == "send_before_passed"
    assert provider.seen(payment_id) == 0


async def test_a_clients_own_credentials_travel_with_its_calls_and_are_never_shown(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    path = f"/internal/v1/provider-credentials/{merchant.client_id}/test/{merchant.microservice}"
    secret = "s3cr3t-of-the-provider"
    put = await stage.http.put(
        path, json={"parts": {"api_key": secret}}, headers=stage.token(WRITES, actor="usr_a")
    )
    assert put.json() == {"version": 1}

    async def known() -> bool:
        return any(key[0] == merchant.client_id for key in stage.wiring.providers._sealed)

    await until(known)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    headers = next(h for _, ref, h, _ in provider.requests if ref == payment_id)
    sent = base64.b64decode(headers["X-Provider-Credentials"])
    assert orjson.loads(sent) == {"api_key": secret}
    shown = await stage.http.get(
        "/internal/v1/provider-credentials", headers=stage.token("providers:read")
    )
    assert secret not in shown.text
    one = next(c for c in shown.json() if c["client_id"] == merchant.client_id)
    assert one["names"] == ["api_key"]
    stored = await stage.database.fetchval(
        "select sealed::text from provider_credentials where client_id = $1", merchant.client_id
    )
    assert secret not in stored
    gone = await stage.http.delete(path, headers=stage.token(WRITES, actor="usr_a"))
    assert gone.status_code == 204


async def test_only_the_operator_touches_credentials_and_rules(stage: Stage) -> None:
    tenant = stage.token(f"{WRITES} providers:read", client_id="cli_1", mode="test")
    for path in ("/internal/v1/providers", "/internal/v1/routing-rules"):
        assert (await stage.http.get(path, headers=tenant)).status_code == 403
    put = await stage.http.put(
        "/internal/v1/provider-credentials/cli_1/test/mtn",
        json={"parts": {"k": "v"}},
        headers=tenant,
    )
    assert put.status_code == 403


async def test_a_rule_that_changed_since_it_was_read_is_not_overwritten(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    rule_id = await add_rule(stage, merchant.client_id, {"targets": targets(merchant)})
    body = {"mode": "test", "rule": {"targets": targets(merchant)}, "version": 1}
    path, headers = f"/internal/v1/routing-rules/{rule_id}", stage.token(WRITES)
    assert (await stage.http.put(path, json=body, headers=headers)).json()["version"] == 2
    assert (await stage.http.put(path, json=body, headers=headers)).status_code == 409
    stale = await stage.http.delete(f"{path}?version=1", headers=headers)
    assert stale.status_code == 409
    assert (await stage.http.delete(f"{path}?version=2", headers=headers)).status_code == 204


CONNECTOR = {"authoritative_enquiry": True, "callbacks": "connector"}


async def pending(stage: Stage, provider: Answering, merchant: Merchant) -> str:
    """Return a payment the provider has not decided on."""
    undecided: dict[str, Any] = {"outcome": "pending"}
    provider.plays["payment"] = [lambda _: (202, undecided)]
    provider.plays["enquiry"] = [lambda _: (200, undecided)]
    payment_id = await stage.pay(merchant)

    async def sent() -> bool:
        return provider.seen(payment_id) > 0

    await until(sent)
    return payment_id


async def test_a_callback_the_connector_verified_ends_a_payment(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url, connector=CONNECTOR)
    payment_id = await pending(stage, provider, merchant)
    read = success(payment_id)[1] | {"verified": True, "event_id": "e1", "kind": "payment"}
    provider.plays["callback"] = [lambda _: (200, read)]
    raw = b'{"event": "payment.captured", "odd": "shape"}'
    await stage.callback(merchant.microservice, raw, {"x-razorpay-signature": "ab"})
    await stage.ends(payment_id, "succeeded")
    body = next(b for path, _, _, b in provider.requests if path == "/callbacks")
    assert base64.b64decode(body["body_base64"]) == raw
    assert body["headers"] == {"x-razorpay-signature": "ab"}


@pytest.mark.parametrize("verified", [False, None])
async def test_a_callback_the_connector_did_not_verify_only_asks(
    stage: Stage, provider: Answering, verified: bool | None
) -> None:
    merchant = await stage.merchant(provider.url, connector=CONNECTOR)
    payment_id = await pending(stage, provider, merchant)
    lie = {"outcome": "failed", "reference": payment_id, "verified": verified}
    provider.plays["callback"] = [lambda _: (200, lie)]
    callback_id = await stage.callback(merchant.microservice, b"{}", {})

    async def asked() -> bool:
        found = await stage.database.fetchval(
            "select state from callbacks where id = $1", callback_id
        )
        return bool(found == "asked")

    await until(asked)
    provider.plays["enquiry"] = [success]
    await stage.ends(payment_id, "succeeded")


async def test_a_connector_that_is_down_is_asked_again_to_read_a_callback(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url, connector=CONNECTOR)
    payment_id = await pending(stage, provider, merchant)
    read = success(payment_id)[1] | {"verified": True}
    provider.plays["callback"] = [lambda _: (503, {}), lambda _: (200, read)]
    await stage.callback(merchant.microservice, b"{}", {})
    await stage.ends(payment_id, "succeeded")


async def test_a_simulator_is_refused_in_live_mode(stage: Stage, provider: Answering) -> None:
    connector = {"authoritative_enquiry": True, "simulator": True}
    merchant = await stage.merchant(provider.url, connector=connector, mode="live")
    payment_id = await stage.pay(merchant, mode="live")
    row = await stage.ends(payment_id, "failed")
    assert row["reason_code"] == "simulator_in_live_mode"
    assert provider.seen(payment_id) == 0


async def test_rule_13_an_amount_the_connector_cannot_express_is_never_sent(
    stage: Stage, provider: Answering
) -> None:
    connector = {"authoritative_enquiry": True, "exponents": {"USD": 0}}
    merchant = await stage.merchant(provider.url, connector=connector, currency="USD")
    odd = await stage.pay(merchant, amount_minor=1050, currency="USD")
    row = await stage.ends(odd, "failed")
    assert row["reason_code"] == "amount_not_expressible"
    assert provider.seen(odd) == 0
    provider.plays["payment"] = [lambda r: success(r, "10.00")]
    whole = await stage.pay(merchant, amount_minor=1000, currency="USD")
    await stage.ends(whole, "succeeded")


async def test_what_the_payer_has_to_do_is_a_state_and_ends_by_proof(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    act = {"outcome": "pending", "customer_action": {"type": "redirect", "url": "https://x.test"}}
    provider.plays["payment"] = [lambda r: (202, act | {"reference": r})]
    provider.plays["enquiry"] = [lambda r: (200, act | {"reference": r})]
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "requires_customer_action")
    headers = next(h for _, ref, h, _ in provider.requests if ref == payment_id)
    assert headers["X-Currency"] == "RWF"
    provider.plays["enquiry"] = [
        lambda r: (200, {"outcome": "failed", "reason_code": "expired", "reference": r})
    ]
    await stage.ends(payment_id, "expired")


async def test_a_connector_that_proves_it_sent_nothing_fails_over(
    stage: Stage, provider: Answering
) -> None:
    first, second = await two_services(stage, provider.url, provider.url)
    await add_rule(stage, first.client_id, {"targets": targets(first, second)})
    provider.plays["payment"] = [
        lambda r: (400, {"outcome": "failed", "reason_code": "never_sent", "reference": r}),
        success,
    ]
    payment_id = await stage.pay(first)
    await stage.ends(payment_id, "succeeded")
    assert await provider_of(stage, payment_id) == second.microservice
