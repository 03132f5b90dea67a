"""All SQL of the ledger. Batches are set-based; account locks are taken in id order."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain import Account, Entry

_KNOWN = """
select payment_id, effect_key from journal_entries
where payment_id = any($1::text[]) or effect_key = any($2::text[])"""
_OPEN_ACCOUNTS = """
insert into accounts (id, kind, owner, client_id, currency, mode)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    as u(id, kind, owner, client_id, currency, mode)
where not exists (select 1 from accounts a where a.id = u.id) order by id
on conflict do nothing"""
_INSERT_ENTRIES = """
insert into journal_entries (id, kind, effect_key, payment_id, attempt_id, client_id, mode,
    currency, amount_minor, fee_minor, plan_version, late, accepted_at, occurred_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::bool[],
    $13::timestamptz[], $14::timestamptz[])"""
_INSERT_POSTINGS = """
with locked as materialized (
    select id, client_id, currency, mode, balance_minor, version from accounts
    where id = any($2::text[]) order by id for update),
sides as materialized (
    select u.entry_id, u.account_id, u.amount_minor, a.client_id, a.currency, a.mode,
        a.balance_minor + sum(u.amount_minor) over seen as balance_minor,
        a.version + row_number() over seen as version,
        row_number() over (partition by u.account_id order by u.n desc) as last
    from unnest($1::text[], $2::text[], $3::bigint[])
        with ordinality as u(entry_id, account_id, amount_minor, n)
    join locked a on a.id = u.account_id
    window seen as (partition by u.account_id order by u.n)),
written as (
    insert into postings (entry_id, account_id, client_id, currency, mode, amount_minor,
        balance_minor, account_version)
    select entry_id, account_id, client_id, currency, mode, amount_minor, balance_minor, version
    from sides)
update accounts set balance_minor = s.balance_minor, version = s.version
from sides s where accounts.id = s.account_id and s.last = 1"""
_TRIAL = """
select a.id, a.kind, a.client_id, a.currency, a.balance_minor,
    coalesce(p.total, 0)::bigint as posted_minor
from accounts a
left join (select account_id, sum(amount_minor) as total from postings group by 1) p
    on p.account_id = a.id
where a.mode = $1 order by a.currency, a.id limit 10000"""
_ENTRIES = """
select e.id, e.kind, e.posted_at, e.currency,
    array_agg(p.account_id order by p.amount_minor desc) as accounts,
    array_agg(p.amount_minor order by p.amount_minor desc) as amounts
from journal_entries e join postings p on p.entry_id = e.id
where e.payment_id = $1 group by e.id order by e.posted_at limit 100"""
_BALANCES = """
select id, kind, currency, mode, balance_minor, version from accounts
where client_id = $1 and ($2 = '' or mode = $2) order by id limit 200"""
_UNBALANCED = """
select count(*) from (
    select p.entry_id from postings p join journal_entries e on e.id = p.entry_id
    where e.posted_at > now() - interval '1 hour'
    group by p.entry_id having sum(p.amount_minor) <> 0) broken"""


async def known_effects(
    tx: Tx, payments: Sequence[str], keys: Sequence[str]
) -> tuple[set[str], set[str]]:
    """Return which of these payments have entries, and which effect keys are taken."""
    rows = await tx.fetch(_KNOWN, payments, keys)
    return {row["payment_id"] for row in rows}, {row["effect_key"] for row in rows}


async def write_entries(tx: Tx, entries: Sequence[Entry]) -> None:
    """Write balanced entries with their postings and move the balances of their accounts."""
    accounts = {p.account.id: p.account for e in entries for p in e.postings}
    await _open(tx, sorted(accounts.values(), key=lambda a: a.id))
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
        [e.plan_version for e in entries],
        [p.late for p in payments],
        [p.accepted_at for p in payments],
        [p.occurred_at for p in payments],
    )
    sides = [(e.id, p.account.id, p.amount_minor) for e in entries for p in e.postings]
    await tx.run(_INSERT_POSTINGS, *([side[n] for side in sides] for n in range(3)))


async def _open(tx: Tx, accounts: Sequence[Account]) -> None:
    await tx.run(
        _OPEN_ACCOUNTS,
        [a.id for a in accounts],
        [a.kind for a in accounts],
        [a.owner for a in accounts],
        [a.client_id for a in accounts],
        [a.currency for a in accounts],
        [a.mode for a in accounts],
    )


async def trial_balance(tx: Tx, mode: str) -> list[asyncpg.Record]:
    """Return every account of a mode with its balance and the sum of its postings."""
    return await tx.fetch(_TRIAL, mode)


async def count_entries(tx: Tx, mode: str) -> int:
    """Return how many entries a mode has."""
    return int(await tx.value("select count(*) from journal_entries where mode = $1", mode))


async def entries_of(tx: Tx, payment_id: str) -> list[dict[str, Any]]:
    """Return a payment's entries with their postings, oldest first."""
    return [
        {
            "entry_id": row["id"],
            "kind": row["kind"],
            "posted_at": row["posted_at"],
            "currency": row["currency"],
            "postings": [
                {"account": account, "amount_minor": amount}
                for account, amount in zip(row["accounts"], row["amounts"], strict=True)
            ],
        }
        for row in await tx.fetch(_ENTRIES, payment_id)
    ]


async def balances_of(tx: Tx, client_id: str, mode: str) -> list[asyncpg.Record]:
    """Return a client's accounts; every mode when `mode` is empty."""
    return await tx.fetch(_BALANCES, client_id, mode)


async def unbalanced_lately(tx: Tx) -> int:
    """Return how many entries of the last hour do not balance; the database allows none."""
    return int(await tx.value(_UNBALANCED))
