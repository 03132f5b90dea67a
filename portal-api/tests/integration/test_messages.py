"""Messages in, over the real broker: valid, repeated, out of order, unknown field, malformed."""

import asyncio
from typing import Any

import aio_pika
import orjson
from mospay_shared.contracts import SnapshotRequestedV1, outgoing
from mospay_shared.ids import new_id

from .conftest import Portal
from .test_live import news, stream


async def publish(portal: Portal, exchange: str, wire_type: str, *events: Any) -> None:
    """Publish one pack as another service does."""
    connection = await aio_pika.connect(portal.service.broker.url)
    async with connection, connection.channel() as channel:
        target = await channel.get_exchange(exchange)
        await target.publish(aio_pika.Message(orjson.dumps(list(events))), wire_type)


async def until(portal: Portal, sql: str, *values: Any, count: int = 1) -> list[Any]:
    """Wait until a statement returns so many rows."""
    async with asyncio.timeout(10):
        while len(rows := await portal.rows(sql, *values)) < count:
            await asyncio.sleep(0.02)
    return rows


def asks(request_id: str, **more: Any) -> dict[str, Any]:
    """A request for a snapshot on the wire."""
    body = SnapshotRequestedV1(request_id=request_id, requested_by="ledger", credentials=False)
    wire_type = "directory.snapshot_requested.v1"
    event: dict[str, Any] = orjson.loads(outgoing(wire_type, request_id, body, source="t").body)
    event["data"] |= more
    return event


PARTS = "select body from outbox where subject = $1 and type = 'directory.snapshot_part.v1'"


async def test_snapshot_is_answered_once_however_often_its_request_arrives(portal: Portal) -> None:
    event = asks(new_id("snp"), field_of_tomorrow=1)
    after = asks(new_id("snp"))
    wire_type = "directory.snapshot_requested.v1"
    await publish(portal, "mospay.commands", wire_type, event)
    await publish(portal, "mospay.commands", wire_type, event)
    await publish(portal, "mospay.commands", wire_type, after)
    await until(portal, PARTS, after["subject"])
    rows = await portal.rows(PARTS, event["subject"])
    parts = [orjson.loads(row["body"]) for row in rows]
    assert len({part["data"]["part"] for part in parts}) == len(parts)
    assert all(part["causation_id"] == event["id"] and part["traceparent"] for part in parts)


async def test_malformed_request_is_dead_with_its_reason_and_the_next_is_answered(
    portal: Portal,
) -> None:
    bad, good = asks(new_id("snp")), asks(new_id("snp"))
    del bad["data"]["requested_by"]
    await publish(portal, "mospay.commands", "directory.snapshot_requested.v1", bad, good)
    await until(portal, PARTS, good["subject"])
    rows = await until(portal, "select state, reason from inbox where subject = $1", bad["subject"])
    assert rows[0]["state"] == "dead" and "requested_by" in rows[0]["reason"]


async def test_news_arrive_in_browsers_once_and_poison_stays_out(portal: Portal) -> None:
    admin = await portal.admin()
    event, later = news("cli_m", version=3), news("cli_m")
    wire = [e.envelope.model_dump(mode="json") for e in (event, later)]
    broken = {**wire[0], "id": new_id("evt"), "data": {**wire[0]["data"], "status": "dreaming"}}
    async with stream(portal, admin) as opened:
        for one in (wire[0], wire[0], broken, wire[1]):
            await publish(portal, "mospay.events", "payment.succeeded.v1", one)
        await opened.until(lambda: later.data.payment_id in opened.payments)
    assert opened.payments == [event.data.payment_id, later.data.payment_id]
    rows = await portal.rows("select state, reason from inbox where event_id = $1", broken["id"])
    (row,) = rows  # a later version's word is noted and ignored: it is no money here
    assert row["state"] == "done" and "status" in row["reason"]


async def test_older_news_that_arrives_later_does_not_hide_the_newer(portal: Portal) -> None:
    admin = await portal.admin()
    new = news("cli_m", version=3)
    old = news("cli_m", version=1, payment_id=new.data.payment_id, status="processing")
    for event in (new, old):
        wire = event.envelope.model_dump(mode="json")
        await publish(portal, "mospay.events", "payment.succeeded.v1", wire)
    await until(
        portal, "select 1 from stream_rows where payment_id = $1", new.data.payment_id, count=2
    )
    body = (await admin.get(f"/payments/{new.data.payment_id}")).json()
    assert (body["status"], body["version"]) == ("succeeded", 3)
