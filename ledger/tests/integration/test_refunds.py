"""refund.* into the books: reserved, given back, released; once, whatever order it is told in."""

import itertools
from typing import Any

import orjson
import pytest
import structlog
from mospay_ledger.usecases import posting
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import PaymentEventV1, RefundEventV1
from mospay_shared.ids import new_id

from .conftest import (
    another_attempt,
    balances,
    booked,
    entries,
    event,
    inbox_row,
    refund,
    send,
    send_raw,
    succeeded,
    until,
    wire,
)


async def post(ledger: Service, *bodies: PaymentEventV1 | RefundEventV1) -> list[Any]:
    """Book news in one transaction."""
    async with ledger.database.transaction() as tx:
        return await posting.post_events(tx, ledger.relay, [event(body) for body in bodies])


def kinds(found: list[Any]) -> list[str]:
    """The kinds of entries, in order."""
    return [row["kind"] for row in found]


async def test_refund_is_reserved_and_given_back(ledger: Service) -> None:
    paid = succeeded()
    asked = refund(paid, 500, "pending")
    done = refund(paid, 500, "succeeded", refund_id=asked.refund_id, version=2)
    await send(ledger, wire(paid), wire(asked))
    await booked(ledger, paid.payment_id, 2)
    assert await balances(ledger, paid.client_id) == {"pending": -970, "reserve": -500}
    await send(ledger, wire(done))
    found = await booked(ledger, paid.payment_id, 3)
    assert kinds(found) == ["capture", "refund_reserved", "refund"]
    assert [row["refund_id"] for row in found] == [None, asked.refund_id, asked.refund_id]
    assert await balances(ledger, paid.client_id) == {"pending": -970}


async def test_failed_refund_gives_its_reservation_back(ledger: Service) -> None:
    paid = succeeded()
    asked = refund(paid, 500, "pending")
    failed = refund(paid, 500, "failed", refund_id=asked.refund_id, version=2)
    await post(ledger, paid)
    await post(ledger, asked)
    await post(ledger, failed)
    assert await balances(ledger, paid.client_id) == {"pending": -1470}


async def test_unknown_refund_keeps_its_reservation(ledger: Service) -> None:
    paid = succeeded()
    asked = refund(paid, 500, "pending")
    unknown = refund(paid, 500, "unknown", refund_id=asked.refund_id, version=2)
    await post(ledger, paid)
    for news in (unknown, asked, unknown):
        await post(ledger, news)
    assert kinds(await entries(ledger, paid.payment_id)) == ["capture", "refund_reserved"]
    assert await balances(ledger, paid.client_id) == {"pending": -970, "reserve": -500}


async def test_late_success_of_a_failed_refund_is_booked_and_marked(ledger: Service) -> None:
    paid = succeeded()
    asked = refund(paid, 500, "pending")
    same = {"refund_id": asked.refund_id}
    await post(ledger, paid)
    await post(ledger, asked)
    await post(ledger, refund(paid, 500, "failed", **same))
    await post(ledger, refund(paid, 500, "succeeded", late=True, **same))
    found = await entries(ledger, paid.payment_id)
    assert kinds(found) == ["capture", "refund_reserved", "refund_released", "refund"]
    assert found[-1]["late"]
    assert await balances(ledger, paid.client_id) == {"pending": -970}


@pytest.mark.parametrize("end", ["succeeded", "failed"])
@pytest.mark.parametrize("together", [True, False])
async def test_every_order_and_repeat_of_a_refund_ends_the_same(
    ledger: Service, end: str, together: bool
) -> None:
    after = {"succeeded": {"pending": -970}, "failed": {"pending": -1470}}[end]
    for order in itertools.permutations(["paid", "pending", "unknown", end]):
        paid = succeeded()
        refund_id = new_id("ref")
        news: dict[str, PaymentEventV1 | RefundEventV1] = {"paid": paid}
        for status in ("pending", "unknown", end):
            news[status] = refund(paid, 500, status, refund_id=refund_id)
        told = [news[name] for name in order]
        if together:
            await post(ledger, *told, *told)
        else:
            for one in (*told, *told):
                await post(ledger, one)
        assert await balances(ledger, paid.client_id) == after, order


async def test_refund_of_more_than_there_is_becomes_debt_that_the_next_capture_pays(
    ledger: Service,
) -> None:
    paid = succeeded()
    await post(ledger, paid)
    await post(ledger, refund(paid, 1500, "pending"))
    assert await balances(ledger, paid.client_id) == {"receivable": 30, "reserve": -1500}
    await post(ledger, succeeded(client_id=paid.client_id))
    assert await balances(ledger, paid.client_id) == {"pending": -1440, "reserve": -1500}


async def test_over_refund_waits_in_suspense_and_is_alerted(ledger: Service) -> None:
    paid = succeeded(currency="XPF")
    one, two = refund(paid, 1500, "succeeded"), refund(paid, 600, "succeeded")
    two = two.model_copy(update={"over_refund": True, "refunded_minor": 2100, "late": True})
    with structlog.testing.capture_logs() as logs:
        await post(ledger, paid, one, two)
    assert kinds(await entries(ledger, paid.payment_id)).count("over_refund") == 1
    assert [log["refund_id"] for log in logs if log["event"] == "over_refund"] == [two.refund_id]
    async with ledger.database.transaction() as tx:
        waiting = await tx.value(
            "select balance_minor from accounts where id = 'operator:XPF:test:suspense'"
        )
    assert waiting == 600
    assert await balances(ledger, paid.client_id, "XPF") == {"receivable": 30}


async def test_over_refund_gives_its_reservation_back_to_the_client(ledger: Service) -> None:
    paid = succeeded()
    asked = refund(paid, 600, "pending")
    done = refund(paid, 600, "succeeded", refund_id=asked.refund_id)
    done = done.model_copy(update={"over_refund": True, "refunded_minor": 1700})
    await post(ledger, paid)
    await post(ledger, asked)
    (entry,) = await post(ledger, done)
    assert await balances(ledger, paid.client_id) == {"pending": -1070}  # 200 of 600 did not fit
    assert (entry.kind, entry.fee_base_minor) == ("over_refund", 400)


async def test_refund_of_a_payment_taken_twice_comes_from_what_is_due(ledger: Service) -> None:
    paid = succeeded()
    await post(ledger, paid, another_attempt(paid))
    asked = refund(paid, 1500, "pending")
    await post(ledger, asked)
    assert await balances(ledger, paid.client_id) == {"pending": -1470, "reserve": -1500}
    await post(ledger, refund(paid, 1500, "failed", refund_id=asked.refund_id))
    assert await balances(ledger, paid.client_id) == {"pending": -1470, "refund_due": -1500}
    await post(ledger, refund(paid, 1500, "succeeded", refund_id=asked.refund_id, late=True))
    assert await balances(ledger, paid.client_id) == {"pending": -1470}


async def test_unknown_field_is_ignored(ledger: Service) -> None:
    paid = succeeded()
    message = orjson.loads(wire(refund(paid, 100, "pending")))
    message["data"]["new_in_v1_9"] = {"a": 1}
    await send(ledger, wire(paid), orjson.dumps(message))
    await booked(ledger, paid.payment_id, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount_minor", "all"), ("currency", "rwf"), ("mode", None), ("refund_id", ""),
     ("status", "reversed")],
)  # fmt: skip
async def test_malformed_or_unknown_status_is_parked_with_its_body(
    ledger: Service, field: str, value: object
) -> None:
    paid, good = succeeded(), succeeded()
    message = orjson.loads(wire(refund(paid, 100, "pending")))
    message["data"][field] = value
    await send(ledger, orjson.dumps(message), wire(good))
    await booked(ledger, good.payment_id)
    assert field in (await inbox_row(ledger, paid.payment_id, "dead"))["reason"]
    async with ledger.database.transaction() as tx:
        body = await tx.value(
            "select body from inbox where subject = $1 and state = 'dead'", paid.payment_id
        )
    assert orjson.loads(body)["data"][field] == value


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount_minor": 0}, "nothing_to_post"),
        ({"amount_minor": 2**63 - 1}, "amount_too_large"),
        ({"refund_id": "ref_\0"}, "not_storable"),
        ({"provider_reference": "x\0"}, "not_storable"),
        ({"currency": "USD"}, "foreign_refund"),
        ({"client_id": "cli_other"}, "foreign_refund"),
    ],
)
async def test_refund_that_can_not_be_booked_is_dead_and_the_rest_of_its_pack_posts(
    ledger: Service, changes: dict[str, Any], reason: str
) -> None:
    paid, good = succeeded(), succeeded()
    await post(ledger, paid)
    bad = refund(paid, 100, "succeeded").model_copy(update=changes)
    await send_raw(ledger, b"[" + wire(good) + b"," + wire(bad) + b"]")
    await booked(ledger, good.payment_id)
    assert reason in (await inbox_row(ledger, paid.payment_id, "dead"))["reason"]
    assert kinds(await entries(ledger, paid.payment_id)) == ["capture"]


async def test_type_and_status_that_disagree_are_not_believed(ledger: Service) -> None:
    paid = succeeded()
    message = orjson.loads(wire(refund(paid, 100, "pending")))
    message["type"] = "refund.succeeded.v1"
    await send(ledger, orjson.dumps(message))
    assert "not_proven" in (await inbox_row(ledger, paid.payment_id, "dead"))["reason"]


async def test_refund_told_with_another_amount_than_reserved_is_dead(ledger: Service) -> None:
    paid = succeeded()
    asked = refund(paid, 500, "pending")
    await post(ledger, paid)
    await post(ledger, asked)
    await send(ledger, wire(refund(paid, 400, "succeeded", refund_id=asked.refund_id)))
    assert "foreign_refund" in (await inbox_row(ledger, paid.payment_id, "dead"))["reason"]
    assert await balances(ledger, paid.client_id) == {"pending": -970, "reserve": -500}


async def test_capture_resolved_by_two_people_is_marked(ledger: Service) -> None:
    paid = succeeded(previous_status="conflicted", reason_code="people_succeeded")
    await send(ledger, wire(paid))
    (row,) = await booked(ledger, paid.payment_id)
    assert (row["resolved"], row["reason"]) == (True, "people_succeeded")


@pytest.mark.parametrize(
    ("end", "left"), [("succeeded", {"pending": -970}), ("failed", {"pending": -1470})]
)
async def test_refund_ended_by_two_people_is_booked_once_and_marked(
    ledger: Service, end: str, left: dict[str, int]
) -> None:
    paid = succeeded()
    asked = refund(paid, 500, "unknown", version=2)
    said = refund(paid, 500, end, refund_id=asked.refund_id, version=3, resolved=True)
    await send(ledger, wire(paid), wire(asked))
    await booked(ledger, paid.payment_id, 2)
    await send(ledger, wire(said), wire(said))
    found = await booked(ledger, paid.payment_id, 3)
    assert [row["resolved"] for row in found] == [False, False, True]
    await post(ledger, said)
    assert len(await entries(ledger, paid.payment_id)) == 3
    assert await balances(ledger, paid.client_id) == left


async def test_success_proven_after_two_people_said_failed_is_booked_as_late(
    ledger: Service,
) -> None:
    paid = succeeded()
    asked = refund(paid, 500, "unknown", version=2)
    same = {"refund_id": asked.refund_id}
    await post(ledger, paid, asked)
    await post(ledger, refund(paid, 500, "failed", version=3, resolved=True, **same))
    await post(ledger, refund(paid, 500, "succeeded", version=4, late=True, **same))
    found = await entries(ledger, paid.payment_id)
    assert [(row["kind"], row["resolved"], row["late"]) for row in found[2:]] == [
        ("refund_released", True, False), ("refund", False, True),
    ]  # fmt: skip
    assert await balances(ledger, paid.client_id) == {"pending": -970}


async def test_refunds_and_captures_of_many_packs_end_in_true_balances(ledger: Service) -> None:
    client = new_id("cli")
    paid = [succeeded(client_id=client) for _ in range(20)]
    asked = [refund(body, 300, "pending") for body in paid]
    done = [
        refund(body, 300, "succeeded", refund_id=ask.refund_id)
        for body, ask in zip(paid, asked, strict=True)
    ]
    news = [wire(body) for body in (*done, *paid, *asked)]
    for start in range(0, len(news), 7):
        await send_raw(ledger, b"[" + b",".join(news[start : start + 9]) + b"]")

    async def ended() -> bool:
        return await balances(ledger, client) == {"pending": -20 * 1170}

    await until(ended)
