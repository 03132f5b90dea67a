"""payment.succeeded into the books: once, whole, whatever order or repeats it arrives in."""

from typing import Any

import aio_pika
import orjson
import pytest
from mospay_ledger.domain import AMOUNT_LIMIT_MINOR
from mospay_ledger.usecases import posting
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import LedgerEntryPostedV1, PaymentStatus

from .conftest import (
    another_attempt,
    booked,
    entries,
    event,
    inbox_row,
    send,
    send_raw,
    succeeded,
    until,
    wire,
)


async def test_capture_is_booked_with_its_fee_and_plan(ledger: Service) -> None:
    body = succeeded()
    await send(ledger, wire(body))
    (row,) = await booked(ledger, body.payment_id)
    assert (row["kind"], row["amount_minor"], row["fee_minor"]) == ("capture", 1500, 30)
    assert (row["fee_plan_id"], row["fee_plan_version"]) == ("default_test", 1)
    assert (row["accepted_at"], row["occurred_at"]) == (body.accepted_at, body.occurred_at)


async def test_repeated_event_posts_once(ledger: Service) -> None:
    body, after = succeeded(), succeeded()
    same = wire(body)
    await send(ledger, same, same, same, wire(after))
    await send_raw(ledger, b"[" + same + b"," + same + b"]")
    await booked(ledger, after.payment_id)
    later = succeeded()
    await send(ledger, wire(later))
    await booked(ledger, later.payment_id)
    assert len(await entries(ledger, body.payment_id)) == 1


async def test_two_events_of_one_effect_post_once_in_either_order(ledger: Service) -> None:
    body, after = succeeded(version=2), succeeded()
    newer = body.model_copy(update={"version": 5})
    await send(ledger, wire(newer), wire(body), wire(after))
    await booked(ledger, after.payment_id)
    assert len(await entries(ledger, body.payment_id)) == 1


async def test_second_capture_of_a_payment_is_owed_back(ledger: Service) -> None:
    body = succeeded()
    await send(ledger, wire(body), wire(another_attempt(body)))
    found = await booked(ledger, body.payment_id, 2)
    assert sorted(row["kind"] for row in found) == ["capture", "second_capture"]
    async with ledger.database.transaction() as tx:
        owed = await tx.value(
            "select balance_minor from accounts where id = $1",
            f"client:{body.client_id}:RWF:test:refund_due",
        )
    assert owed == -1500


async def test_late_success_is_booked(ledger: Service) -> None:
    body = succeeded(late=True, previous_status=PaymentStatus.FAILED)
    await send(ledger, wire(body))
    assert (await booked(ledger, body.payment_id))[0]["late"]


async def test_new_entry_is_told_with_the_postings_it_has(ledger: Service) -> None:
    body = succeeded()
    connection = await aio_pika.connect(ledger.broker.url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("mospay.events", "ledger.entry_posted.v1")
        sent = wire(body)
        await send(ledger, sent)
        (row,) = await booked(ledger, body.payment_id)

        async def told() -> Any:
            message = await queue.get(no_ack=True, fail=False)
            events = orjson.loads(message.body) if message else []
            return next((e for e in events if e["subject"] == body.payment_id), None)

        envelope = await until(told)
    news = LedgerEntryPostedV1.model_validate(envelope["data"])
    assert envelope["causation_id"] == orjson.loads(sent)["id"]
    assert (news.entry_id, news.posted_at) == (row["id"], row["posted_at"])
    assert (news.fee_minor, news.net_minor) == (30, 1470)
    assert sum(side.amount_minor for side in news.postings) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount_minor": 2**63 - 1}, "amount_too_large"),
        ({"amount_minor": 0}, "nothing_to_post"),
        ({"status": PaymentStatus.FAILED}, "not_proven"),
        ({"client_id": "cli_\0"}, "not_storable"),
        ({"attempt_id": "att_\0"}, "not_storable"),
        ({"provider_reference": "a\x1fb"}, "not_storable"),
        ({"provider_reference": "\x1e"}, "not_storable"),
    ],
)
async def test_poisoned_event_is_dead_with_its_reason_and_the_rest_of_its_pack_posts(
    ledger: Service, changes: dict[str, Any], reason: str
) -> None:
    bad, before, after = succeeded(**changes), succeeded(), succeeded()
    await send_raw(ledger, b"[" + b",".join(map(wire, (before, bad, after))) + b"]")
    await booked(ledger, before.payment_id)
    await booked(ledger, after.payment_id)
    assert reason in (await inbox_row(ledger, bad.payment_id, "dead"))["reason"]
    assert await entries(ledger, bad.payment_id) == []


@pytest.mark.parametrize("text", ["", "{}", "NULL", "a,b", '"', "\\", "é\n\t'"])
async def test_texts_are_stored_as_they_came(ledger: Service, text: str) -> None:
    body = succeeded(provider_reference=text, client_id=f"cli_{succeeded().client_id}'{{,}}")
    await send(ledger, wire(body))
    (row,) = await booked(ledger, body.payment_id)
    assert (row["provider_reference"], row["client_id"]) == (text or None, body.client_id)


async def test_balance_beyond_64_bits_is_dead_and_other_providers_go_on(ledger: Service) -> None:
    # A currency of its own, so that only this test's accounts are full.
    full = {"amount_minor": AMOUNT_LIMIT_MINOR, "currency": "XPF", "microservice": "full"}
    for _ in range(5):
        async with ledger.database.transaction() as tx:
            batch = [event(succeeded(**full)) for _ in range(200)]
            await posting.post_events(tx, ledger.relay, batch)
    beyond, good = succeeded(**full), succeeded()
    await send_raw(ledger, b"[" + wire(beyond) + b"," + wire(good) + b"]")
    await booked(ledger, good.payment_id)
    assert "amount_too_large" in (await inbox_row(ledger, beyond.payment_id, "dead"))["reason"]
    assert await entries(ledger, beyond.payment_id) == []


async def test_unknown_field_is_ignored(ledger: Service) -> None:
    body = succeeded()
    message = orjson.loads(wire(body))
    message["data"]["new_in_v1_7"] = True
    message["newattribute"] = 1
    await send(ledger, orjson.dumps(message))
    await booked(ledger, body.payment_id)


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount_minor", "a lot"), ("amount_minor", 2**63), ("currency", "rwf"), ("mode", "demo"),
     ("status", "blessed"), ("accepted_at", None)],
)  # fmt: skip
async def test_malformed_body_is_dead_naming_the_field_and_the_consumer_lives_on(
    ledger: Service, field: str, value: object
) -> None:
    bad, good = succeeded(), succeeded()
    message = orjson.loads(wire(bad))
    message["data"][field] = value
    await send_raw(ledger, b"not json", b"{}", b"[]")
    await send(ledger, orjson.dumps(message), wire(good))
    await booked(ledger, good.payment_id)
    assert field in (await inbox_row(ledger, bad.payment_id, "dead"))["reason"]


async def test_missing_fee_plan_parks_the_event_where_a_person_sees_it(ledger: Service) -> None:
    body = succeeded(accepted_at="1999-12-31T00:00:00Z")
    await send(ledger, wire(body))
    assert "fee_plan_missing" in (await inbox_row(ledger, body.payment_id, "retry"))["reason"]
    assert await entries(ledger, body.payment_id) == []


async def test_live_and_test_of_one_client_stay_apart(ledger: Service) -> None:
    live, test = succeeded(mode="live"), succeeded()
    test = test.model_copy(update={"client_id": live.client_id})
    await send_raw(ledger, b"[" + wire(live) + b"," + wire(test) + b"]")
    await booked(ledger, live.payment_id)
    await booked(ledger, test.payment_id)
    async with ledger.database.transaction() as tx:
        balances = await tx.fetch(
            "select mode, balance_minor from accounts where client_id = $1 order by mode",
            live.client_id,
        )
        mixed = await tx.value(
            "select count(*) from postings p join journal_entries e on e.id = p.entry_id "
            "join accounts a on a.id = p.account_id where e.mode <> a.mode"
        )
    assert [tuple(row) for row in balances] == [("live", -1470), ("test", -1470)]
    assert mixed == 0
