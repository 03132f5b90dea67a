"""Risk before the first attempt: each rule, each decision, the default, what is kept and told."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from mospay_shared.contracts import MESSAGES
from mospay_shared.ids import new_id

from .conftest import Answering, Merchant, Stage, staged, until
from .risky import VELOCITY, add_entry, add_rule, decision, settled, told_risk

REFUSE_ALL = {"kind": "amount_above", "currency": "RWF", "amount_minor": 0, "decision": "refuse"}
HOLD_ALL = REFUSE_ALL | {"decision": "hold"}


async def test_nothing_is_asked_of_test_payments_unless_it_is_set(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    ids = [await stage.pay(merchant, phone="+250780009999") for _ in range(40)]
    for payment_id in ids:
        await stage.ends(payment_id, "succeeded")
    assert await decision(stage, ids[-1]) is None
    counted = "select count(*) from risk_velocity where client_id = $1"
    assert await stage.database.fetchval(counted, merchant.client_id) == 0


async def test_a_refused_payment_fails_with_zero_calls_and_says_why(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    rule_id = await add_rule(stage, merchant, REFUSE_ALL)
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "failed")
    assert (row["reason_code"], row["version"]) == ("risk_refused", 2)
    assert (await stage.attempt(payment_id))["state"] == "ended"
    assert provider.seen(payment_id) == 0
    kept = await decision(stage, payment_id)
    assert (kept["decision"], kept["by_default"]) == ("refuse", False)
    assert kept["rules_version"] == stage.wiring.policies.version
    assert kept["took_ms"] > 0
    told = await told_risk(stage, payment_id)
    assert (told["decision"], told["reasons"][0]["rule"]) == ("refuse", rule_id)
    MESSAGES["payment.risk_assessed.v1"].model.model_validate(told)
    (event,) = await stage.told(payment_id, 1)
    assert event["data"]["reason_code"] == "risk_refused"
    assert event["data"]["reason_actor"] == "operator"


async def test_a_held_payment_is_told_and_nobody_claims_its_attempt(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "held")
    assert (row["version"], row["reason_code"]) == (2, "risk_held")
    attempt = await stage.attempt(payment_id)
    assert (attempt["state"], attempt["started_at"]) == ("ready", None)
    assert abs((row["next_action_at"] - row["send_before"]).total_seconds()) < 2
    # it stands before nobody else's attempt, however many there are
    assert abs((attempt["next_action_at"] - row["send_before"]).total_seconds()) < 2
    (event,) = await stage.told(payment_id, 1)
    assert (event["type"], event["data"]["previous_status"]) == ("payment.held.v1", "processing")
    evidence = "select evidence from payment_transitions where payment_id = $1"
    assert await stage.database.fetchval(evidence, payment_id) == "held_by_risk"
    other = await stage.merchant(provider.url)
    await stage.ends(await stage.pay(other), "succeeded")
    assert provider.seen(payment_id) == 0


async def test_held_payments_leave_the_claim_of_ready_attempts_free(
    stage: Stage, provider: Answering
) -> None:
    """More held ones than a claim has rows, and still a waiting attempt is claimed."""
    merchant = await stage.merchant(provider.url)
    rule_id = await add_rule(stage, merchant, HOLD_ALL)
    held = [await stage.pay(merchant) for _ in range(70)]
    for payment_id in held:
        await stage.ends(payment_id, "held")
    token = stage.token("risk:write")
    path = f"/internal/v1/risk/rules/{rule_id}?version=1"
    assert (await stage.http.delete(path, headers=token)).status_code == 204
    await settled(stage)
    stage.wiring.slots.cap(f"test/{merchant.microservice}", 0)
    waiting = await stage.pay(merchant)
    await until(lambda: stage.payment(waiting))
    assert (await stage.attempt(waiting))["state"] == "ready"
    stage.wiring.slots.caps.clear()
    stage.wiring.rounds.ready.wake()
    await stage.ends(waiting, "succeeded")


async def test_a_held_payment_whose_time_is_over_expires_unsent(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)
    payment_id = await stage.pay(merchant, send_before=soon)
    await stage.ends(payment_id, "held")
    row = await stage.ends(payment_id, "expired")
    assert row["reason_code"] == "send_before_passed"
    assert provider.seen(payment_id) == 0


@pytest.mark.parametrize("scope", ["phone", "device", "ip", "client"])
async def test_velocity_counts_what_its_scope_names(
    stage: Stage, provider: Answering, scope: str
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"scope": scope, "max_payments": 3})
    same = {"phone": "+250780001111", "device": "dev-1", "ip": "10.0.0.1"}

    def other(number: int) -> dict[str, Any]:
        """Everything another one, but for what the rule counts."""
        fresh = {"phone": f"+25078000{number:04}", "device": f"d{number}", "ip": f"10.1.1.{number}"}
        return fresh | ({scope: same[scope]} if scope in same else {})

    for number in range(3):
        await stage.ends(await stage.pay(merchant, **other(number)), "succeeded")
    fourth = await stage.pay(merchant, **other(9))
    await stage.ends(fourth, "held")
    kept = await decision(stage, fourth)
    assert kept["score"] == 60
    assert kept["reasons"][0]["detail"] == f"4 payments of this {scope} in 10 min, more than 3"
    if scope != "client":
        await stage.ends(await stage.pay(merchant), "succeeded" if scope != "client" else "held")


async def test_velocity_counts_the_payments_of_one_batch_one_by_one(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 5})
    commands = [stage.command(merchant, phone="+250780002222") for _ in range(9)]
    verdicts = await stage.wiring.risk.assess(commands)
    decisions = [verdicts[c.payment_id].decision for c in commands]
    assert decisions == ["allow"] * 5 + ["hold"] * 4


async def test_velocity_forgets_what_lies_before_its_window(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 1, "window_minutes": 10})
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 2, "window_minutes": 120})
    now = dt.datetime.now(dt.UTC)
    scores = []
    for minutes_ago in (600, 32, 20, 0):
        at = now - dt.timedelta(minutes=minutes_ago)
        command = stage.command(merchant, accepted_at=at)
        scores.append((await stage.wiring.risk.assess([command]))[command.payment_id].score)
    assert scores == [0, 0, 0, 60]  # three in two hours; never two in ten minutes


async def test_velocity_of_money_counts_one_currency(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    limited = VELOCITY | {"max_amount_minor": 2_500, "currency": "RWF"}
    await add_rule(stage, merchant, limited)
    for currency, wanted in (("RWF", 0), ("UGX", 0), ("UGX", 0), ("RWF", 0), ("RWF", 60)):
        command = stage.command(merchant, currency=currency)
        verdict = (await stage.wiring.risk.assess([command]))[command.payment_id]
        assert verdict.score == wanted, currency


async def test_two_processes_count_the_same_phone(
    stage: Stage, provider: Answering, router_env: dict[str, str], owner_url: str,
    infrastructure: Any,
) -> None:  # fmt: skip
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 20})
    async with staged(router_env, owner_url, infrastructure.keys, roles=["http"]) as other:
        await settled(other)
        here, there = stage.wiring.risk, other.wiring.risk
        for _ in range(10):
            await asyncio.gather(
                here.assess([stage.command(merchant)]), there.assess([stage.command(merchant)])
            )
        command = stage.command(merchant)
        assert (await here.assess([command]))[command.payment_id].decision == "hold"


async def test_what_is_counted_names_nobody_in_clear(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    for scope in ("phone", "device", "ip"):
        await add_rule(stage, merchant, VELOCITY | {"scope": scope, "max_payments": 5})
    await add_rule(
        stage, merchant,
        {"kind": "first_seen_payer", "currency": "RWF", "amount_minor": 10**9, "points": 1},
    )  # fmt: skip
    await add_entry(stage, merchant, "allow", kind="phone", value="+250780003333")
    values = {"phone": "+250780003333", "device": "dev-secret", "ip": "10.9.8.7"}
    await stage.ends(await stage.pay(merchant, **values), "succeeded")
    await stage.wiring.histories.write(stage.service.database)
    shown = ""
    for table in ("risk_velocity", "risk_payers", "risk_entries", "risk_client_days"):
        rows = await stage.database.fetch(f"select t::text from {table} t")
        shown += "\n".join(row[0] for row in rows)
    assert merchant.client_id in shown
    for secret in ("780003333", "dev-secret", "10.9.8.7"):
        assert secret not in shown


async def test_block_and_allow_lists_hold_within_a_second_and_end_when_taken_off(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 0})
    trusted = await add_entry(stage, merchant, "allow", kind="ip", value="10.4.0.0/16")
    ok = await stage.pay(merchant, ip="10.4.1.1")
    await stage.ends(ok, "succeeded")
    assert "waived" in (await decision(stage, ok))["reasons"][0]["detail"]
    await add_entry(stage, merchant, "block", kind="customer", value="c-77")
    bad = await stage.pay(merchant, ip="10.4.1.1", customer_id="c-77")
    assert (await stage.ends(bad, "failed"))["reason_code"] == "risk_refused"
    path = f"/internal/v1/risk/lists/{trusted}"
    assert (await stage.http.delete(path, headers=stage.token("risk:write"))).status_code == 204
    await settled(stage)
    await stage.ends(await stage.pay(merchant, ip="10.4.1.1"), "held")


async def paid(stage: Stage, merchant: Merchant, **changes: Any) -> None:
    """A payment that goes through and has become history."""
    await stage.ends(await stage.pay(merchant, **changes), "succeeded")
    await stage.wiring.histories.write(stage.service.database)


async def test_an_amount_far_from_the_payers_own_is_held_and_does_not_become_normal(
    stage: Stage, provider: Answering
) -> None:
    provider.plays["payment"] = [lambda r: (200, {"outcome": "succeeded", "reference": r})]
    merchant = await stage.merchant(provider.url, connector={"amount_optional": True})
    odd = {"kind": "anomaly_amount", "against": "payer", "least_payments": 3,
           "times_max_percent": 300, "points": 60}  # fmt: skip
    await add_rule(stage, merchant, odd)
    phone = "+250780004444"
    for amount in (900, 1_000, 800):
        await paid(stage, merchant, phone=phone, amount_minor=amount)
    await paid(stage, merchant, phone=phone, amount_minor=3_000)
    for _ in range(2):  # what was held is no history: the second is as odd as the first
        payment_id = await stage.pay(merchant, phone=phone, amount_minor=9_001)
        await stage.ends(payment_id, "held")
    assert "largest of 4 payments" in (await decision(stage, payment_id))["reasons"][0]["detail"]
    other = await stage.pay(merchant, phone="+250780005555", amount_minor=9_001)
    await stage.ends(other, "succeeded")  # another payer has no history to be compared with


async def test_an_amount_far_from_the_clients_own_is_held(
    stage: Stage, provider: Answering
) -> None:
    provider.plays["payment"] = [lambda r: (200, {"outcome": "succeeded", "reference": r})]
    merchant = await stage.merchant(provider.url, connector={"amount_optional": True})
    odd = {"kind": "anomaly_amount", "against": "client", "least_payments": 4, "sigmas": 3,
           "points": 60}  # fmt: skip
    await add_rule(stage, merchant, odd)
    for amount in (900, 1_100, 900, 1_100):
        await paid(stage, merchant, amount_minor=amount)
    stage.wiring.histories._known.clear()  # it would be read again within a minute
    await stage.ends(await stage.pay(merchant, amount_minor=1_300), "succeeded")
    await stage.ends(await stage.pay(merchant, amount_minor=1_301), "held")


async def test_the_first_payment_of_a_payer_over_an_amount_is_held_until_one_was_paid(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    new = {"kind": "first_seen_payer", "currency": "RWF", "amount_minor": 999, "points": 60}
    await add_rule(stage, merchant, new)
    phone = "+250780006666"
    await stage.ends(await stage.pay(merchant, phone=phone), "held")
    provider.plays["payment"] = [lambda r: (200, {"outcome": "succeeded", "reference": r,
                                                  "amount": "999"})]  # fmt: skip
    await paid(stage, merchant, phone=phone, amount_minor=999)
    provider.plays.clear()
    await stage.ends(await stage.pay(merchant, phone=phone), "succeeded")


async def test_points_under_the_threshold_are_kept_and_not_told(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 0, "points": 59})
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    kept = await decision(stage, payment_id)
    assert (kept["decision"], kept["score"]) == ("allow", 59)
    await stage.told(payment_id, 1)
    types = {e["type"] for e in stage.events[payment_id]}
    assert "payment.risk_assessed.v1" not in types


async def test_a_clients_own_thresholds_go_before_those_of_all(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 0, "points": 59})
    path = f"/internal/v1/risk/thresholds/test?client_id={merchant.client_id}"
    body = {"hold_at": 10, "refuse_at": 59, "version": 0}
    answer = await stage.http.put(path, json=body, headers=stage.token("risk:write"))
    assert answer.status_code == 200, answer.text
    await settled(stage)
    await stage.ends(await stage.pay(merchant), "failed")
    other = await stage.merchant(provider.url)
    await add_rule(stage, other, VELOCITY | {"max_payments": 0, "points": 59})
    await stage.ends(await stage.pay(other), "succeeded")


async def test_a_repeated_command_is_decided_once(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    command = stage.command(merchant)
    await stage.process(command)
    await stage.ends(command.payment_id, "held")
    first = await decision(stage, command.payment_id)
    await stage.process(command)  # another message that names the same payment
    await stage.ends(await stage.process(stage.command(merchant)), "held")
    assert await decision(stage, command.payment_id) == first
    risky = [e for e in stage.events[command.payment_id] if "risk" in e["type"]]
    assert len(risky) == 1


@pytest.mark.parametrize(("default", "status"), [("allow", "succeeded"), ("hold", "held"),
                                                 ("refuse", "failed")])  # fmt: skip
async def test_the_default_applies_when_the_database_is_too_slow_and_says_so(
    router_env: dict[str, str], owner_url: str, infrastructure: Any, provider: Answering,
    default: str, status: str,
) -> None:  # fmt: skip
    keys = infrastructure.keys
    changes = {"risk_default": default, "risk_seconds": 0.05}
    async with staged(router_env, owner_url, keys, **changes) as stage:
        merchant = await stage.merchant(provider.url)
        await add_rule(stage, merchant, VELOCITY | {"max_payments": 1_000})
        await add_entry(stage, merchant, "block", kind="phone", value="+250780007777")
        async with stage.database.acquire() as connection, connection.transaction():
            await connection.execute("lock table risk_velocity in access exclusive mode")
            payment_id = await stage.pay(merchant)
            await stage.ends(payment_id, status)
            # lists are at hand whatever the database does
            blocked = await stage.pay(merchant, phone="+250780007777")
            await stage.ends(blocked, "failed")
        kept = await decision(stage, payment_id)
        assert (kept["by_default"], kept["decision"], kept["score"]) == (True, default, 0)
        assert "50 ms" in kept["reasons"][0]["detail"]
        assert kept["took_ms"] < 1_000
        assert (await told_risk(stage, payment_id))["by_default"] is True


async def test_an_assessment_that_waits_for_a_lock_ends_in_its_time(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 1_000})
    loop = asyncio.get_running_loop()
    async with stage.database.acquire() as connection, connection.transaction():
        await connection.execute("lock table risk_velocity in access exclusive mode")
        for _ in range(6):  # more than the pool has connections
            started = loop.time()
            verdicts = await stage.wiring.risk.assess([stage.command(merchant)])
            assert loop.time() - started < 2
            assert next(iter(verdicts.values())).by_default

    async def answers() -> bool:
        verdicts = await stage.wiring.risk.assess([stage.command(merchant)])
        return not next(iter(verdicts.values())).by_default

    await until(answers)


async def test_decisions_are_seen_by_their_own_tenant_alone(
    stage: Stage, provider: Answering
) -> None:
    merchant, other = await stage.merchant(provider.url), await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "held")
    path = f"/internal/v1/risk/decisions?payment_id={payment_id}"
    for claims, seen in (
        ({"client_id": merchant.client_id, "mode": "test"}, 1),
        ({"client_id": merchant.client_id}, 1),
        ({"client_id": merchant.client_id, "mode": "live"}, 0),
        ({"client_id": other.client_id, "mode": "test"}, 0),
        ({"client_id": ""}, 0),
        ({"customer_id": "x"}, 0),
        ({}, 1),
    ):
        answer = await stage.http.get(path, headers=stage.token("risk:read", **claims))
        assert len(answer.json()["items"]) == seen, claims


async def test_every_table_of_risk_shows_a_tenant_its_own_rows(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    await stage.ends(await stage.pay(merchant), "held")
    forced = """select relname from pg_class where relname like 'risk\\_%' and relkind = 'r'
        and not (relrowsecurity and relforcerowsecurity)"""
    assert [r[0] for r in await stage.database.fetch(forced)] == ["risk_version"]
    request = stage.service.database.request
    for client_id, mode, seen in (
        (merchant.client_id, "test", True),
        (merchant.client_id, "live", False),
        (new_id("cli"), "test", False),
        ("", "", False),
    ):
        async with request(client_id=client_id, mode=mode) as tx:
            for table in ("risk_rules", "risk_decisions"):
                rows = await tx.fetch(f"select client_id from {table}")
                assert ({r[0] for r in rows} == {merchant.client_id}) is seen, (table, client_id)


async def test_the_trace_explains_the_decision(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, HOLD_ALL)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "held")
    path = f"/internal/v1/traces/{payment_id}"
    hops = (await stage.http.get(path, headers=stage.token("trace:read"))).json()["hops"]
    (hop,) = [h for h in hops if h["name"] == "risk: hold"]
    assert "the amount is over 0 RWF" in hop["detail"]
    assert hop["data"]["reasons"][0]["detail"] in hop["detail"]
    (moved,) = [h for h in hops if h["name"] == "processing → held"]
    assert moved["detail"] == "risk wants a person to look first"


async def test_default_rules_are_there_for_live_and_none_for_test(stage: Stage) -> None:
    policies = stage.wiring.policies
    live, test = policies.of(new_id("cli"), "live"), policies.of(new_id("cli"), "test")
    assert len(live.rules) == 7 and not live.empty
    assert test.empty


async def test_a_live_payment_of_one_busy_phone_is_held_by_the_defaults(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url, mode="live")
    commands = [stage.command(merchant, mode="live", phone="+250780008888") for _ in range(31)]
    verdicts = await stage.wiring.risk.assess(commands)
    decisions = [verdicts[c.payment_id].decision for c in commands]
    assert decisions == ["allow"] * 30 + ["hold"]


async def test_old_counts_and_payers_are_dropped(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 5})
    await add_rule(stage, merchant, VELOCITY | {"max_payments": 5, "window_minutes": 1_440})
    now = dt.datetime.now(dt.UTC)
    for hours_ago in (0, 3, 40 * 24):
        at = now - dt.timedelta(hours=hours_ago)
        await stage.wiring.risk.assess([stage.command(merchant, accepted_at=at)])
    await stage.wiring.upkeep._upkeep()
    rows = await stage.database.fetch(
        "select grain from risk_velocity where client_id = $1 order by grain", merchant.client_id
    )
    assert [row["grain"] for row in rows] == [1, 60, 60]
