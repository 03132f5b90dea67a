"""Outbox → broker → inbox: what is committed arrives once, what fails is seen and never blocks."""

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import aio_pika
import orjson
import pytest
from mospay_shared.chassis.broker import EVENTS, QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Permanent, Subscription
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import Event, PaymentEventV1, PaymentStatus, outgoing
from mospay_shared.ids import new_id

from .conftest import Stage, running, until


def payment_event(client_id: str = "cli_1", **changes: Any) -> PaymentEventV1:
    """A valid body."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "payment_id": new_id("pay"),
        "client_id": client_id,
        "mode": "test",
        "app_id": "app",
        "service_id": "svc_1",
        "microservice": "simulator",
        "service": "collection",
        "route": "payment",
        "amount_minor": 1000,
        "currency": "RWF",
        "status": PaymentStatus.SUCCEEDED,
        "version": 2,
        "reference": "r",
        "accepted_at": now,
        "occurred_at": now,
    }
    return PaymentEventV1(**(values | changes))


def build(stage: Stage, queue: str, on_event: Callable[[str], None] | None = None) -> Service:
    """A service that notes each succeeded payment in its table."""
    service = stage.service()

    async def on_succeeded(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        for event in events:
            if on_event:
                on_event(event.data.payment_id)
            await tx.run(
                "insert into effects (id, client_id) values ($1, $2)",
                event.data.payment_id,
                event.data.client_id,
            )

    spec = QueueSpec(queue, events=("payment.succeeded.v1",))
    service.subscribe(Subscription(spec, {"payment.succeeded.v1": on_succeeded}))
    return service


async def effects(service: Service, payment_id: str) -> int:
    """Count the effects of a payment."""
    async with service.database.transaction() as tx:
        return int(await tx.value("select count(*) from effects where id = $1", payment_id))


async def inbox_row(service: Service, event_id: str) -> Any:
    """Return an event's inbox row."""
    async with service.database.transaction() as tx:
        return await tx.row("select * from inbox where event_id = $1", event_id)


async def send(stage: Stage, body: bytes, key: str = "payment.succeeded.v1") -> None:
    """Publish raw bytes as a stranger would."""
    connection = await aio_pika.connect(stage.settings.broker_url.get_secret_value())
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange(EVENTS)
        await exchange.publish(aio_pika.Message(body), key)


async def test_committed_event_arrives_and_a_rolled_back_one_does_not(stage: Stage) -> None:
    service = build(stage, "chassis.one")
    await service.broker.declare([s.queue for s in service.subscriptions])
    kept, lost = payment_event(), payment_event()
    async with running(service):
        with pytest.raises(RuntimeError):
            async with service.database.transaction() as tx:
                event = outgoing("payment.succeeded.v1", lost.payment_id, lost, source="test")
                await service.relay.enqueue(tx, [event])
                raise RuntimeError
        async with service.database.transaction() as tx:
            event = outgoing("payment.succeeded.v1", kept.payment_id, kept, source="test")
            await service.relay.enqueue(tx, [event])

        async def arrived() -> bool:
            return await effects(service, kept.payment_id) == 1

        await until(arrived)
        assert await effects(service, lost.payment_id) == 0
        row = await inbox_row(service, event.id)
        assert row["state"] == "done" and row["subject"] == kept.payment_id


async def test_repeated_event_has_one_effect(stage: Stage) -> None:
    service = build(stage, "chassis.two")
    await service.broker.declare([s.queue for s in service.subscriptions])
    body, last = payment_event(), payment_event()
    event = outgoing("payment.succeeded.v1", body.payment_id, body, source="test")
    mark = outgoing("payment.succeeded.v1", last.payment_id, last, source="test")
    async with running(service):
        for _ in range(3):
            await send(stage, b"[" + event.body + b"," + event.body + b"]")
        await send(stage, b"[" + mark.body + b"]")

        async def arrived() -> bool:
            return await effects(service, last.payment_id) == 1

        await until(arrived)
        assert await effects(service, body.payment_id) == 1


async def test_poisoned_event_is_retried_alone_and_its_pack_goes_on(stage: Stage) -> None:
    fail = {"on": True}
    good, bad = payment_event(), payment_event()

    def explode(payment_id: str) -> None:
        if payment_id == bad.payment_id and fail["on"]:
            raise ValueError("not now")

    service = build(stage, "chassis.three", explode)
    await service.broker.declare([s.queue for s in service.subscriptions])
    events = [outgoing("payment.succeeded.v1", b.payment_id, b, source="t") for b in (bad, good)]
    async with running(service):
        await send(stage, b"[" + b",".join(e.body for e in events) + b"]")

        async def retrying() -> bool:
            row = await inbox_row(service, events[0].id)
            return row is not None and row["state"] == "retry"

        await until(retrying)
        assert await effects(service, good.payment_id) == 1
        assert "not now" in (await inbox_row(service, events[0].id))["reason"]
        fail["on"] = False

        async def healed() -> bool:
            return await effects(service, bad.payment_id) == 1

        await until(healed)
        assert (await inbox_row(service, events[0].id))["state"] == "done"


async def test_event_that_is_put_off_waits_and_the_others_are_handled_with_one_run(
    stage: Stage,
) -> None:
    bodies = [payment_event() for _ in range(4)]
    late = bodies[1].payment_id
    runs: list[dict[str, int]] = []
    service = stage.service()

    async def on_succeeded(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        runs.append({event.data.payment_id: event.tries for event in events})
        for event in events:
            if event.data.payment_id == late and event.tries < 3:
                tx.put_off[event.id] = "too busy"
            else:
                await tx.run("insert into effects (id) values ($1)", event.data.payment_id)

    spec = QueueSpec("chassis.later", events=("payment.succeeded.v1",))
    service.subscribe(Subscription(spec, {"payment.succeeded.v1": on_succeeded}))
    await service.broker.declare([spec])
    events = [outgoing("payment.succeeded.v1", b.payment_id, b, source="t") for b in bodies]
    async with running(service):
        await send(stage, b"[" + b",".join(e.body for e in events) + b"]")

        async def handled() -> bool:
            row = await inbox_row(service, events[1].id)
            return row is not None and row["state"] == "done"

        await until(handled)
        assert [await effects(service, body.payment_id) for body in bodies] == [1] * 4
    assert runs == [{body.payment_id: 1 for body in bodies}, {late: 2}, {late: 3}]


async def test_permanent_failure_is_dead_with_its_reason(stage: Stage) -> None:
    def refuse(_: str) -> None:
        raise Permanent("never")

    service = build(stage, "chassis.four", refuse)
    await service.broker.declare([s.queue for s in service.subscriptions])
    body = payment_event()
    event = outgoing("payment.succeeded.v1", body.payment_id, body, source="t")
    async with running(service):
        await send(stage, b"[" + event.body + b"]")

        async def dead() -> Any:
            row = await inbox_row(service, event.id)
            return row if row is not None and row["state"] == "dead" else None

        row = await until(dead)
        assert row["reason"] == "never" and row["body"] is not None


@pytest.mark.parametrize(
    "body",
    [b"not json", b"{}", b"[]", b"[1]", b'[{"specversion":"1.0"}]', b"\xff\xfe", b"[" * 2000],
)
async def test_malformed_message_is_dead_and_the_consumer_lives_on(
    stage: Stage, body: bytes
) -> None:
    service = build(stage, "chassis.five")
    await service.broker.declare([s.queue for s in service.subscriptions])
    after = payment_event()
    event = outgoing("payment.succeeded.v1", after.payment_id, after, source="t")
    async with running(service):
        await send(stage, body)
        await send(stage, b"[" + event.body + b"]")

        async def arrived() -> bool:
            return await effects(service, after.payment_id) == 1

        await until(arrived)
        async with service.database.transaction() as tx:
            assert await tx.value(
                "select count(*) from inbox where queue='chassis.five' and state='dead'"
            )


async def test_unknown_fields_are_ignored_and_missing_ones_are_dead(stage: Stage) -> None:
    service = build(stage, "chassis.six")
    await service.broker.declare([s.queue for s in service.subscriptions])
    more, less = payment_event(), payment_event()
    events = [outgoing("payment.succeeded.v1", b.payment_id, b, source="t") for b in (more, less)]
    first, second = (orjson.loads(e.body) for e in events)
    first["data"]["colour"] = "blue"
    first["extension"] = 1
    del second["data"]["currency"]
    async with running(service):
        await send(stage, orjson.dumps([second, first]))

        async def arrived() -> bool:
            return await effects(service, more.payment_id) == 1

        await until(arrived)

        async def dead() -> bool:
            row = await inbox_row(service, events[1].id)
            return row is not None and row["state"] == "dead" and "currency" in row["reason"]

        await until(dead)


async def test_dead_message_is_redriven_under_its_own_id(stage: Stage) -> None:
    refuse = {"on": True}

    def gate(_: str) -> None:
        if refuse["on"]:
            raise Permanent("closed")

    service = build(stage, "chassis.seven", gate)
    await service.broker.declare([s.queue for s in service.subscriptions])
    body = payment_event()
    event = outgoing("payment.succeeded.v1", body.payment_id, body, source="t")
    async with running(service):
        await send(stage, b"[" + event.body + b"]")

        async def dead() -> bool:
            row = await inbox_row(service, event.id)
            return row is not None and row["state"] == "dead"

        await until(dead)
        refuse["on"] = False
        async with service.database.transaction() as tx:
            await tx.run(
                "update inbox set state='retry', next_at=now() where event_id=$1", event.id
            )

        async def done() -> bool:
            return await effects(service, body.payment_id) == 1

        await until(done)


async def test_rule_22_request_role_sees_one_tenant_and_no_setting_sees_nothing(
    stage: Stage,
) -> None:
    service = stage.service()
    async with running(service):
        async with service.database.transaction() as tx:
            await tx.run("insert into effects values ('a', 'cli_a'), ('b', 'cli_b')")
        async with service.database.request(client_id="cli_a") as tx:
            assert {r["id"] for r in await tx.fetch("select id from effects")} == {"a"}
        async with service.database.request() as tx:
            assert await tx.fetch("select id from effects") == []


async def test_health_and_unknown_paths_answer_as_specified(stage: Stage) -> None:
    service = build(stage, "chassis.eight")
    await service.broker.declare([s.queue for s in service.subscriptions])
    async with running(service) as client:
        assert (await client.get("/healthz")).status_code == 200
        missing = await client.get("/nowhere")
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"
        assert missing.json()["request_id"] == missing.headers["x-request-id"]
        big = await client.post("/healthz", content=b"x" * 300_000)
        assert big.status_code == 413 and big.json()["code"] == "body_too_large"
        unsigned = await client.get("/internal/v1/traces/pay_x")
        assert unsigned.status_code == 401 and unsigned.json()["code"] == "invalid_token"


async def test_stop_at_any_moment_of_the_start_does_not_hang(stage: Stage) -> None:
    for moment in range(24):
        service = build(stage, "chassis.nine")
        await service.broker.declare([s.queue for s in service.subscriptions])
        async with asyncio.timeout(10):
            async with service.app.router.lifespan_context(service.app):
                await asyncio.sleep(moment * 0.004)


@pytest.mark.parametrize(("ignores", "state"), [(True, "done"), (False, "dead")])
async def test_rule_16_an_unknown_enum_value_is_ignored_or_parked_as_the_queue_says(
    stage: Stage, ignores: bool, state: str
) -> None:
    seen: list[str] = []
    service = build(stage, f"chassis.enum_{state}", seen.append)
    service.subscriptions[0] = replace(service.subscriptions[0], ignore_unknown=ignores)
    await service.broker.declare([s.queue for s in service.subscriptions])
    event = outgoing("payment.succeeded.v1", "pay_1", payment_event(), source="test")
    body = orjson.loads(event.body)
    body["data"]["status"] = "teleported"
    async with running(service):
        await send(stage, orjson.dumps([body]))

        async def kept() -> Any:
            return await inbox_row(service, event.id)

        row = await until(kept)
        assert row["state"] == state and "status" in row["reason"]
        assert not seen


async def test_rule_24_what_the_broker_gave_up_is_found_among_the_dead_of_the_inbox(
    stage: Stage,
) -> None:
    service = build(stage, "chassis.given_up")
    await service.broker.declare([s.queue for s in service.subscriptions])
    event = outgoing("payment.succeeded.v1", "pay_1", payment_event(), source="test")
    connection = await aio_pika.connect(stage.settings.broker_url.get_secret_value())
    async with connection, connection.channel() as channel:
        await channel.set_qos(prefetch_count=1)
        queue = await channel.get_queue("chassis.given_up")
        await send(stage, b"[" + event.body + b"]")
        for _ in range(50):  # a consumer that crashes over it until the delivery limit
            message = await queue.get(fail=False, timeout=5)
            if message is None:
                break
            await message.nack(requeue=True)
    async with running(service):

        async def buried() -> Any:
            return await inbox_row(service, event.id)

        row = await until(buried)
        assert (row["state"], row["queue"]) == ("dead", "chassis.given_up")
        assert "given up by the broker" in row["reason"]
        assert await effects(service, "pay_1") == 0


async def test_service_whose_background_loop_ended_is_neither_healthy_nor_ready(
    stage: Stage,
) -> None:
    service = build(stage, "chassis.broken")
    await service.broker.declare([s.queue for s in service.subscriptions])

    async def ends() -> int:
        raise SystemError

    async with running(service) as client:

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(ready)
        ended = asyncio.create_task(ends())
        ended.add_done_callback(service._ended)  # type: ignore[arg-type]
        await asyncio.wait([ended])

        async def noticed() -> bool:
            answers = [await client.get(path) for path in ("/readyz", "/healthz")]
            return [a.status_code for a in answers] == [503, 503]

        await until(noticed)


async def test_relay_goes_on_after_an_error_nobody_expected(stage: Stage) -> None:
    """A StopAsyncIteration of the broker's library once ended it, and with it all news."""
    service = build(stage, "chassis.surprised")
    await service.broker.declare([s.queue for s in service.subscriptions])
    connect, surprises = service.broker.publish_channel, iter([StopAsyncIteration(), KeyError()])

    async def surprised() -> Any:
        for surprise in surprises:
            raise surprise
        return await connect()

    service.broker.publish_channel = surprised  # type: ignore[method-assign]
    body = payment_event()
    async with running(service):
        async with service.database.transaction() as tx:
            event = outgoing("payment.succeeded.v1", body.payment_id, body, source="test")
            await service.relay.enqueue(tx, [event])

        async def arrived() -> bool:
            return await effects(service, body.payment_id) == 1

        await until(arrived)
    assert next(surprises, None) is None


async def test_event_that_no_queue_takes_is_dropped_in_the_end_and_a_command_never(
    stage: Stage,
) -> None:
    """Loops have ends; who must not miss an event has declared its queue long before."""
    service = build(stage, "chassis.unheard")
    await service.broker.declare([s.queue for s in service.subscriptions])
    body = payment_event()
    # Of types that nobody listens to, whoever else's queues are on this broker.
    sent = [
        replace(outgoing(known, f"pay_u{n}", body, source="test"), type=unheard)
        for n, known, unheard in (
            (1, "payment.expired.v1", "payment.unheard.v1"),
            (2, "payments.process.v1", "payments.unheard.v1"),
            (3, "payment.expired.v1", "payment.unheard.v1"),
        )
    ]
    async with running(service):
        async with service.database.transaction() as tx:
            await service.relay.enqueue(tx, sent)
            old = "update outbox set attempts = 15 where subject in ('pay_u1', 'pay_u2')"
            await tx.run(old)

        async def tried() -> bool:
            async with service.database.transaction() as tx:
                kept = "select subject, attempts from outbox where subject like 'pay_u_'"
                rows = {row["subject"]: row["attempts"] for row in await tx.fetch(kept)}
            return rows.keys() == {"pay_u2", "pay_u3"} and rows["pay_u2"] == 16

        await until(tried)
        async with service.database.transaction() as tx:
            await tx.run("delete from outbox where subject like 'pay_u_'")
