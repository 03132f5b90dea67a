"""All SQL of the ledger. Batches are set-based; account locks are taken in id order."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import PaymentEventV1

from mospay_ledger.domain import Account, AmountTooLarge, Entry, FeePlan, NotStorable

# The plan of the client for the service, else of the client, else of the service, else the
# default; for the payment's currency before for any; the newest that was in force at acceptance.
_FEE_PLANS = """
select f.id, f.version, f.basis_points, f.fixed_minor
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    with ordinality as u(client_id, service_id, currency, mode, accepted_at, n)
left join lateral (
    select * from fee_plans p where p.mode = u.mode and p.effective_from <= u.accepted_at
        and (p.client_id = u.client_id or p.client_id is null)
        and (p.service_id = u.service_id or p.service_id is null)
        and (p.currency = u.currency or p.currency is null)
    order by p.client_id is null, p.service_id is null, p.currency is null,
        p.effective_from desc limit 1) f on true
order by u.n"""
_OPEN_ACCOUNTS = """
insert into accounts (id, kind, client_id, currency, mode)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    as u(id, kind, client_id, currency, mode)
where not exists (select 1 from accounts a where a.id = u.id) order by id
on conflict do nothing"""
_LOCK_ACCOUNTS = "select 1 from accounts where id = any($1::text[]) order by id for update"
_KNOWN = """
select payment_id, effect_key from journal_entries
where payment_id = any($1::text[]) or effect_key = any($2::text[])"""
_INSERT_ENTRIES = """
insert into journal_entries (id, kind, effect_key, payment_id, attempt_id, client_id, mode,
    currency, amount_minor, fee_minor, fee_plan_id, fee_plan_version, postings_count, late,
    accepted_at, occurred_at, posted_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::int[], $13::smallint[],
    $14::bool[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[])"""
_INSERT_POSTINGS = """
with sides as materialized (
    select u.entry_id, u.account_id, u.amount_minor, a.client_id, a.currency, a.mode,
        (a.balance_minor + sum(u.amount_minor) over seen)::bigint as balance_minor,
        a.version + row_number() over seen as version,
        row_number() over (partition by u.account_id order by u.n desc) as last
    from unnest($1::text[], $2::text[], $3::bigint[])
        with ordinality as u(entry_id, account_id, amount_minor, n)
    join accounts a on a.id = u.account_id
    window seen as (partition by u.account_id order by u.n)),
written as (
    insert into postings (entry_id, account_id, client_id, currency, mode, amount_minor,
        balance_minor, account_version)
    select entry_id, account_id, client_id, currency, mode, amount_minor, balance_minor, version
    from sides)
update accounts set balance_minor = s.balance_minor, version = s.version
from sides s where accounts.id = s.account_id and s.last = 1"""
# One statement, one snapshot: totals are of all accounts, rows only of the first $2 a currency.
_TRIAL = """
with posted as (
    select account_id, sum(amount_minor) as total from postings where mode = $1 group by 1),
books as (
    select a.id, a.kind, a.client_id, a.currency, coalesce(p.total, 0) as posted_minor,
        sum(greatest(p.total, 0)) over same as debit_minor,
        -sum(least(p.total, 0)) over same as credit_minor,
        bool_and(a.balance_minor = coalesce(p.total, 0)) over same as balances_agree,
        count(*) over same as account_count,
        row_number() over (partition by a.currency order by a.client_id nulls first, a.id) as place
    from accounts a left join posted p on p.account_id = a.id
    where a.mode = $1 window same as (partition by a.currency))
select books.*, (select count(*) from journal_entries where mode = $1) as entries
from books where place <= $2 order by currency, place"""
_ENTRIES = """
select e.id, e.kind, e.posted_at, e.currency, e.fee_minor, e.late,
    array_agg(p.account_id order by p.amount_minor desc) as accounts,
    array_agg(p.amount_minor order by p.amount_minor desc) as amounts
from journal_entries e join postings p on p.entry_id = e.id
where e.payment_id = $1 group by e.id order by e.posted_at, e.id limit 100"""
_ACCOUNTS = """
select id, kind, client_id, currency, mode, balance_minor, version from accounts
where ($1 = '' or client_id = $1) and ($2 = '' or mode = $2) and ($3 = '' or currency = $3)
    and ($4 = '' or kind = $4) and id > $5 order by id limit $6"""
# Five minutes overlap the checks of a minute; the lateral keeps it off a scan of all postings.
_UNBALANCED = """
select count(*) from journal_entries e
cross join lateral (
    select coalesce(sum(amount_minor), 0) as total, count(*) as sides
    from postings where entry_id = e.id) p
where e.posted_at > now() - interval '5 minutes'
    and (p.total <> 0 or p.sides <> e.postings_count)"""
_ADRIFT = """
select count(*) from accounts a
left join lateral (
    select balance_minor, account_version from postings where account_id = a.id
    order by account_version desc limit 1) p on true
where (a.balance_minor, a.version)
    is distinct from (coalesce(p.balance_minor, 0), coalesce(p.account_version, 0))"""


async def fee_plans(tx: Tx, payments: Sequence[PaymentEventV1]) -> list[FeePlan | None]:
    """Return each payment's fee plan as of its acceptance; None where there is none.

    Raises NotStorable when a payment names what the database can't even look for.
    """
    try:
        rows = await tx.fetch(
            _FEE_PLANS,
            [p.client_id for p in payments],
            [p.service_id for p in payments],
            [p.currency for p in payments],
            [p.mode for p in payments],
            [p.accepted_at for p in payments],
        )
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an id contains a NUL character") from error
    return [
        None
        if row["id"] is None
        else FeePlan(row["id"], row["version"], row["basis_points"], row["fixed_minor"])
        for row in rows
    ]


async def open_and_lock(tx: Tx, accounts: Sequence[Account]) -> None:
    """Open the accounts that do not exist yet and lock them all, in id order, until the commit.

    Raises NotStorable when an account can't be named.
    """
    by_id = {account.id: account for account in accounts}
    wanted = [by_id[key] for key in sorted(by_id)]
    if not wanted:
        return
    try:
        await tx.run(
            _OPEN_ACCOUNTS,
            [a.id for a in wanted],
            [a.kind for a in wanted],
            [a.client_id for a in wanted],
            [a.currency for a in wanted],
            [a.mode for a in wanted],
        )
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an account's name contains a NUL character") from error
    await tx.run(_LOCK_ACCOUNTS, [a.id for a in wanted])


async def known_effects(
    tx: Tx, payments: Sequence[str], keys: Sequence[str]
) -> tuple[set[str], set[str]]:
    """Return which of these payments have entries, and which effect keys are taken.

    Raises NotStorable when an id is one the database can't even look for.
    """
    try:
        rows = await tx.fetch(_KNOWN, payments, keys)
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an id contains a NUL character") from error
    return {row["payment_id"] for row in rows}, {row["effect_key"] for row in rows}


async def write_entries(tx: Tx, entries: Sequence[Entry]) -> None:
    """Write balanced entries with their postings and move the balances of their accounts.

    The accounts must be locked by `open_and_lock` in this transaction. Raises AmountTooLarge when
    a balance would leave 64 bits.
    """
    payments = [e.payment for e in entries]
    await tx.run(
        _INSERT_ENTRIES,
        [e.id for e in entries],
        [e.kind for e in entries],
        [e.effect_key for e in entries],
        [p.payment_id for p in payments],
        [p.attempt_id for p in payments],
        [p.client_id for p in payments],
        [p.mode for p in payments],
        [p.currency for p in payments],
        [p.amount_minor for p in payments],
        [e.fee_minor for e in entries],
        [e.plan.id if e.plan else None for e in entries],
        [e.plan.version if e.plan else None for e in entries],
        [len(e.postings) for e in entries],
        [p.late for p in payments],
        [p.accepted_at for p in payments],
        [p.occurred_at for p in payments],
        [e.posted_at for e in entries],
    )
    sides = [(e.id, p.account.id, p.amount_minor) for e in entries for p in e.postings]
    try:
        await tx.run(_INSERT_POSTINGS, *([side[n] for side in sides] for n in range(3)))
    except asyncpg.NumericValueOutOfRangeError as error:
        raise AmountTooLarge("an account's balance would not fit 64 bits") from error


async def trial_balance(tx: Tx, mode: str, limit: int) -> list[asyncpg.Record]:
    """Return a mode's accounts by the sums of their postings, at most `limit` a currency.

    Each row repeats its currency's totals (over all accounts, whatever the limit), whether stored
    balances agree with the postings, and the mode's number of entries.
    """
    return await tx.fetch(_TRIAL, mode, limit)


async def entries_of(tx: Tx, payment_id: str) -> list[dict[str, Any]]:
    """Return a payment's entries with their postings, oldest first."""
    return [
        {
            "entry_id": row["id"],
            "kind": row["kind"],
            "posted_at": row["posted_at"],
            "currency": row["currency"],
            "fee_minor": row["fee_minor"],
            "late": row["late"],
            "postings": [
                {"account": account, "amount_minor": amount}
                for account, amount in zip(row["accounts"], row["amounts"], strict=True)
            ],
        }
        for row in await tx.fetch(_ENTRIES, payment_id)
    ]


async def accounts(
    tx: Tx,
    *,
    client_id: str = "",
    mode: str = "",
    currency: str = "",
    kind: str = "",
    after: str = "",
    limit: int,
) -> list[asyncpg.Record]:
    """Return accounts in id order, those past `after`; an empty filter takes all."""
    return await tx.fetch(_ACCOUNTS, client_id, mode, currency, kind, after, limit)


async def count_unbalanced(tx: Tx) -> int:
    """Return how many entries of the last five minutes do not balance; the database allows none."""
    return int(await tx.value(_UNBALANCED))


async def count_adrift(tx: Tx) -> int:
    """Return how many accounts differ from the running balance of their newest posting."""
    return int(await tx.value(_ADRIFT))
