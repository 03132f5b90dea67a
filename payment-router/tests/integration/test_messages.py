"""Messages in: whatever arrives, the consumer lives on and says what it made of it."""

import datetime as dt
from typing import Any

import aio_pika
import asyncpg
import orjson
import pytest
from mospay_shared.contracts import outgoing
from mospay_shared.ids import new_id

from .conftest import Answering, Stage, until


async def inbox_row(stage: Stage, event_id: str, state: str) -> asyncpg.Record:
    """Wait for an event's inbox row in a state."""

    async def found() -> Any:
        return await stage.database.fetchrow(
            "select * from inbox where event_id = $1 and state = $2", event_id, state
        )

    row: asyncpg.Record = await until(found)
    return row


async def raw(stage: Stage, body: bytes, wire_type: str = "payments.process.v1") -> None:
    exchange = await stage.channel.get_exchange("mospay.commands", ensure=False)
    await exchange.publish(aio_pika.Message(body), wire_type)


def message(stage: Stage, command: Any) -> dict[str, Any]:
    made = outgoing("payments.process.v1", command.payment_id, command, source="gateway")
    decoded: dict[str, Any] = orjson.loads(made.body)
    return decoded


async def test_unknown_fields_are_ignored(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    command = stage.command(merchant)
    event = message(stage, command)
    event["data"]["added_in_v1_2"] = {"x": 1}
    event["extension"] = "y"
    await raw(stage, orjson.dumps([event]))
    await stage.ends(command.payment_id, "succeeded")


async def test_malformed_command_is_dead_with_its_reason_and_its_pack_goes_on(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    good, bad = stage.command(merchant), stage.command(merchant)
    broken = message(stage, bad)
    broken["data"]["amount_minor"] = -5
    await raw(stage, orjson.dumps([broken, message(stage, good)]))
    await stage.ends(good.payment_id, "succeeded")
    row = await inbox_row(stage, broken["id"], "dead")
    assert "amount_minor" in row["reason"]
    assert await stage.payment(bad.payment_id) is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\x00\xff", b'["x"]', b'[{"id": 1}]'])
async def test_nonsense_leaves_the_consumer_alive(
    stage: Stage, provider: Answering, body: bytes
) -> None:
    merchant = await stage.merchant(provider.url)
    await raw(stage, body)
    await stage.ends(await stage.pay(merchant), "succeeded")


async def test_nul_character_is_dead_at_once(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    command = stage.command(merchant, reference="a\x00b")
    event = message(stage, command)
    good = stage.command(merchant)
    await raw(stage, orjson.dumps([event, message(stage, good)]))
    assert "NUL" in (await inbox_row(stage, event["id"], "dead"))["reason"]
    await stage.ends(good.payment_id, "succeeded")


async def test_command_ahead_of_the_directory_waits_for_it(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    ahead = stage.command(
        merchant, service_id=new_id("srv"), directory_version=merchant.version + 10_000
    )
    event = message(stage, ahead)
    await raw(stage, orjson.dumps([event]))
    row = await inbox_row(stage, event["id"], "retry")
    assert "NotYetKnown" in row["reason"]
    assert await stage.payment(ahead.payment_id) is None
    # others are not held up by it
    await stage.ends(await stage.pay(merchant), "succeeded")


async def test_command_right_after_its_directory_events_is_paid(
    stage: Stage, provider: Answering
) -> None:
    for _ in range(3):
        merchant = await stage.merchant(provider.url, wait=False)
        await stage.ends(await stage.pay(merchant), "succeeded")


async def test_unknown_service_that_the_directory_should_have_is_refused(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    await stage.database.execute(
        "insert into directory_snapshot (request_id, credentials, parts_done) "
        "values ($1, false, true)",
        new_id("snp"),
    )

    async def refused() -> bool:
        payment_id = await stage.pay(merchant, service_id=new_id("srv"), directory_version=0)
        row = await until(lambda: stage.payment(payment_id))
        return bool(row["reason_code"] == "service_unknown")

    await until(refused)


async def test_events_on_the_wire_follow_the_contract(stage: Stage, provider: Answering) -> None:
    from mospay_shared.contracts import MESSAGES, Envelope

    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    (told,) = await stage.told(payment_id, 1)
    envelope = Envelope.model_validate(told)
    body = MESSAGES[envelope.type].model.model_validate(envelope.data)
    assert set(told["data"]) == set(type(body).model_fields)
    assert told["causation_id"].startswith("evt_")
    assert "fields" not in told["data"]
    assert "+250780000000" not in orjson.dumps(told).decode()


async def test_redriven_command_next_day_makes_no_call(stage: Stage, provider: Answering) -> None:
    merchant = await stage.merchant(provider.url)
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    payment_id = await stage.pay(merchant, accepted_at=yesterday, send_before=yesterday)
    await stage.ends(payment_id, "expired")
    assert provider.seen(payment_id) == 0
