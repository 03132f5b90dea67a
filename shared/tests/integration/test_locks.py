"""A lock that is not given in time is nobody's answer: it is tried again, or the caller does."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from mospay_shared.chassis.broker import QueueSpec
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.contracts import Event, PaymentEventV1, outgoing
from mospay_shared.ids import new_id

from .conftest import Stage, running, until
from .test_messages import effects, inbox_row, payment_event, send

_WAIT = "select id from effects where id = $1 for update"


@asynccontextmanager
async def locked(stage: Stage, row_id: str) -> AsyncIterator[None]:
    """Hold a row of the test service's table."""
    connection = await asyncpg.connect(stage.owner_url)
    try:
        await connection.execute("insert into effects (id, client_id) values ($1, 'c')", row_id)
        async with connection.transaction():
            await connection.execute(_WAIT, row_id)
            yield
    finally:
        await connection.close()


async def wait_briefly(tx: Tx, row_id: str) -> None:
    """Wait for a row no longer than a test may."""
    await tx.run("set local lock_timeout = '50ms'")
    await tx.run(_WAIT, row_id)


async def test_caller_who_met_a_lock_is_told_to_come_again(stage: Stage) -> None:
    service, row_id = stage.service(), new_id("row")

    @service.app.post("/touch")
    async def touch() -> None:
        async with service.database.transaction() as tx:
            await wait_briefly(tx, row_id)

    async with running(service) as http:
        async with locked(stage, row_id):
            answer = await http.post("/touch")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["code"] == "temporarily_unavailable"
        assert (await http.post("/touch")).status_code == 200


async def test_event_that_met_a_lock_is_set_aside_at_once_and_handled_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mospay_shared.chassis.inbox.RETRY_SECONDS", (3600,))
    service, row_id, tries = stage.service(), new_id("row"), [0]

    async def on_succeeded(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
        tries[0] += 1
        await wait_briefly(tx, row_id)
        for event in events:
            effect = (event.data.payment_id, event.data.client_id)
            await tx.run("insert into effects (id, client_id) values ($1, $2)", *effect)

    spec = QueueSpec("chassis.locks", events=("payment.succeeded.v1",))
    service.subscribe(Subscription(spec, {"payment.succeeded.v1": on_succeeded}))
    await service.broker.declare([spec])
    body = payment_event()
    event = outgoing("payment.succeeded.v1", body.payment_id, body, source="t")
    async with running(service):
        async with locked(stage, row_id):
            await send(stage, b"[" + event.body + b"]")

            async def set_aside() -> Any:
                row = await inbox_row(service, event.id)
                return row is not None and row["state"] == "retry"

            await until(set_aside)
            assert tries[0] == 2  # as it came, and alone
        async with service.database.transaction() as tx:
            await tx.run("update inbox set next_at = now() where event_id = $1", event.id)

        async def handled() -> bool:
            return await effects(service, body.payment_id) == 1

        await until(handled)
        assert (await inbox_row(service, event.id))["state"] == "done"
