"""The database itself refuses what is no bookkeeping, whoever writes it."""

import datetime as dt
from contextlib import nullcontext
from typing import Any

import asyncpg
import pytest
from mospay_ledger.domain import CLIENT_KINDS
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id

from .conftest import booked, send, succeeded, wire

ACCOUNTS = """insert into accounts (id, kind, client_id, currency, mode)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])"""
# What the service does in one statement, as anyone with its role could write it by hand.
WRITE = """
with entry as (
    insert into journal_entries (id, kind, effect_key, payment_id, client_id, mode, currency,
        amount_minor, fee_minor, postings_count, late, accepted_at, occurred_at, posted_at)
    values ($1, 'capture', $2, $1, 'cli_x', 'test', 'RWF', 100, 0, $3, false, now(), now(), now())),
sides as (
    select u.*, (a.balance_minor + amount_minor)::bigint as balance_minor,
        a.balance_minor as previous_minor, a.version + 1 as version, a.client_id
    from unnest($4::text[], $5::bigint[], $6::text[], $7::text[]) with ordinality
        as u(account_id, amount_minor, currency, mode, line)
    join accounts a on a.id = u.account_id),
written as (
    insert into postings (entry_id, line, account_id, client_id, currency, mode, amount_minor,
        previous_minor, balance_minor, account_version, posted_at)
    select $1, line, account_id, client_id, currency, mode, amount_minor, previous_minor,
        balance_minor, version, now() from sides)
update accounts a set balance_minor = s.balance_minor, version = s.version, last_posted_at = now()
from sides s where a.id = s.account_id"""
POSTING = """insert into postings (entry_id, line, account_id, currency, mode, amount_minor,
    previous_minor, balance_minor, account_version, posted_at)
    values ($1, $2, $3, 'RWF', 'test', $4, $5, $6, $7, now())"""
RWF = ("RWF", "test")
Side = tuple[int, str, str]


async def opened(
    connection: Any, currency: str = "RWF", mode: str = "test", kind: str = "clearing"
) -> str:
    """Open an account of its own."""
    account, client = new_id("acc"), new_id("cli") if kind in CLIENT_KINDS else None
    await connection.execute(ACCOUNTS, [account], [kind], [client], [currency], [mode])
    return account


async def write(
    connection: Any, *sides: Side, declared: int = 2, key: str = "", accounts: Any = ()
) -> str:
    """Write an entry in RWF/test with these sides (amount, currency, mode), in one statement."""
    entry = new_id("ent")
    accounts = list(accounts) or [await opened(connection, s[1], s[2]) for s in sides]
    columns: list[list[Any]] = [[side[n] for side in sides] for n in range(3)]
    await connection.execute(WRITE, entry, key or entry, declared, accounts, *columns)
    return entry


def refusal(state: str) -> Any:
    """Expect an error of this SQLSTATE."""
    return pytest.raises(
        asyncpg.PostgresError, check=lambda e: getattr(e, "sqlstate", None) == state
    )


async def test_balanced_entry_commits(worker_connection: Any) -> None:
    await write(worker_connection, (100, *RWF), (-100, *RWF))


@pytest.mark.parametrize(
    "sides",
    [
        [(100, *RWF), (-99, *RWF)],
        [(100, *RWF)],
        [],
        [(100, *RWF), (100, *RWF)],
        [(100, *RWF), (-50, *RWF), (-50, *RWF)],
    ],
)
async def test_unbalanced_entry_can_not_commit(worker_connection: Any, sides: Any) -> None:
    with refusal("23M01"):
        await write(worker_connection, *sides)


async def test_unbalanced_entry_of_a_superuser_can_not_commit_either(superuser: Any) -> None:
    with refusal("23M01"):
        await write(superuser, (100, *RWF), (-99, *RWF))


async def test_entry_without_postings_is_refused(worker_connection: Any) -> None:
    with refusal("23M01"):
        await worker_connection.execute(
            "insert into journal_entries (id, kind, effect_key, payment_id, client_id, mode, "
            "currency, amount_minor, fee_minor, postings_count, late, accepted_at, occurred_at, "
            "posted_at) values ('ent_bare', 'capture', 'k', 'p', 'c', 'test', 'RWF', 100, 0, 2, "
            "false, now(), now(), now())"
        )


async def test_nothing_is_added_to_a_committed_entry_not_even_balanced(
    worker_connection: Any,
) -> None:
    mine = [await opened(worker_connection) for _ in range(2)]
    entry = await write(worker_connection, (100, *RWF), (-100, *RWF), accounts=mine)
    pair = """with more as (
            insert into postings (entry_id, line, account_id, currency, mode, amount_minor,
                previous_minor, balance_minor, account_version, posted_at)
            select e.id, u.line, u.account, 'RWF', 'test', u.amount, a.balance_minor,
                a.balance_minor + u.amount, a.version + 1, e.posted_at
            from journal_entries e, unnest($2::int[], $3::text[], array[5, -5]::bigint[])
                as u(line, account, amount), accounts a where e.id = $1 and a.id = u.account
            returning *)
        update accounts a set balance_minor = m.balance_minor, version = m.account_version
        from more m where a.id = m.account_id"""
    with refusal("23M01"):
        await worker_connection.execute(pair, entry, [3, 4], mine)
    with refusal("23505"):
        await worker_connection.execute(pair, entry, [1, 2], mine)


async def test_temporary_table_does_not_stand_in_for_the_journal(superuser: Any) -> None:
    await superuser.execute(
        "create temp table journal_entries as select e.* from public.journal_entries e limit 0"
    )
    real = WRITE.replace("into journal_entries", "into public.journal_entries")
    entry, mine = new_id("ent"), [await opened(superuser) for _ in range(2)]
    with refusal("23M01"):
        await superuser.execute(real, entry, entry, 2, mine, [100, -99], ["RWF"] * 2, ["test"] * 2)
    await superuser.execute("drop table pg_temp.journal_entries")


@pytest.mark.parametrize("other", [(-100, "USD", "test"), (-100, "RWF", "live")])
async def test_currencies_and_modes_never_mix(worker_connection: Any, other: Any) -> None:
    with refusal("23M04"):
        await write(worker_connection, (100, *RWF), other)
    lying = [await opened(worker_connection), await opened(worker_connection, *other[1:])]
    with refusal("23M04"):  # the posting says RWF, its account is another's
        await write(worker_connection, (100, *RWF), (-100, *RWF), accounts=lying)


async def test_sides_that_balance_in_pairs_of_currencies_are_no_entry(
    worker_connection: Any,
) -> None:
    sides = [(100, *RWF), (-100, *RWF), (7, "USD", "test"), (-7, "USD", "test")]
    with refusal("23M04"):
        await write(worker_connection, *sides, declared=4)


async def test_effect_is_booked_once(worker_connection: Any) -> None:
    key = new_id("att") + ":capture"
    await write(worker_connection, (100, *RWF), (-100, *RWF), key=key)
    with refusal("23505"):
        await write(worker_connection, (100, *RWF), (-100, *RWF), key=key)


@pytest.mark.parametrize(
    ("kind", "amount"),
    [("pending", 100), ("available", 100), ("reserve", 100), ("payout", 100),
     ("refund_due", 100), ("receivable", -100)],
)  # fmt: skip
async def test_client_account_never_changes_its_sign(
    worker_connection: Any, kind: str, amount: int
) -> None:
    mine = [await opened(worker_connection, kind=kind), await opened(worker_connection)]
    with refusal("23514"):
        await write(worker_connection, (amount, *RWF), (-amount, *RWF), accounts=mine)
    await write(worker_connection, (-amount, *RWF), (amount, *RWF), accounts=mine)


async def test_balance_beyond_64_bits_is_refused(worker_connection: Any) -> None:
    most = 2**63 - 1
    mine = [await opened(worker_connection) for _ in range(2)]
    await write(worker_connection, (most, *RWF), (-most, *RWF), accounts=mine)
    with refusal("22003"):
        await write(worker_connection, (1, *RWF), (-1, *RWF), accounts=mine)


@pytest.mark.parametrize("wrong", ["previous", "balance", "version", "account"])
async def test_running_balance_that_does_not_continue_is_refused(
    worker_connection: Any, wrong: str
) -> None:
    mine = [await opened(worker_connection) for _ in range(2)]
    await write(worker_connection, (100, *RWF), (-100, *RWF), accounts=mine)
    lie = {
        "previous": ("a.balance_minor as previous", "a.balance_minor - balance_minor as previous"),
        "balance": ("(a.balance_minor + amount_minor)", "(a.balance_minor + amount_minor + 1)"),
        "version": ("a.version + 1 as", "a.version + 2 as"),
        "account": ("set balance_minor = s.balance_minor", "set balance_minor = 7"),
    }[wrong]
    assert lie[0] in WRITE
    entry = new_id("ent")
    columns = [[100, -100], ["RWF"] * 2, ["test"] * 2]
    with pytest.raises(asyncpg.PostgresError) as refused:
        await worker_connection.execute(WRITE.replace(*lie), entry, entry, 2, mine, *columns)
    assert refused.value.sqlstate in ("23M05", "23514")


# Two postings on one account in one statement: the second alone closes it.
TWICE = """
with entry as (
    insert into journal_entries (id, kind, effect_key, client_id, mode, currency, amount_minor,
        fee_minor, postings_count, late, occurred_at, posted_at)
    select id, 'settlement', id, 'cli_x', 'test', 'RWF', 100, 0, 2, false, now(), at
    from unnest($1::text[], $2::timestamptz[]) as u(id, at)),
written as (
    insert into postings (entry_id, line, account_id, currency, mode, amount_minor, previous_minor,
        balance_minor, account_version, posted_at, closing)
    select e.id, s.line, s.account, 'RWF', 'test', s.sign * 100, s.sign * 100 * (e.n - 1),
        s.sign * 100 * e.n, e.n, e.at, e.closing
    from unnest($1::text[], $2::timestamptz[], $3::bool[]) with ordinality
        as e(id, at, closing, n),
        unnest(array[1, 2], $4::text[], array[1, -1]) as s(line, account, sign))
update accounts set balance_minor = 200 * case when id = $4[1] then 1 else -1 end, version = 2,
    last_posted_at = $2[2]
where id = any($4)"""


@pytest.mark.parametrize(
    ("seconds_between", "closing", "refused"),
    [
        (0, [False, True], False),
        (0, [True, True], False),
        (1, [True, True], False),
        (0, [True, False], True),  # the newest must be found by its time
        (1, [False, True], True),  # what is of a time of its own, too
    ],
)
async def test_only_a_posting_with_a_follower_of_its_time_is_left_out_of_the_index_by_time(
    worker_connection: Any, seconds_between: int, closing: list[bool], refused: bool
) -> None:
    mine = [await opened(worker_connection) for _ in range(2)]
    now = dt.datetime.now(dt.UTC)
    times = [now, now + dt.timedelta(seconds=seconds_between)]
    entries = [new_id("ent") for _ in times]
    with refusal("23M05") if refused else nullcontext():
        await worker_connection.execute(TWICE, entries, times, closing, mine)


@pytest.mark.parametrize(
    ("version", "mode", "refused"), [(1, "test", False), (2, "test", True), (1, "live", True)]
)
async def test_entry_names_a_fee_plan_that_exists_in_its_mode(
    worker_connection: Any, version: int, mode: str, refused: bool
) -> None:
    mine = [await opened(worker_connection, mode=mode) for _ in range(2)]
    sql = (
        WRITE.replace("fee_minor, postings", "fee_minor, fee_plan_id, fee_plan_version, postings")
        .replace("100, 0, $3", f"100, 1, 'default_test', {version}, $3")
        .replace("'test'", f"'{mode}'")
    )
    entry = new_id("ent")
    columns = [[100, -100], ["RWF"] * 2, [mode] * 2]
    with refusal("23503") if refused else nullcontext():
        await worker_connection.execute(sql, entry, entry, 2, mine, *columns)


async def test_posting_of_zero_is_refused(worker_connection: Any) -> None:
    with refusal("23514"):
        await write(worker_connection, (0, *RWF), (0, *RWF))


async def test_account_version_is_taken_once(worker_connection: Any) -> None:
    mine = [await opened(worker_connection) for _ in range(2)]
    entry = await write(worker_connection, (100, *RWF), (-100, *RWF), accounts=mine)
    with refusal("23505"):
        await worker_connection.execute(POSTING, entry, 3, mine[0], 1, 0, 1, 1)


async def test_reversal_happens_once_and_names_an_entry_of_its_currency_and_mode(
    worker_connection: Any,
) -> None:
    first = await write(worker_connection, (100, *RWF), (-100, *RWF))
    columns = "occurred_at, posted_at, reverses"
    values = "now(), now(), '{}'"
    reversing = WRITE.replace("occurred_at, posted_at)", columns + ")", 1).replace(
        "'capture'", "'reversal'"
    )

    async def take_back(of: str, currency: str) -> None:
        entry = new_id("ent")
        mine = [await opened(worker_connection, currency) for _ in range(2)]
        sql = reversing.replace("now(), now())", values.format(of) + ")", 1)
        sides = [[100, -100], [currency] * 2, ["test"] * 2]
        await worker_connection.execute(
            sql.replace("'RWF'", f"'{currency}'"), entry, entry, 2, mine, *sides
        )

    with refusal("23M04"):
        await take_back(first, "USD")
    with refusal("23M04"):
        await take_back("ent_none", "RWF")
    await take_back(first, "RWF")
    with refusal("23505"):
        await take_back(first, "RWF")


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
        "truncate blocks",
        "delete from journal_seals",
        "update blocks set hash = ''",
        "update void_effects set mode = 'live'",
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
        "delete from accounts",
        "truncate accounts cascade",
        "update accounts set currency = 'USD'",
        "update blocks set hash = ''",
        "delete from journal_seals",
        "delete from void_effects",
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
        "insert into fee_plans (id, version, mode, basis_points, effective_from) "
        "values ('x', 1, 'test', 0, now() + interval '1 day')",
        "insert into void_effects values ('x', 'x', 'test', 'x', 'x')",
        "delete from unsealed_entries",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with ledger.database.request(operator=True) as tx:
                await tx.run(statement)
