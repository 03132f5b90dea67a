"""Refunds that stay unknown: two people end them, and whatever else is proven still counts."""

import datetime as dt
from typing import Any

import aio_pika
import asyncpg
import httpx
import orjson
import pytest
from mospay_payment_router.usecases.sweep import (
    REFUND_ATTENTION,
    UNKNOWN_REFUND_AGE,
    UNKNOWN_REFUNDS,
    sweep,
)
from mospay_shared.contracts import Outgoing, RefundPaymentV1, ResolveRefundV1, outgoing
from mospay_shared.ids import new_id

from .conftest import Answering, Merchant, Stage, staged, until
from .test_callbacks import NAME, SECRET, SIGNED, sign, state_of
from .test_refunds import command, ends, gave_back, message, purse, silent

Told = tuple[Merchant, RefundPaymentV1]


@pytest.fixture(autouse=True)
def secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, SECRET)


async def paid(stage: Stage, merchant: Merchant) -> str:
    """A payment of 1000 RWF that succeeded, taken once the functions of its refunds were known."""

    async def taken() -> Any:
        payment_id = await stage.pay(merchant)
        await stage.ends(payment_id, "succeeded")
        known = "select id from payments where id = $1 and terms ->> 'refund' <> ''"
        return await stage.database.fetchval(known, payment_id)

    return str(await until(taken))


async def unknown(stage: Stage, provider: Answering, amount: int = 400) -> Told:
    """A refund of a payment of 1000 RWF of which the provider says nothing: version 2."""
    merchant = await stage.merchant(provider.url, connector=SIGNED)
    payment_id = await paid(stage, merchant)
    provider.plays["refund"] = [silent]
    provider.plays["refund_enquiry"] = [silent]
    told = command(merchant, payment_id, amount)
    await stage.publish(message(told))
    row = await ends(stage, told.refund_id, "unknown")
    assert row["version"] == 2
    return merchant, told


def resolution(told: RefundPaymentV1, **changes: Any) -> Outgoing:
    """What two people say of a refund, as portal-api tells it."""
    values: dict[str, Any] = {
        "refund_id": told.refund_id,
        "payment_id": told.payment_id,
        "client_id": told.client_id,
        "mode": told.mode,
        "version": 2,
        "outcome": "succeeded",
        "reason": "the provider's statement shows it",
        "evidence": "line 14 of the statement",
        "proposed_by": "usr_a",
        "approved_by": "usr_b",
        "requested_at": dt.datetime.now(dt.UTC),
    }
    body = ResolveRefundV1(**(values | changes))
    return outgoing("refunds.resolve.v1", body.payment_id, body, source="portal-api")


async def said(stage: Stage, refund_id: str) -> Any:
    """Wait until a resolution is on record and return its row."""
    sql = "select * from refund_resolutions where refund_id = $1"
    return await until(lambda: stage.database.fetchrow(sql, refund_id))


async def refused(stage: Stage, event_id: str) -> str:
    """Wait until a message is among the dead and return why."""
    sql = "select reason from inbox where event_id = $1 and state = 'dead'"
    return str(await until(lambda: stage.database.fetchval(sql, event_id)))


async def moves(stage: Stage, refund_id: str) -> list[tuple[Any, ...]]:
    """A refund's changes of state: to which, by what evidence, from whom."""
    rows = await stage.database.fetch(
        "select to_status, evidence, source_id from refund_transitions where refund_id = $1"
        " order by version",
        refund_id,
    )
    return [tuple(row) for row in rows]


async def callback(stage: Stage, merchant: Merchant, refund_id: str, **body: Any) -> str:
    """Publish a signed callback about a refund, and wait until it has been matched."""
    told = {"reference": refund_id, "amount": "400", "event_id": new_id("e")} | body
    raw = orjson.dumps(told)
    callback_id = await stage.callback(merchant.microservice, raw, sign(raw))
    return await state_of(stage, callback_id)


@pytest.mark.parametrize(("outcome", "left"), [("succeeded", (0, 400, 0)), ("failed", (0, 0, 0))])
async def test_two_people_end_an_unknown_refund(
    stage: Stage, provider: Answering, outcome: str, left: tuple[int, int, int]
) -> None:
    _, told = await unknown(stage, provider)
    assert await purse(stage, told.payment_id) == (400, 0, 0)
    await stage.publish(resolution(told, outcome=outcome))
    row = await ends(stage, told.refund_id, outcome)
    assert (row["version"], row["resolved"], row["late"], row["attention"]) == (
        3,
        True,
        False,
        None,
    )
    assert row["next_action_at"] is None, "nobody is asked any more"
    assert await purse(stage, told.payment_id) == left
    assert (await moves(stage, told.refund_id))[-1] == (outcome, f"people_{outcome}", "usr_a+usr_b")
    kept = await said(stage, told.refund_id)
    assert (kept["applied"], kept["evidence"]) == (True, "line 14 of the statement")
    events = [e for e in await stage.told(told.payment_id, 4) if e["type"].startswith("refund.")]
    assert [e["type"] for e in events] == [
        "refund.pending.v1", "refund.unknown.v1", f"refund.{outcome}.v1",
    ]  # fmt: skip
    assert [e["data"]["resolved"] for e in events] == [False, False, True]
    body = events[-1]["data"]
    assert body["refunded_minor"] == left[1] and "line 14" not in str(body)
    failed = ("resolved_failed", "the provider's statement shows it")
    assert (body["reason_code"], body["reason_message"]) == (
        failed if outcome == "failed" else (None, None)
    )
    sent = [p for p, ref, _, _ in provider.requests if ref == told.refund_id]
    assert sent.count("/collection/refund") == 1, "nothing is sent for a resolution"


async def test_a_refund_left_pending_for_a_day_is_unknown_still_asked_about_and_people_end_it(
    stage: Stage, provider: Answering
) -> None:
    provider.plays["refund"] = provider.plays["refund_enquiry"] = [
        lambda r: (200, {"outcome": "pending", "reference": r})
    ]
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    told = command(merchant, payment_id)
    await stage.publish(message(told))

    async def asked() -> bool:
        sql = "select enquiries > 0 from refunds where id = $1 and status = 'pending'"
        return bool(await stage.database.fetchval(sql, told.refund_id))

    await until(asked)
    await stage.database.execute(
        "update refunds set created_at = now() - interval '25 h', next_action_at = now() "
        "where id = $1",
        told.refund_id,
    )
    row = await ends(stage, told.refund_id, "unknown", "unresolved")
    assert (row["version"], row["reason_code"]) == (2, "left_pending")
    assert row["next_action_at"] is not None, "the provider may still say"
    assert await purse(stage, payment_id) == (400, 0, 0)
    await stage.publish(resolution(told, outcome="failed"))
    await ends(stage, told.refund_id, "failed")
    assert await purse(stage, payment_id) == (0, 0, 0)
    provider.plays["refund_enquiry"] = [gave_back]
    body = orjson.dumps({"reference": told.refund_id, "outcome": "succeeded", "amount": "400"})
    await stage.callback(merchant.microservice, body, {})  # unsigned: it only asks
    assert (await ends(stage, told.refund_id, "succeeded"))["late"] is True


async def test_a_resolution_told_again_changes_nothing_more(
    stage: Stage, provider: Answering
) -> None:
    _, told = await unknown(stage, provider)
    first, other = resolution(told), resolution(told, outcome="failed")
    await stage.publish(first, first, resolution(told), other)

    async def heard() -> bool:
        done = await stage.database.fetchval(
            "select count(*) from inbox where subject = $1 and type = 'refunds.resolve.v1'"
            " and state = 'done'",
            told.payment_id,
        )
        return bool(done == 3)

    await until(heard)
    row = await ends(stage, told.refund_id, "succeeded")
    assert row["version"] == 3 and len(await moves(stage, told.refund_id)) == 2
    assert await purse(stage, told.payment_id) == (0, 400, 0)


async def test_one_person_is_not_two_and_the_table_says_so_too(
    stage: Stage, provider: Answering
) -> None:
    _, told = await unknown(stage, provider)
    alone = resolution(told, approved_by="usr_a")
    await stage.publish(alone)
    assert "two different people" in await refused(stage, alone.id)
    assert (await ends(stage, told.refund_id, "unknown"))["version"] == 2
    with pytest.raises(asyncpg.CheckViolationError):
        await stage.database.execute(
            "insert into refund_resolutions select $1, 2, $2, $3, 'test', 'failed', 'r', 'e',"
            " 'usr_a', 'usr_a', now(), true",
            told.refund_id, told.payment_id, told.client_id,
        )  # fmt: skip


@pytest.mark.parametrize("what", ["client_id", "payment_id", "mode"])
async def test_a_resolution_of_anothers_refund_is_dead(
    stage: Stage, provider: Answering, what: str
) -> None:
    _, told = await unknown(stage, provider)
    foreign = resolution(told, **{what: "live" if what == "mode" else new_id("x")})
    await stage.publish(foreign)
    assert "another payment, client or mode" in await refused(stage, foreign.id)
    await ends(stage, told.refund_id, "unknown")


@pytest.mark.parametrize("status", ["pending", "unknown", "failed", "succeeded"])
async def test_a_resolution_of_what_is_not_as_they_saw_it_is_kept_and_changes_nothing(
    stage: Stage, provider: Answering, status: str
) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await paid(stage, merchant)
    provider.plays["refund_enquiry"] = [silent]
    plays: dict[str, Any] = {
        "pending": lambda r: (202, {"outcome": "pending", "reference": r}),
        "unknown": silent,
        "failed": lambda r: (200, {"outcome": "failed", "reference": r}),
        "succeeded": gave_back,
    }
    provider.plays["refund"] = [plays[status]]
    told = command(merchant, payment_id)
    await stage.publish(message(told))
    row = await ends(stage, told.refund_id, status)
    seen = 1 if status in ("pending", "unknown") else row["version"]
    await stage.publish(resolution(told, version=seen, outcome="failed"))
    assert (await said(stage, told.refund_id))["applied"] is False
    assert (await ends(stage, told.refund_id, status))["version"] == row["version"]


async def test_a_resolution_that_comes_before_its_refund_waits_for_it(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await paid(stage, merchant)
    provider.plays["refund"] = [silent]
    provider.plays["refund_enquiry"] = [silent]
    told = command(merchant, payment_id)
    early = resolution(told)
    await stage.publish(early)
    waits = "select 1 from inbox where event_id = $1 and state = 'retry'"
    await until(lambda: stage.database.fetchval(waits, early.id))
    await stage.publish(message(told))
    assert (await ends(stage, told.refund_id, "succeeded"))["resolved"] is True


async def test_unknown_fields_are_ignored_and_a_malformed_resolution_is_dead(
    stage: Stage, provider: Answering
) -> None:
    _, told = await unknown(stage, provider)
    good, bad = resolution(told), resolution(told)
    broken = orjson.loads(bad.body)
    broken["data"]["outcome"] = "perhaps"
    newer = orjson.loads(good.body)
    newer["data"]["added_in_v1_2"] = {"x": 1}
    exchange = await stage.channel.get_exchange("mospay.commands", ensure=False)
    pack = aio_pika.Message(orjson.dumps([broken, newer]))
    await exchange.publish(pack, "refunds.resolve.v1")
    await ends(stage, told.refund_id, "succeeded")
    assert "outcome" in await refused(stage, bad.id)


async def test_a_success_proven_after_two_people_said_failed_is_late_and_over_if_it_must(
    stage: Stage, provider: Answering
) -> None:
    merchant, told = await unknown(stage, provider, 1000)
    await stage.publish(resolution(told, outcome="failed"))
    await ends(stage, told.refund_id, "failed")
    provider.plays["refund"] = [lambda r: gave_back(r, "1000")]
    second = command(merchant, told.payment_id, 1000)
    await stage.publish(message(second))
    await ends(stage, second.refund_id, "succeeded")
    state = await callback(stage, merchant, told.refund_id, outcome="succeeded", amount="1000")
    assert state == "applied"
    row = await ends(stage, told.refund_id, "succeeded")
    assert (row["late"], row["over_refund"], row["resolved"]) == (True, True, False)
    assert row["attention"] == "over_refund"
    assert await purse(stage, told.payment_id) == (0, 2000, 1000)
    last = (await stage.told(told.payment_id, 7))[-1]["data"]
    assert (last["late"], last["over_refund"], last["resolved"]) == (True, True, False)


async def test_a_denial_after_two_people_said_succeeded_is_shown_to_a_person(
    stage: Stage, provider: Answering
) -> None:
    merchant, told = await unknown(stage, provider)
    await stage.publish(resolution(told))
    await ends(stage, told.refund_id, "succeeded")
    assert await callback(stage, merchant, told.refund_id, outcome="failed") == "applied"
    await callback(stage, merchant, told.refund_id, outcome="pending", event_id="later")
    row = await ends(stage, told.refund_id, "succeeded")
    assert (row["attention"], row["version"]) == ("contradicted", 3)
    await sweep(stage.service.database, 24)
    assert REFUND_ATTENTION._value.get() >= 1
    assert await purse(stage, told.payment_id) == (0, 400, 0)


async def test_approval_and_callback_at_once_are_one_after_the_other(
    router_env: dict[str, str], owner_url: str, infrastructure: Any, provider: Answering
) -> None:
    """People say failed while the provider proves it: one row lock, and the proof counts."""
    waiting = (
        "select count(*) from pg_stat_activity"
        " where wait_event_type = 'Lock' and datname = current_database()"
    )
    patient = staged(router_env, owner_url, infrastructure.keys, enquiry_seconds=[600.0])
    async with patient as stage:  # no enquiry comes between
        merchant, told = await unknown(stage, provider)
        raw = orjson.dumps({"reference": told.refund_id, "outcome": "succeeded", "amount": "400"})
        async with stage.database.acquire() as other, other.transaction():
            await other.execute("select 1 from payments where id = $1 for update", told.payment_id)
            await stage.publish(resolution(told, outcome="failed"))
            callback_id = await stage.callback(merchant.microservice, raw, sign(raw))

            async def both_wait() -> bool:
                return bool(await stage.database.fetchval(waiting) >= 2)

            await until(both_wait)
        assert await state_of(stage, callback_id) == "applied"
        applied = (await said(stage, told.refund_id))["applied"]
        row = await ends(stage, told.refund_id, "succeeded")
        assert row["late"] is applied, "late if people came first, else theirs was stale"
        assert row["version"] == (4 if applied else 3)
        assert await purse(stage, told.payment_id) == (0, 400, 0)


async def test_refunds_that_stay_unknown_are_counted_with_their_age(
    stage: Stage, provider: Answering
) -> None:
    _, told = await unknown(stage, provider)
    await stage.database.execute(
        "update refunds set created_at = now() - interval '30 h' where id = $1", told.refund_id
    )
    await sweep(stage.service.database, 24)
    assert UNKNOWN_REFUNDS._value.get() >= 1
    assert UNKNOWN_REFUND_AGE._value.get() > 100_000
    await stage.publish(resolution(told))
    await ends(stage, told.refund_id, "succeeded")


async def test_a_refund_is_read_by_its_own_tenant_and_listed_while_it_is_open(
    stage: Stage, provider: Answering
) -> None:
    merchant, told = await unknown(stage, provider)
    url = f"/internal/v1/refunds/{told.refund_id}"

    async def read(path: str, **claims: Any) -> httpx.Response:
        return await stage.http.get(path, headers=stage.token("payments:read", **claims))

    own = {"client_id": merchant.client_id, "mode": "test"}
    shown = (await read(url, **own)).json()
    assert (shown["status"], shown["version"], shown["resolved"]) == ("unknown", 2, False)
    for claims in ({**own, "mode": "live"}, {"client_id": new_id("cli")}, {"client_id": ""}):
        assert (await read(url, **claims)).status_code == 404, claims
        assert (await read("/internal/v1/refunds", **claims)).json() == [], claims
    assert (await read(f"/internal/v1/refunds/{new_id('ref')}")).json()["code"] == "not_found"
    listed = (await read("/internal/v1/refunds", **own)).json()
    assert [one["id"] for one in listed] == [told.refund_id]
    assert (await read("/internal/v1/refunds?status=pending", **own)).json() == []
    assert (await read(f"/internal/v1/refunds?after={told.refund_id}", **own)).json() == []
    assert (await read("/internal/v1/refunds?status=failed", **own)).status_code == 422
    assert (await stage.http.get(url)).status_code == 401
    assert (await stage.http.get(url, headers=stage.token("trace:read"))).status_code == 403
    await stage.publish(resolution(told))
    await ends(stage, told.refund_id, "succeeded")
    assert (await read("/internal/v1/refunds", **own)).json() == []


# -- told of again (the gateway does so while it hears nothing), and after a restore


async def test_a_refund_told_of_twice_in_one_pack_is_reserved_and_sent_once(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await paid(stage, merchant)
    provider.plays["refund"] = [gave_back]
    told = command(merchant, payment_id)
    exchange = await stage.channel.get_exchange("mospay.commands", ensure=False)
    pack = b"[" + message(told).body + b"," + message(told).body + b"]"
    await exchange.publish(aio_pika.Message(pack), "payments.refund.v1")
    await ends(stage, told.refund_id, "succeeded")
    assert await purse(stage, payment_id) == (0, 400, 0)
    assert provider.seen(told.refund_id) == 1
    kinds = [e["type"] for e in await stage.told(payment_id, 3)]
    assert kinds.count("refund.pending.v1") == 1


async def test_rule_14_a_restored_database_sends_no_refund_that_was_asked_for_before(
    router_env: dict[str, str], owner_url: str, infrastructure: Any, provider: Answering
) -> None:
    keys = infrastructure.keys
    async with staged(router_env, owner_url, keys) as stage:
        merchant = await stage.merchant(provider.url)
        payment_id = await paid(stage, merchant)
        made, never = command(merchant, payment_id), command(merchant, payment_id)
        await stage.database.execute("update epochs set identity = 'another:1:1'")
    provider.plays["refund_enquiry"] = [silent]
    try:
        async with staged(router_env, owner_url, keys) as stage:
            await stage.publish(message(made), message(never))
            row = await ends(stage, made.refund_id, "unknown")
            assert (row["reason_code"], row["url"]) == ("router_restored", None)
            await ends(stage, never.refund_id, "unknown")
            assert await purse(stage, payment_id) == (800, 0, 0)
            too_much = command(merchant, payment_id, requested_at=made.requested_at)
            waits = message(too_much)
            await stage.publish(waits)
            sql = "select reason from inbox where event_id = $1 and state = 'retry'"
            why = await until(lambda: stage.database.fetchval(sql, waits.id))
            assert "200 RWF" in why, "it may have been made: it is not refused"
            provider.plays["refund_enquiry"] = [
                lambda r: gave_back(r) if r == made.refund_id
                else (200, {"outcome": "unknown", "found": False, "reference": r})
            ]  # fmt: skip
            await ends(stage, made.refund_id, "succeeded")
            assert (await ends(stage, never.refund_id, "failed"))["reason_code"] == "never_sent"
            for one in (made, never):
                assert provider.seen(one.refund_id) == 0, "only asked about"
            provider.plays["refund"] = [lambda r: gave_back(r, "100")]
            fresh = command(merchant, payment_id, 100)
            await stage.publish(message(fresh))
            await ends(stage, fresh.refund_id, "succeeded")
            assert provider.seen(fresh.refund_id) == 1
    finally:
        database = await asyncpg.connect(owner_url)
        await database.execute("delete from epochs where number > 1")
        await database.execute("update epochs set identity = null")
        await database.close()
