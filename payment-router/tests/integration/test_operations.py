"""Cancels, enquiries on request, two-person resolutions, and a database that was restored."""

import datetime as dt
from typing import Any

import pytest
from mospay_shared.contracts import (
    CancelPaymentV1,
    Contract,
    EnquirePaymentV1,
    Outgoing,
    PaymentStatus,
    ResolvePaymentV1,
    outgoing,
)
from mospay_shared.ids import new_id

from .conftest import Answering, Merchant, Stage, staged, success, until


def wish(kind: str, merchant: Merchant, payment_id: str, **other: Any) -> Outgoing:
    """Return the command that asks for this of a payment."""
    models: dict[str, type[Contract]] = {
        "cancel": CancelPaymentV1,
        "enquire": EnquirePaymentV1,
        "resolve": ResolvePaymentV1,
    }
    values = {
        "payment_id": payment_id,
        "client_id": merchant.client_id,
        "mode": "test",
        "requested_at": dt.datetime.now(dt.UTC),
    }
    source = "portal-api" if kind == "resolve" else "gateway"
    body = models[kind](**(values | other))
    return outgoing(f"payments.{kind}.v1", payment_id, body, source=source)


def resolution(version: int, **other: Any) -> dict[str, Any]:
    """Return what two people say."""
    return {
        "version": version,
        "outcome": "succeeded",
        "evidence": "line 14 of the statement",
        "proposed_by": "usr_a",
        "approved_by": "usr_b",
    } | other


async def cancelled(stage: Stage, payment_id: str, state: str) -> None:
    """Wait until a cancel request has ended like this."""

    async def ended() -> bool:
        found = await stage.database.fetchval(
            "select state from cancel_requests where payment_id = $1", payment_id
        )
        return bool(found == state)

    await until(ended)


async def blocked(stage: Stage, merchant: Merchant) -> None:
    """Leave this merchant's connector without a slot, as an open breaker does."""
    await stage.publish()
    stage.wiring.slots.cap(f"test/{merchant.microservice}", 0)


async def test_a_payment_that_waits_unsent_is_cancelled_with_zero_calls(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await blocked(stage, merchant)
    payment_id = await stage.pay(merchant)
    await until(lambda: stage.payment(payment_id))
    await stage.publish(wish("cancel", merchant, payment_id, reason="the payer left"))
    row = await stage.ends(payment_id, "cancelled")
    assert (row["reason_code"], row["reason_message"]) == ("cancelled", "the payer left")
    assert (await stage.attempt(payment_id))["state"] == "ended"
    assert provider.seen(payment_id) == 0
    assert [e["type"] for e in await stage.told(payment_id, 1)] == ["payment.cancelled.v1"]


async def test_a_cancel_of_a_sent_payment_is_a_request_and_no_outcome(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    provider.plays["payment"] = [lambda r: (200, {"outcome": "pending", "reference": r})]
    provider.plays["enquiry"] = [lambda r: (200, {"outcome": "pending", "reference": r})]
    payment_id = await stage.pay(merchant)
    await until(lambda: _seen(provider, payment_id))
    await stage.publish(wish("cancel", merchant, payment_id))
    await cancelled(stage, payment_id, "too_late")
    provider.plays["enquiry"] = [success]
    await stage.ends(payment_id, "succeeded")


async def _seen(provider: Answering, payment_id: str) -> bool:
    return provider.seen(payment_id) > 0


async def test_a_cancel_that_comes_before_its_payment_leaves_a_tombstone(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    command = stage.command(merchant)
    await stage.publish(wish("cancel", merchant, command.payment_id))

    async def kept() -> Any:
        return await stage.database.fetchval(
            "select 1 from cancel_requests where payment_id = $1", command.payment_id
        )

    await until(kept)
    await stage.process(command)
    await stage.ends(command.payment_id, "cancelled")
    assert provider.seen(command.payment_id) == 0
    await cancelled(stage, command.payment_id, "too_late")


async def test_another_clients_cancel_stops_nothing(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    other = await stage.merchant(provider.url)
    command = stage.command(merchant)
    await stage.publish(wish("cancel", other, command.payment_id))
    await stage.process(command)
    await stage.ends(command.payment_id, "succeeded")


async def test_an_enquiry_on_request_does_not_wait_for_the_schedule(
    router_env: dict[str, str], owner_url: str, infrastructure: Any, provider: Answering
) -> None:
    keys = infrastructure.keys
    async with staged(router_env, owner_url, keys, enquiry_seconds=[600.0]) as stage:
        merchant = await stage.merchant(provider.url)
        provider.plays["payment"] = [lambda _: (503, {})]
        payment_id = await stage.pay(merchant)
        await stage.ends(payment_id, "unknown")
        await stage.publish(wish("enquire", merchant, payment_id))
        await stage.ends(payment_id, "succeeded")


async def unknown(stage: Stage, provider: Answering) -> tuple[Merchant, str, int]:
    """Return a payment that is unknown, with its version."""
    merchant = await stage.merchant(provider.url)
    provider.plays["payment"] = [lambda _: (503, {})]
    provider.plays["enquiry"] = [lambda _: (503, {})]
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "unknown")
    return merchant, payment_id, row["version"]


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_two_people_end_an_unknown_payment(
    stage: Stage, provider: Answering, outcome: str
) -> None:
    merchant, payment_id, version = await unknown(stage, provider)
    said = resolution(version, outcome=outcome)
    await stage.publish(wish("resolve", merchant, payment_id, **said))
    await stage.ends(payment_id, outcome)
    found = await stage.database.fetchrow(
        "select evidence, source_id from payment_transitions "
        "where payment_id = $1 order by version desc limit 1",
        payment_id,
    )
    assert tuple(found) == (f"people_{outcome}", "usr_a+usr_b")


async def test_two_people_end_a_conflicted_payment(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    provider.plays["payment"] = [lambda r: success(r, "999")]
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "conflicted")
    await stage.publish(wish("resolve", merchant, payment_id, **resolution(row["version"])))
    row = await stage.ends(payment_id, "succeeded")
    assert row["attention"] is None


async def test_one_person_is_not_two(stage: Stage, provider: Answering) -> None:
    merchant, payment_id, version = await unknown(stage, provider)
    said = wish("resolve", merchant, payment_id, **resolution(version, approved_by="usr_a"))
    await stage.publish(said)

    async def dead() -> Any:
        return await stage.database.fetchval(
            "select reason from inbox where event_id = $1 and state = 'dead'", said.id
        )

    assert "two different people" in await until(dead)
    row = await stage.payment(payment_id)
    assert row is not None and row["status"] == "unknown"


async def test_a_resolution_of_an_older_version_changes_nothing(
    stage: Stage, provider: Answering
) -> None:
    merchant, payment_id, version = await unknown(stage, provider)
    await stage.publish(wish("resolve", merchant, payment_id, **resolution(version - 1)))

    async def kept() -> Any:
        return await stage.database.fetchrow(
            "select applied from resolutions where payment_id = $1", payment_id
        )

    assert (await until(kept))["applied"] is False
    row = await stage.payment(payment_id)
    assert row is not None and row["status"] == PaymentStatus.UNKNOWN


async def test_rule_14_a_restored_database_sends_nothing_that_was_accepted_before(
    router_env: dict[str, str], owner_url: str, infrastructure: Any, provider: Answering
) -> None:
    keys = infrastructure.keys
    async with staged(router_env, owner_url, keys) as stage:
        merchant = await stage.merchant(provider.url)
        before = [stage.command(merchant) for _ in range(3)]
        await stage.process(before[0])
        await stage.ends(before[0].payment_id, "succeeded")
        # the backup is older than these payments, and lies in another cluster
        lost = before[0].payment_id
        for table in ("payment_transitions", "attempts"):
            await stage.database.execute(f"delete from {table} where payment_id = $1", lost)
        await stage.database.execute("delete from payments where id = $1", lost)
        await stage.database.execute("delete from inbox where subject = $1", lost)
        await stage.database.execute("update epochs set identity = 'another:1:1'")
    provider.plays["enquiry"] = [
        success,
        lambda r: (200, {"outcome": "unknown", "found": False, "reference": r}),
    ]
    async with staged(router_env, owner_url, keys) as stage:
        await stage.process(before[0])
        row = await stage.ends(before[0].payment_id, "succeeded")
        assert row["version"] == 3, "unknown first, then what the provider says"
        await stage.process(before[1])
        row = await stage.ends(before[1].payment_id, "failed")
        assert row["reason_code"] == "never_sent"
        assert provider.seen(before[0].payment_id) == 1
        assert provider.seen(before[1].payment_id) == 0
        provider.plays["payment"] = [success]
        fresh = await stage.pay(merchant)
        await stage.ends(fresh, "succeeded")
        number = await stage.database.fetchval("select count(*) from epochs")
        assert number == 2
    async with staged(router_env, owner_url, keys) as stage:
        assert await stage.database.fetchval("select count(*) from epochs") == 2
        await stage.database.execute("delete from epochs where number > 1")
        await stage.database.execute("update epochs set identity = null")


async def test_a_message_that_names_nothing_is_dead(stage: Stage) -> None:
    said = outgoing(
        "payments.cancel.v1",
        "x",
        EnquirePaymentV1(
            payment_id=new_id("pay"), client_id="c", mode="test",
            requested_at=dt.datetime.now(dt.UTC),
        ),
        source="gateway",
    )  # fmt: skip
    broken = Outgoing(said.id, said.type, said.subject, True, said.body.replace(b"client_id", b"x"))
    await stage.publish(broken)

    async def dead() -> Any:
        return await stage.database.fetchval(
            "select reason from inbox where event_id = $1 and state = 'dead'", said.id
        )

    assert "client_id" in await until(dead)
