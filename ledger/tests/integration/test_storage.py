"""The database itself refuses what is no bookkeeping, whoever writes it."""

from typing import Any

import asyncpg
import pytest
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id

from .test_handlers import booked, send, succeeded, wire

ENTRY = """insert into journal_entries (id, kind, effect_key, payment_id, client_id, mode, currency,
    amount_minor, fee_minor, plan_version, late, accepted_at, occurred_at)
    values ($1, 'capture', $1, 'pay_x', 'cli_x', $2, $3, 100, 0, 'p', false, now(), now())"""
ACCOUNT = """insert into accounts (id, kind, owner, currency, mode)
    values ($1, 'clearing', 'x', $2, $3)"""
POSTING = """insert into postings (entry_id, account_id, currency, mode, amount_minor,
    balance_minor, account_version) values ($1, $2, $3, $4, $5, 0, $6)"""


async def write(connection: Any, *sides: tuple[int, str, str]) -> None:
    """Write an entry in RWF/test with these sides (amount, currency, mode)."""
    entry = new_id("ent")
    async with connection.transaction():
        await connection.execute(ENTRY, entry, "test", "RWF")
        for number, (amount, currency, mode) in enumerate(sides):
            account = f"{entry}:{number}"
            await connection.execute(ACCOUNT, account, currency, mode)
            await connection.execute(POSTING, entry, account, currency, mode, amount, 1)


async def test_balanced_entry_commits(worker_connection: Any) -> None:
    await write(worker_connection, (100, "RWF", "test"), (-100, "RWF", "test"))


@pytest.mark.parametrize(
    "sides",
    [
        [(100, "RWF", "test"), (-99, "RWF", "test")],
        [(100, "RWF", "test")],
        [],
        [(100, "RWF", "test"), (100, "RWF", "test")],
    ],
)
async def test_unbalanced_entry_can_not_commit(worker_connection: Any, sides: Any) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await write(worker_connection, *sides)
    assert refused.value.sqlstate == "23M01"


@pytest.mark.parametrize("other", [(-100, "USD", "test"), (-100, "RWF", "live")])
async def test_currencies_and_modes_never_mix(worker_connection: Any, other: Any) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await write(worker_connection, (100, "RWF", "test"), other)


@pytest.mark.parametrize(
    "statement",
    [
        "update journal_entries set amount_minor = 1",
        "delete from postings",
        "truncate postings",
        "delete from accounts",
    ],
)
async def test_history_is_not_changed_by_the_service_role(
    worker_connection: Any, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker_connection.execute(statement)


async def test_history_is_not_changed_by_the_owner_either(ledger_env: dict[str, str]) -> None:
    owner = await asyncpg.connect(ledger_env["LEDGER_MIGRATION_DATABASE_URL"])
    try:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await owner.execute("update journal_entries set amount_minor = 1")
        assert refused.value.sqlstate == "23M02"
    finally:
        await owner.close()


async def test_request_role_sees_its_tenant_and_mode_alone(ledger: Service) -> None:
    mine, other = succeeded(), succeeded()
    await send(ledger, wire(mine), wire(other))
    await booked(ledger, mine.payment_id)
    await booked(ledger, other.payment_id)
    sql = "select distinct client_id from journal_entries"
    async with ledger.database.request(client_id=mine.client_id) as tx:
        assert [row["client_id"] for row in await tx.fetch(sql)] == [mine.client_id]
    async with ledger.database.request(client_id=mine.client_id, mode="live") as tx:
        assert await tx.fetch(sql) == []
    async with ledger.database.request() as tx:
        assert await tx.fetch(sql) == []
