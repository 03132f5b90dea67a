"""The database itself refuses what is no bookkeeping, whoever writes it."""

from typing import Any

import asyncpg
import pytest
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id

from .conftest import booked, send, succeeded, wire

ENTRY = """insert into journal_entries (id, kind, effect_key, payment_id, client_id, mode, currency,
    amount_minor, fee_minor, postings_count, late, accepted_at, occurred_at, posted_at)
    values ($1, 'capture', $1, $1, 'cli_x', $2, $3, 100, 0, $4, false, now(), now(), now())"""
ACCOUNT = """insert into accounts (id, kind, currency, mode)
    values ($1, 'clearing', $2, $3)"""
POSTING = """insert into postings (entry_id, account_id, currency, mode, amount_minor,
    balance_minor, account_version) values ($1, $2, $3, $4, $5, $5, $6)"""
MOVE = "update accounts set balance_minor = balance_minor + $2, version = $3 where id = $1"
Side = tuple[int, str, str]


async def add(connection: Any, entry: str, number: int, side: Side) -> None:
    """Add a side on an account of its own."""
    amount, currency, mode = side
    account = f"{entry}:{number}"
    await connection.execute(ACCOUNT, account, currency, mode)
    await connection.execute(POSTING, entry, account, currency, mode, amount, 1)
    await connection.execute(MOVE, account, amount, 1)


async def write(connection: Any, *sides: Side, declared: int = 2) -> str:
    """Write an entry in RWF/test with these sides (amount, currency, mode)."""
    entry = new_id("ent")
    async with connection.transaction():
        await connection.execute(ENTRY, entry, "test", "RWF", declared)
        for number, side in enumerate(sides):
            await add(connection, entry, number, side)
    return entry


async def test_balanced_entry_commits(worker_connection: Any) -> None:
    await write(worker_connection, (100, "RWF", "test"), (-100, "RWF", "test"))


@pytest.mark.parametrize(
    "sides",
    [
        [(100, "RWF", "test"), (-99, "RWF", "test")],
        [(100, "RWF", "test")],
        [],
        [(100, "RWF", "test"), (100, "RWF", "test")],
        [(100, "RWF", "test"), (-50, "RWF", "test"), (-50, "RWF", "test")],
    ],
)
async def test_unbalanced_entry_can_not_commit(worker_connection: Any, sides: Any) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await write(worker_connection, *sides)
    assert refused.value.sqlstate == "23M01"


async def test_unbalanced_entry_of_a_superuser_can_not_commit_either(superuser: Any) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await write(superuser, (100, "RWF", "test"), (-99, "RWF", "test"))
    assert refused.value.sqlstate == "23M01"


async def test_nothing_is_added_to_a_committed_entry_not_even_balanced(
    worker_connection: Any,
) -> None:
    entry = await write(worker_connection, (100, "RWF", "test"), (-100, "RWF", "test"))
    with pytest.raises(asyncpg.PostgresError) as refused:
        async with worker_connection.transaction():
            await add(worker_connection, entry, 7, (5, "RWF", "test"))
            await add(worker_connection, entry, 8, (-5, "RWF", "test"))
    assert refused.value.sqlstate == "23M01"


async def test_temporary_table_does_not_stand_in_for_the_journal(superuser: Any) -> None:
    await superuser.execute(
        "create temp table postings as select p.* from public.postings p limit 0"
    )
    real = POSTING.replace("into postings", "into public.postings")
    with pytest.raises(asyncpg.PostgresError) as refused:
        async with superuser.transaction():
            entry = new_id("ent")
            await superuser.execute(ENTRY, entry, "test", "RWF", 2)
            for number, amount in enumerate((100, -99)):
                account = f"{entry}:{number}"
                await superuser.execute(ACCOUNT, account, "RWF", "test")
                await superuser.execute(real, entry, account, "RWF", "test", amount, 1)
                balanced = 100 if number == 0 else -100
                await superuser.execute(POSTING, entry, account, "RWF", "test", balanced, 1)
    assert refused.value.sqlstate == "23M01"


@pytest.mark.parametrize("other", [(-100, "USD", "test"), (-100, "RWF", "live")])
async def test_currencies_and_modes_never_mix(worker_connection: Any, other: Any) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await write(worker_connection, (100, "RWF", "test"), other)


async def test_posting_of_zero_is_refused(worker_connection: Any) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await write(worker_connection, (0, "RWF", "test"), (0, "RWF", "test"))


async def test_account_version_is_taken_once(worker_connection: Any) -> None:
    entry = await write(worker_connection, (100, "RWF", "test"), (-100, "RWF", "test"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await worker_connection.execute(POSTING, entry, f"{entry}:0", "RWF", "test", 1, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "update journal_entries set amount_minor = 1",
        "delete from journal_entries",
        "truncate journal_entries cascade",
        "update postings set amount_minor = 1",
        "delete from postings",
        "truncate postings",
        "update fee_plans set basis_points = 0",
        "delete from accounts",
        "update accounts set currency = 'USD'",
        "alter table postings disable trigger all",
    ],
)
async def test_history_is_not_changed_by_the_service_role(
    worker_connection: Any, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker_connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "update journal_entries set amount_minor = 1",
        "delete from postings",
        "truncate postings",
        "update fee_plans set basis_points = 0",
    ],
)
async def test_history_is_not_changed_by_the_owner_either(
    ledger_env: dict[str, str], statement: str
) -> None:
    owner = await asyncpg.connect(ledger_env["LEDGER_MIGRATION_DATABASE_URL"])
    try:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await owner.execute(statement)
        assert refused.value.sqlstate == "23M02"
    finally:
        await owner.close()


async def test_fee_plan_is_not_back_dated(worker_connection: Any) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await worker_connection.execute(
            "insert into fee_plans (id, version, mode, basis_points, effective_from) "
            "values ('p', 1, 'test', 0, now() - interval '1 second')"
        )
    assert refused.value.sqlstate == "23M03"


@pytest.mark.parametrize("table", ["accounts", "journal_entries", "postings"])
async def test_request_role_sees_its_tenant_and_mode_alone(ledger: Service, table: str) -> None:
    mine, other = succeeded(), succeeded()
    await send(ledger, wire(mine), wire(other))
    await booked(ledger, mine.payment_id)
    await booked(ledger, other.payment_id)
    sql = f"select distinct client_id from {table}"
    async with ledger.database.request(client_id=mine.client_id) as tx:
        assert [row["client_id"] for row in await tx.fetch(sql)] == [mine.client_id]
    async with ledger.database.request(client_id=mine.client_id, mode="live") as tx:
        assert await tx.fetch(sql) == []
    async with ledger.database.request() as tx:
        assert await tx.fetch(sql) == []
    async with ledger.database.request(operator=True) as tx:
        seen = {row["client_id"] for row in await tx.fetch(sql)}
    assert {mine.client_id, other.client_id} <= seen


async def test_request_role_writes_nothing(ledger: Service) -> None:
    for statement in (
        "insert into accounts (id, kind, currency, mode) values ('x', 'fees', 'RWF', 'test')",
        "update accounts set balance_minor = 1",
        "delete from journal_entries",
        "select * from fee_plans",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with ledger.database.request(operator=True) as tx:
                await tx.run(statement)
