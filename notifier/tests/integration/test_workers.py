"""The sender: again until it arrives, fairly, to nobody inside, and through a kill."""

import asyncio
import contextlib
import gzip
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import orjson
import pytest
from aiohttp import web
from mospay_shared.contracts import PaymentStatus, WebhookEventV1
from mospay_shared.ids import new_id

from ..samples import payment
from .conftest import MakeStage, Receiver, Stage, until

Receivers = Callable[[], Awaitable[Receiver]]


async def test_failed_attempt_is_made_again_under_the_same_id(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=500, text="down\x00for now")]
    body = payment(stage.client_id)
    [event_id] = await stage.tell(body)
    await stage.state(body.payment_id, "delivered")
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [event_id] * 2
    assert receiver.got[0][1] == receiver.got[1][1]
    tries = await stage.attempts(body.payment_id)
    assert [(a["number"], a["status_code"], a["error"]) for a in tries] == [
        (1, 500, "HTTP 500"),
        (2, 204, None),
    ]
    assert tries[0]["response"] == "downfor now"


async def test_redirect_is_not_followed(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=307, headers={"Location": "/elsewhere"})]
    body = payment(stage.client_id)
    await stage.tell(body)
    await stage.state(body.payment_id, "delivered")
    assert receiver.paths == ["POST /hook", "POST /hook"]
    assert [a["status_code"] for a in await stage.attempts(body.payment_id)] == [307, 204]


async def test_gone_disables_the_endpoint_and_ends_what_waits_for_it(
    stage: Stage, receiver: Receiver
) -> None:
    endpoint, _ = await stage.endpoint(receiver.url)
    receiver.answers = [
        web.Response(status=503, headers={"Retry-After": "3600"}),
        web.Response(status=410),
    ]
    waiting, last = payment(stage.client_id), payment(stage.client_id)
    await stage.tell(waiting)
    await receiver.wait(1)
    await stage.state(waiting.payment_id, "pending")
    await stage.tell(last)
    for body in (last, waiting):
        await stage.state(body.payment_id, "failed")
    [row] = await stage.fetch("select * from endpoints where id = $1", endpoint)
    assert not row["active"] and row["disabled_reason"] == "it answered 410 Gone"
    assert len(receiver.got) == 2  # the waiting one was ended without another call
    errors = [a["error"] for a in await stage.attempts(waiting.payment_id)]
    assert errors == ["HTTP 503", "the endpoint is disabled"]


async def test_busy_receiver_is_given_the_time_it_asks_for(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=429, headers={"Retry-After": "600"})]
    body = payment(stage.client_id)
    await stage.tell(body)
    await receiver.wait(1)
    await stage.state(body.payment_id, "pending")
    [row] = await stage.fetch(
        "select extract(epoch from next_at - now()) as seconds from deliveries "
        "where payment_id = $1",
        body.payment_id,
    )
    assert 580 < row["seconds"] <= 600


async def test_packed_response_is_kept_as_it_came(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    bomb = gzip.compress(b"a" * 100_000)
    receiver.answers = [web.Response(body=bomb, headers={"Content-Encoding": "gzip"})]
    body = payment(stage.client_id)
    await stage.tell(body)
    await stage.state(body.payment_id, "delivered")
    assert receiver.got[0][0]["accept-encoding"] == "identity"
    [attempt] = await stage.attempts(body.payment_id)
    assert "aaa" not in attempt["response"]


async def test_delivery_fails_visibly_after_its_last_attempt(
    stage: Stage, receiver: Receiver
) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=500) for _ in range(9)]
    body = payment(stage.client_id)
    await stage.tell(body)
    await stage.state(body.payment_id, "failed")
    assert len(receiver.got) == len(stage.settings.schedule_seconds)


@asynccontextmanager
async def listening(stage: Stage) -> AsyncIterator[Callable[[str, int], Awaitable[Any]]]:
    """Collect webhook.* events; the value waits for so many about one payment."""
    connection = await aio_pika.connect(stage.service.broker.url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("mospay.events", "webhook.*.v1")
        seen: list[Any] = []

        async def keep(message: Any) -> None:
            seen.extend(orjson.loads(message.body))

        await queue.consume(keep, no_ack=True)

        async def of(subject: str, count: int) -> Any:
            async def there() -> Any:
                found = [event for event in seen if event["subject"] == subject]
                return found if len(found) >= count else None

            return await until(there, f"{count} events about {subject}")

        yield of


async def test_each_attempt_is_told_as_an_event(stage: Stage, receiver: Receiver) -> None:
    await stage.endpoint(receiver.url)
    receiver.answers = [web.Response(status=500)]
    body = payment(stage.client_id)
    async with listening(stage) as events:
        [event_id] = await stage.tell(body)
        failed, delivered = await events(body.payment_id, 2)
    assert (failed["type"], delivered["type"]) == ("webhook.failed.v1", "webhook.delivered.v1")
    first, last = (WebhookEventV1.model_validate(e["data"]) for e in (failed, delivered))
    assert (first.attempt, first.status_code, first.final) == (1, 500, False)
    assert first.next_at is not None and first.event_id == event_id
    assert (last.attempt, last.status_code, last.final, last.next_at) == (2, 204, True, None)
    assert failed["causation_id"] == event_id


# A call that runs out of time is open at the receiver for a moment longer than at the sender.
NO_TIME_OUT = {"timeout_seconds": 30, "lease_seconds": 60}


async def test_hanging_endpoint_does_not_delay_another(
    stages: MakeStage, receivers: Receivers
) -> None:
    stage = await stages(**NO_TIME_OUT)
    dead, well = await receivers(), await receivers()
    dead.hold = asyncio.Event()
    other = new_id("cli")
    for _ in range(2):  # more than a client may have open, each more than an endpoint may
        await stage.endpoint(dead.url)
    await stage.endpoint(well.url, client_id=other)
    await stage.tell(*(payment(stage.client_id) for _ in range(20)))
    await dead.wait(5)
    bodies = [payment(other) for _ in range(10)]
    await stage.tell(*bodies)
    await well.wait(10)
    assert dead.open == dead.most_open == stage.settings.in_flight_client == 5
    assert well.most_open <= stage.settings.in_flight_endpoint


async def test_hanging_endpoint_does_not_delay_its_own_clients_others(
    stages: MakeStage, receivers: Receivers
) -> None:
    stage = await stages(**NO_TIME_OUT)
    dead, well = await receivers(), await receivers()
    dead.hold = asyncio.Event()
    await stage.endpoint(dead.url)
    await stage.endpoint(well.url)
    await stage.tell(*(payment(stage.client_id) for _ in range(10)))
    await well.wait(10)
    assert dead.most_open == stage.settings.in_flight_endpoint == 3


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0",
        "0x7f.1", "127.1",
    ],
)  # fmt: skip
async def test_inside_address_is_never_called(
    stages: MakeStage, receiver: Receiver, host: str
) -> None:
    stage = await stages(allow_private_networks="")
    port = receiver.url.rsplit(":", 1)[1]
    await stage.endpoint(f"http://{host}:{port}")
    body = payment(stage.client_id)
    await stage.tell(body)
    await stage.state(body.payment_id, "failed")
    # The guard at the socket, or before it the HTTP client, which reads no shortened addresses.
    refusals = {"the address is not a public one, so it is never called", "InvalidUrlClientError"}
    assert {a["error"] for a in await stage.attempts(body.payment_id)} <= refusals
    assert receiver.got == []


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "192.168.1.1", "[fe80::1]"])
async def test_address_outside_the_allowed_networks_is_never_called(
    stage: Stage, host: str
) -> None:
    await stage.endpoint(f"http://{host}/latest/meta-data")
    body = payment(stage.client_id)
    await stage.tell(body)
    await stage.state(body.payment_id, "failed")
    for attempt in await stage.attempts(body.payment_id):
        assert "not a public one" in attempt["error"] and attempt["response"] is None


@asynccontextmanager
async def process(env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A notifier of its own; killed at the end."""
    made = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mospay_notifier",
        env={**os.environ, **env},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.send_signal(signal.SIGKILL)
        await made.wait()


async def test_kill_between_post_and_store_delivers_again_under_the_same_id(
    quiet: Stage, receiver: Receiver, notifier_env: dict[str, str]
) -> None:
    await quiet.endpoint(receiver.url)
    receiver.hold = asyncio.Event()
    body = payment(quiet.client_id)
    async with process(notifier_env) as first:
        [event_id] = await quiet.tell(body)
        await receiver.wait(1)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    assert await quiet.attempts(body.payment_id) == []
    receiver.hold.set()
    async with process(notifier_env):
        await quiet.state(body.payment_id, "delivered")
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [event_id] * 2
    assert receiver.got[0][1] == receiver.got[1][1]
    assert [a["number"] for a in await quiet.attempts(body.payment_id)] == [2]


async def test_result_after_a_lost_lease_changes_nothing(
    quiet: Stage, stages: MakeStage, receiver: Receiver
) -> None:
    await quiet.endpoint(receiver.url)
    receiver.hold = asyncio.Event()
    slow = await stages()
    body = payment(quiet.client_id, status=PaymentStatus.FAILED)
    await slow.tell(body)
    await receiver.wait(1)
    # Another process took it over: its lease has passed the first one's, and its call is open.
    await quiet.run(
        "update deliveries set lease = lease + 1, attempts = 2, next_at = now() + interval '1 h' "
        "where payment_id = $1",
        body.payment_id,
    )
    receiver.hold.set()
    other = payment(quiet.client_id)
    await slow.tell(other)
    await quiet.state(other.payment_id, "delivered")
    await quiet.state(body.payment_id, "sending")
    assert await quiet.attempts(body.payment_id) == []
