"""Refunds: reserved, then sent once, ended by evidence, never more than was paid."""

import asyncio
import datetime as dt
from typing import Any

import orjson
import pytest
from mospay_shared.contracts import Outgoing, RefundPaymentV1, outgoing
from mospay_shared.ids import new_id

from .conftest import Answering, Merchant, Stage, success, until


def gave_back(refund_id: str, amount: str = "400") -> tuple[int, dict[str, Any]]:
    """The answer of a provider that gave money back."""
    return 200, {
        "outcome": "succeeded",
        "reference": refund_id,
        "amount": amount,
        "provider_reference": f"back_{refund_id}",
    }


def declined(refund_id: str) -> tuple[int, dict[str, Any]]:
    """The answer of a provider that keeps the money."""
    return 200, {"outcome": "failed", "reference": refund_id, "reason_code": "declined"}


def silent(_: str) -> tuple[int, dict[str, Any]]:
    """An answer that says nothing."""
    return 503, {}


def command(
    merchant: Merchant, payment_id: str, amount: int = 400, **other: Any
) -> RefundPaymentV1:
    """Return the command that gives so much of a payment back."""
    values: dict[str, Any] = {
        "refund_id": new_id("ref"),
        "payment_id": payment_id,
        "client_id": merchant.client_id,
        "mode": "test",
        "amount_minor": amount,
        "currency": "RWF",
        "reason": "returned goods",
        "requested_at": dt.datetime.now(dt.UTC),
    }
    return RefundPaymentV1(**(values | other))


def message(told: RefundPaymentV1) -> Outgoing:
    """Return the message that carries a command."""
    return outgoing("payments.refund.v1", told.payment_id, told, source="gateway")


async def ends(stage: Stage, refund_id: str, status: str, attention: str | None = None) -> Any:
    """Wait until a refund has this status (and asks for a person so) and return its row."""
    last: list[Any] = [None]

    async def reached() -> Any:
        last[0] = row = await stage.database.fetchrow(
            "select * from refunds where id = $1", refund_id
        )
        there = row is not None and row["status"] == status
        return row if there and attention in (None, row["attention"]) else None

    try:
        return await until(reached)
    except AssertionError:
        shown = dict(last[0]) if last[0] else None
        raise AssertionError(f"{refund_id} is not {status}: {shown}") from None


async def purse(stage: Stage, payment_id: str) -> tuple[int, int, int]:
    """Return what of a payment is reserved, given back, and given back beyond the capture."""
    row = await stage.payment(payment_id)
    assert row is not None
    return row["refund_open_minor"], row["refunded_minor"], row["over_refunded_minor"]


@pytest.fixture
async def paid(stage: Stage, provider: Answering) -> tuple[Merchant, str]:
    """A merchant and a payment of 1000 RWF that succeeded."""
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    return merchant, payment_id


async def test_a_refund_is_sent_once_and_told_from_pending_to_succeeded(
    stage: Stage, provider: Answering, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    provider.plays["refund"] = [gave_back]
    told = command(merchant, payment_id)
    await stage.publish(message(told), message(told))
    row = await ends(stage, told.refund_id, "succeeded")
    assert (row["version"], row["provider_reference"]) == (2, f"back_{told.refund_id}")
    assert await purse(stage, payment_id) == (0, 400, 0)
    assert provider.seen(told.refund_id) == 1
    events = [e for e in await stage.told(payment_id, 3) if e["type"].startswith("refund.")]
    assert [e["type"] for e in events] == ["refund.pending.v1", "refund.succeeded.v1"]
    assert events[1]["data"]["refunded_minor"] == 400
    body = next(b for _, ref, _, b in provider.requests if ref == told.refund_id)
    assert body == {
        "refund_id": told.refund_id,
        "payment_reference": payment_id,
        "provider_reference": f"prov_{payment_id}",
        "amount": "400",
        "currency": "RWF",
        "reason": "returned goods",
    }


async def test_concurrent_refunds_never_reserve_more_than_was_paid(
    stage: Stage, provider: Answering, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    provider.plays["refund"] = [silent]
    provider.plays["refund_enquiry"] = [silent]
    commands = [command(merchant, payment_id, 300) for _ in range(10)]
    await asyncio.gather(*(stage.publish(message(c)) for c in commands))

    async def all_here() -> Any:
        rows = await stage.database.fetch("select * from refunds where payment_id = $1", payment_id)
        return rows if len(rows) == 10 else None

    rows = await until(all_here)
    refused = [r for r in rows if r["status"] == "failed"]
    assert [r["reason_code"] for r in refused] == ["refund_too_large"] * 7
    assert (await purse(stage, payment_id))[0] == 900
    assert all(provider.seen(r["id"]) == 0 for r in refused)


async def test_refund_that_was_not_sent_in_time_waits_before_it_is_claimed_again(
    stage: Stage,
    provider: Answering,
    paid: tuple[Merchant, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a process too busy to send within its leases claims the same ones for ever."""
    merchant, payment_id = paid
    provider.plays["refund"] = [gave_back]
    original = stage.wiring.refunds.claim

    async def pausing(*arguments: Any) -> Any:
        due = await original(*arguments)
        await asyncio.sleep(0.8 if due else 0)  # longer than the lease's spare time
        return due

    monkeypatch.setattr(stage.wiring.refunds, "claim", pausing)
    told = command(merchant, payment_id)
    await stage.publish(message(told))

    async def waits() -> Any:
        return await stage.database.fetchval(
            "select 1 from refunds where id = $1 and attempt_state = 'ready' and fence = 1 "
            "and next_action_at > clock_timestamp() + interval '0.2 s'",
            told.refund_id,
        )

    await until(waits)
    assert provider.seen(told.refund_id) == 0
    monkeypatch.undo()
    await ends(stage, told.refund_id, "succeeded")
    assert provider.seen(told.refund_id) == 1


async def test_an_unknown_refund_keeps_its_reservation_and_ends_by_enquiry(
    stage: Stage, provider: Answering, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    provider.plays["refund"] = [silent]
    provider.plays["refund_enquiry"] = [silent]
    told = command(merchant, payment_id, 700)
    await stage.publish(message(told))
    await ends(stage, told.refund_id, "unknown")
    assert await purse(stage, payment_id) == (700, 0, 0)
    second = command(merchant, payment_id, 400)
    await stage.publish(message(second))
    assert (await ends(stage, second.refund_id, "failed"))["reason_code"] == "refund_too_large"
    provider.plays["refund_enquiry"] = [lambda r: gave_back(r, "700")]
    await ends(stage, told.refund_id, "succeeded")
    assert await purse(stage, payment_id) == (0, 700, 0)
    sent = [p for p, ref, _, _ in provider.requests if ref == told.refund_id]
    assert sent.count("/collection/refund") == 1


async def test_a_declined_refund_gives_its_reservation_back(
    stage: Stage, provider: Answering, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    provider.plays["refund"] = provider.plays["refund_enquiry"] = [declined]
    told = command(merchant, payment_id, 1000)
    await stage.publish(message(told))
    assert (await ends(stage, told.refund_id, "failed"))["reason_code"] == "declined"
    assert await purse(stage, payment_id) == (0, 0, 0)


async def test_a_late_refund_beyond_the_capture_is_booked_and_marked(
    stage: Stage, provider: Answering, monkeypatch: pytest.MonkeyPatch, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    provider.plays["refund"] = provider.plays["refund_enquiry"] = [declined]
    first = command(merchant, payment_id, 1000)
    await stage.publish(message(first))
    await ends(stage, first.refund_id, "failed")
    provider.plays["refund"] = [lambda r: gave_back(r, "1000")]
    second = command(merchant, payment_id, 1000)
    await stage.publish(message(second))
    await ends(stage, second.refund_id, "succeeded")
    provider.plays["refund_enquiry"] = [lambda r: gave_back(r, "1000")]
    body = orjson.dumps({"reference": first.refund_id, "outcome": "succeeded", "amount": "1000"})
    await stage.callback(merchant.microservice, body, {})  # unsigned: it only asks
    row = await ends(stage, first.refund_id, "succeeded")
    assert (row["late"], row["over_refund"], row["attention"]) == (True, True, "over_refund")
    assert await purse(stage, payment_id) == (0, 2000, 1000)


async def test_a_refund_nobody_knows_after_its_lease_failed_unsent(
    stage: Stage, provider: Answering, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    provider.plays["refund"] = [silent]
    provider.plays["refund_enquiry"] = [
        lambda r: (200, {"outcome": "unknown", "found": False, "reference": r})
    ]
    told = command(merchant, payment_id)
    await stage.publish(message(told))
    assert (await ends(stage, told.refund_id, "failed"))["reason_code"] == "never_sent"
    assert await purse(stage, payment_id) == (0, 0, 0)


async def test_rule_02_an_enquiry_that_cannot_connect_is_no_news_of_the_refund(
    stage: Stage, provider: Answering, paid: tuple[Merchant, str]
) -> None:
    """It was the enquiry of which no byte left; the refund may well have been made."""
    merchant, payment_id = paid
    provider.plays["refund"] = [silent]
    provider.plays["refund_enquiry"] = [silent]
    told = command(merchant, payment_id)
    await stage.publish(message(told))
    await ends(stage, told.refund_id, "unknown")
    await stage.database.execute(  # where nobody listens
        "update payments set terms = replace(terms::text, $2, '127.0.0.1:1')::jsonb where id = $1",
        payment_id,
        provider.url.removeprefix("http://"),
    )
    asked = "select enquiries, status, reason_message from refunds where id = $1"
    before = await stage.database.fetchrow(asked, told.refund_id)

    async def refused_twice() -> Any:
        row = await stage.database.fetchrow(asked, told.refund_id)
        over = row["status"] != "unknown" or row["enquiries"] >= before["enquiries"] + 2
        return row if over else None

    row = await until(refused_twice)
    assert row["status"] == "unknown", row["reason_message"]


async def test_another_amount_than_asked_for_needs_a_person(
    stage: Stage, provider: Answering, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    provider.plays["refund"] = [lambda r: gave_back(r, "40")]
    provider.plays["refund_enquiry"] = [lambda r: gave_back(r, "40")]
    told = command(merchant, payment_id)
    await stage.publish(message(told))
    await ends(stage, told.refund_id, "unknown", attention="amount_mismatch")
    assert (await purse(stage, payment_id))[0] == 400


async def test_a_payment_that_did_not_succeed_is_not_refunded(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    provider.plays["payment"] = [lambda r: (200, {"outcome": "failed", "reference": r})]
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "failed")
    told = command(merchant, payment_id)
    await stage.publish(message(told))
    assert (await ends(stage, told.refund_id, "failed"))["reason_code"] == "not_refundable"
    assert provider.seen(told.refund_id) == 0


async def test_functions_without_a_refund_refuse_it(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    await stage.database.execute(
        'update payments set terms = terms || \'{"refund": ""}\' where id = $1', payment_id
    )
    told = command(merchant, payment_id)
    await stage.publish(message(told))
    assert (await ends(stage, told.refund_id, "failed"))["reason_code"] == "refund_not_supported"


async def test_another_clients_refund_is_dead_and_reserves_nothing(
    stage: Stage, paid: tuple[Merchant, str]
) -> None:
    merchant, payment_id = paid
    told = message(command(merchant, payment_id, client_id=new_id("cli")))
    await stage.publish(told)

    async def dead() -> Any:
        return await stage.database.fetchval(
            "select reason from inbox where event_id = $1 and state = 'dead'", told.id
        )

    assert "another client" in await until(dead)
    assert await purse(stage, payment_id) == (0, 0, 0)


async def test_a_refund_that_arrives_before_its_payment_waits_for_it(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    provider.plays["refund"] = [gave_back]
    waiting = stage.command(merchant)
    told = command(merchant, waiting.payment_id)
    await stage.publish(message(told))

    async def waits() -> Any:
        return await stage.database.fetchval(
            "select 1 from inbox where subject = $1 and state = 'retry'", waiting.payment_id
        )

    await until(waits)
    provider.plays["payment"] = [success]
    await stage.process(waiting)
    await stage.ends(waiting.payment_id, "succeeded")
    await ends(stage, told.refund_id, "succeeded")


async def test_the_database_itself_refuses_reservations_beyond_the_capture(
    stage: Stage, paid: tuple[Merchant, str]
) -> None:
    import asyncpg

    with pytest.raises(asyncpg.CheckViolationError):
        await stage.database.execute(
            "update payments set refund_open_minor = 1001 where id = $1", paid[1]
        )
