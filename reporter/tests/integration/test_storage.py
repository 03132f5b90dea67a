"""The database itself: tenants by row-level security, partitions, indexes that serve."""

import asyncio
import datetime as dt
from typing import Any

import asyncpg
import pytest
from mospay_dev.plans import Watched
from mospay_reporter.domain.facts import Known, month_of
from mospay_reporter.domain.sales import Place
from mospay_reporter.settings import ReporterSettings
from mospay_reporter.storage import facts, sales
from mospay_reporter.usecases import recording
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id

from ..samples import call, entry, later, now, payment, tell, webhook
from .books import assert_rollups_are_true, fact
from .conftest import until

TENANT_TABLES = (
    "payment_facts",
    "payment_rollups_hourly",
    "payment_rollups_daily",
    "api_calls",
    "api_calls_hourly",
)


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_request_role_sees_its_tenant_and_mode_alone(service: Service, table: str) -> None:
    mine, theirs = payment(status="succeeded"), payment(status="succeeded")
    for event in (mine, theirs):
        await tell(service, [event, call(client_id=event.client_id)])
    me = mine.client_id

    async def seen(**settings: Any) -> set[str]:
        async with service.database.request(**settings) as tx:
            rows = await tx.fetch(
                f"select distinct client_id from {table} where client_id = any($1)",
                [me, theirs.client_id],
            )
        return {row["client_id"] for row in rows}

    assert await seen(client_id=me, mode="test") == {me}
    assert await seen(client_id=me) == {me}  # no mode in the token: both
    assert await seen(client_id=me, mode="live") == set()
    assert await seen() == set()
    assert await seen(operator=True) == {me, theirs.client_id}


@pytest.mark.parametrize(
    "statement",
    [
        "insert into payment_rollups_daily select * from payment_rollups_daily",
        "update payment_facts set amount_minor = 1",
        "delete from payment_facts",
        "select * from payment_facts_default",
        "select * from webhook_attempts",
        "select * from inbox",
        "select * from outbox",
        "select reporter_keep_partitions(current_date, 1, 1, current_date)",
    ],
)
async def test_request_role_may_only_read_what_routes_show(
    service: Service, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with service.database.request(operator=True) as tx:
            await tx.run(statement)


async def test_rollups_of_all_clients_are_the_sum_of_all_facts_and_the_operators_alone(
    service: Service,
) -> None:
    done = payment(status="succeeded", version=2)
    other = payment(service_id="svc_9", currency="USD")
    await tell(service, [other, done, entry(done), later(other, "failed", 3)])
    await assert_rollups_are_true(service, "")
    for table in ("payment_rollups_hourly", "payment_rollups_daily"):
        count = f"select count(*) from {table} where client_id = ''"
        for settings in ({}, {"client_id": done.client_id}, {"customer_id": "cus_1"}):
            async with service.database.request(**settings) as tx:
                assert await tx.value(count) == 0
        async with service.database.request(operator=True) as tx:
            assert await tx.value(count) > 0


async def test_worker_role_owns_nothing(service: Service) -> None:
    for statement in ("drop table payment_facts", "alter table payment_facts add column x int"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with service.database.transaction() as tx:
                await tx.run(statement)


async def test_locked_payment_is_read_by_the_next_writer_as_the_first_left_it(
    service: Service,
) -> None:
    start = payment()
    await tell(service, [start])

    async def next_writer() -> Known:
        async with service.database.transaction() as tx:
            return (await facts.lock(tx, [start.payment_id]))[start.payment_id]

    async def blocked() -> bool:
        async with service.database.transaction() as tx:
            waiting = await tx.value(
                "select count(*) from pg_stat_activity "
                "where wait_event_type = 'Lock' and datname = current_database()"
            )
        return bool(waiting)

    async with service.database.transaction() as tx:
        await facts.lock(tx, [start.payment_id])
        task = asyncio.create_task(next_writer())
        await until(blocked, seconds=5)
        await facts.change(tx, [later(start, "succeeded", 2)], set())
    known = await task
    assert known.newness is not None and known.newness[0] == 2


async def partition_of(service: Service, table: str, client: str) -> str:
    """The partition a client's one row is in."""
    async with service.database.transaction() as tx:
        name: str = await tx.value(
            f"select tableoid::regclass::text from {table} where client_id = $1",
            client,
        )
    return name


async def keep(service: Service, today: dt.date) -> None:
    """Run the worker's round as of a day; nothing is past retention."""
    async with service.database.transaction() as tx:
        await recording.keep_partitions(tx, today, 365)


async def test_partitions_of_this_month_and_day_stand_ready(service: Service) -> None:
    event = payment()
    await tell(service, [event, call(client_id=event.client_id)])
    await tell(service, [webhook(client_id=event.client_id)])
    month, day = f"{now():%Y%m}", f"{now():%Y%m%d}"
    client = event.client_id
    assert await partition_of(service, "payment_facts", client) == f"payment_facts_{month}"
    assert await partition_of(service, "api_calls", client) == f"api_calls_{day}"
    assert await partition_of(service, "webhook_attempts", client) == f"webhook_attempts_{day}"


def id_made(moment: dt.datetime) -> str:
    """A payment id that was made at a moment."""
    millis = int(moment.timestamp() * 1000)
    return f"pay_{millis:012x}7{new_id('x')[-19:-16]}8{new_id('x')[-15:]}"


async def test_rows_of_a_month_without_partition_move_into_it_and_stay_countable(
    service: Service,
) -> None:
    moment = dt.datetime(2025, 3, 5, 7, tzinfo=dt.UTC)
    old = payment(payment_id=id_made(moment), accepted_at=moment)
    assert month_of(old.payment_id) == dt.date(2025, 3, 1)
    await tell(service, [old])
    assert await partition_of(service, "payment_facts", old.client_id) == "payment_facts_default"
    await keep(service, now().date())
    assert await partition_of(service, "payment_facts", old.client_id) == "payment_facts_202503"
    await tell(service, [later(old, "succeeded", 2), entry(old)])
    assert (await fact(service, old.client_id))["fee_minor"] == 20
    await assert_rollups_are_true(service, old.client_id)
    await keep(service, now().date())  # again: nothing to do


async def test_calls_past_retention_go_with_their_day_and_counts_stay(service: Service) -> None:
    client = new_id("cli")
    then = dt.datetime(2024, 5, 17, 12, tzinfo=dt.UTC)
    await keep(service, then.date())
    await tell(
        service,
        [call(client_id=client, called_at=t) for t in (then, then - dt.timedelta(days=900))],
    )
    assert await partition_of_day(service, client) == {"api_calls_20240517", "api_calls_default"}
    await keep(service, then.date() + dt.timedelta(days=400))
    assert await partition_of_day(service, client) == set()
    async with service.database.transaction() as tx:
        counted = await tx.value(
            "select sum(calls) from api_calls_hourly where client_id = $1", client
        )
    assert counted == 2


async def partition_of_day(service: Service, client: str) -> set[str]:
    """The partitions a client's calls are in."""
    async with service.database.transaction() as tx:
        rows = await tx.fetch(
            "select distinct tableoid::regclass::text from api_calls where client_id = $1", client
        )
    return {row[0] for row in rows}


async def test_row_level_security_is_forced_on_every_tenant_table(
    settings: ReporterSettings,
) -> None:
    assert settings.migration_database_url is not None
    connection = await asyncpg.connect(settings.migration_database_url.get_secret_value())
    try:
        unprotected = await connection.fetch(
            """select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid
               where c.relkind in ('r', 'p') and not c.relispartition and a.attname = 'client_id'
                 and c.relnamespace = 'public'::regnamespace
                 and not (c.relrowsecurity and c.relforcerowsecurity)"""
        )
    finally:
        await connection.close()
    assert [row[0] for row in unprotected] == []


async def test_batch_of_sales_is_never_compared_with_itself(service: Service) -> None:
    client = new_id("cli")
    told = [payment(client_id=client) for _ in range(200)]
    await tell(service, told)
    ended = [later(event, "succeeded", 2) for event in told]
    places = [Place(client, "test", e.reference, e.payment_id) for e in told]
    async with service.database.transaction() as tx:
        watched = Watched(tx.connection)
        await facts.change(watched, ended, set())
        await sales.refresh(watched, places)
    assert watched.compared < len(told)
    async with service.database.request(client_id=client, mode="test") as tx:
        rows = await tx.fetch("select successful from sale_rollups_hourly")
    assert sum(row["successful"] for row in rows) == len(told)
