"""The claim: nobody's flood hides another's due rows, and nobody gets more than a share."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mospay_dev.plans import Watched
from mospay_notifier import storage
from mospay_shared.ids import new_id

from .conftest import Stage

HOST = "http://127.0.0.1:9/hook"
FLOOD = """
insert into deliveries (id, endpoint_id, client_id, mode, event_id, event_type, body, state,
    next_at)
select 'dlv_' || $1 || n, $1, $2, 'test', 'evt_flood_' || $1 || n, 'payment.succeeded', '{}',
    'pending', now() - make_interval(secs => $4 - n::float8 / 1000)
from generate_series(1, $3) n"""


@pytest.fixture
async def quiet(quiet: Stage) -> AsyncIterator[Stage]:
    """The same; what its client still has to be sent is nobody's work after the test."""
    yield quiet
    await quiet.run("delete from deliveries where starts_with(event_id, 'evt_flood_')")


async def flood(stage: Stage, endpoint_id: str, client_id: str, rows: int, age: float) -> None:
    """Write due deliveries of an endpoint, the oldest due since `age` seconds."""
    await stage.run(FLOOD, endpoint_id, client_id, rows, age)


async def claim(stage: Stage, mine: set[str], **changes: Any) -> list[str]:
    """Claim and return the endpoints of what was got, of those that are `mine`."""
    limits: dict[str, Any] = {
        "limit": 200,
        "lease_seconds": 60.0,
        "per_endpoint": 5,
        "per_client": 8,
        "endpoints": {},
        "clients": {},
    }
    async with stage.service.database.transaction() as tx:
        rows = await storage.claim_due(tx, **(limits | changes))
    return [row["endpoint_id"] for row in rows if row["endpoint_id"] in mine]


async def test_flood_of_one_endpoint_hides_nobody_elses_delivery(quiet: Stage) -> None:
    other = new_id("cli")
    loud, _ = await quiet.endpoint(HOST)
    still, _ = await quiet.endpoint(HOST, client_id=other)
    await flood(quiet, loud, quiet.client_id, 5000, age=3600)
    await flood(quiet, still, other, 1, age=1)
    got = await claim(quiet, {loud, still})
    assert sorted(got) == sorted([loud] * 5 + [still])


async def test_open_calls_count_against_the_share(quiet: Stage) -> None:
    one, _ = await quiet.endpoint(HOST)
    two, _ = await quiet.endpoint(HOST)
    await flood(quiet, one, quiet.client_id, 20, age=60)
    await flood(quiet, two, quiet.client_id, 20, age=60)
    busy = {"endpoints": {one: 4}, "clients": {quiet.client_id: 6}}
    got = await claim(quiet, {one, two}, **busy)
    assert len(got) == 2 and got.count(one) <= 1
    full = {"endpoints": {one: 5, two: 5}, "clients": {quiet.client_id: 10}}
    assert await claim(quiet, {one, two}, **full) == []


async def test_two_who_claim_at_once_get_different_deliveries(quiet: Stage) -> None:
    endpoint, _ = await quiet.endpoint(HOST)
    await flood(quiet, endpoint, quiet.client_id, 8, age=60)
    limits: dict[str, Any] = {
        "limit": 200, "lease_seconds": 60.0, "per_endpoint": 100, "per_client": 100,
        "endpoints": {}, "clients": {},
    }  # fmt: skip
    database = quiet.service.database
    async with database.transaction() as first, database.transaction() as second:
        a = await storage.claim_due(first, **limits)
        b = await storage.claim_due(second, **limits)
    mine = [row["id"] for row in (*a, *b) if row["endpoint_id"] == endpoint]
    assert len(mine) == len(set(mine)) == 8


async def test_claim_never_compares_what_it_takes_with_itself(quiet: Stage) -> None:
    endpoints = [(await quiet.endpoint(HOST))[0] for _ in range(2)]
    for endpoint in endpoints:
        await flood(quiet, endpoint, quiet.client_id, 300, age=60)
    async with quiet.service.database.transaction() as tx:
        watched = Watched(tx.connection)
        await storage.claim_due(
            watched, limit=200, lease_seconds=60.0, per_endpoint=100, per_client=200,
            endpoints={}, clients={},
        )  # fmt: skip
    assert watched.compared < 200
    taken = "select id from deliveries where endpoint_id = any($1) and state = 'sending'"
    assert len(await quiet.fetch(taken, endpoints)) == 200


async def test_delivery_that_nobody_would_wake_cannot_be_written(quiet: Stage) -> None:
    endpoint, _ = await quiet.endpoint(HOST)
    await flood(quiet, endpoint, quiet.client_id, 1, age=1)
    with pytest.raises(Exception, match="check constraint"):
        await quiet.run(
            "update deliveries set next_at = null where endpoint_id = $1 and state = 'pending'",
            endpoint,
        )


async def test_request_role_sees_its_tenant_alone_and_never_a_secret(quiet: Stage) -> None:
    endpoint, _ = await quiet.endpoint(HOST)
    await flood(quiet, endpoint, quiet.client_id, 1, age=1)
    request = quiet.service.database.request
    for table in ("endpoints", "deliveries", "delivery_attempts"):
        for client_id in ("", new_id("cli")):
            async with request(client_id=client_id) as tx:
                assert await tx.fetch(f"select client_id from {table}") == []
    async with request(client_id=quiet.client_id, mode="live") as tx:
        assert await tx.fetch("select id from endpoints") == []
    async with request(client_id=quiet.client_id, mode="test") as tx:
        assert [row["id"] for row in await tx.fetch("select id from endpoints")] == [endpoint]
    with pytest.raises(Exception, match="permission denied"):
        async with request(client_id=quiet.client_id) as tx:
            await tx.fetch("select secret from endpoints")


async def test_request_role_writes_nothing(quiet: Stage) -> None:
    for statement in ("delete from deliveries", "update endpoints set active = false"):
        with pytest.raises(Exception, match="permission denied"):
            async with quiet.service.database.request(operator=True) as tx:
                await tx.run(statement)


async def test_secret_at_rest_is_sealed(quiet: Stage) -> None:
    endpoint, secret = await quiet.endpoint(HOST)
    [row] = await quiet.fetch("select secret from endpoints where id = $1", endpoint)
    text = json.dumps(row["secret"])
    assert secret not in text and secret.removeprefix("whsec_") not in text
