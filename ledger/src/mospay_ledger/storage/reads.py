"""Reads: entries, accounts, balances now and as of any instant, the trial balance, the checks.

A balance now is one row; as of an instant it is one descent of an index. Nothing here scans
postings.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain import Account, Entry, Fee, Posting

# The newest posting of account `a` at $1; its balance is what the account held then. Of what a
# statement posts to an account the last closes it, and closing postings alone are indexed by time.
_THEN = """left join lateral (
    select balance_minor, account_version from postings
    where account_id = a.id and posted_at <= $1 and closing
    order by posted_at desc, account_version desc limit 1) p on true"""
# What was posted to account `a` in a span of time is a span of its versions.
VERSION_BEFORE = """coalesce((
    select account_version from postings
    where account_id = a.id and posted_at < {at} and closing
    order by posted_at desc, account_version desc limit 1), 0)"""
VERSION_AT = VERSION_BEFORE.replace("<", "<=")
# Postings `p` to accounts `a` from $2 until before $3.
POSTED_BETWEEN = f"""cross join lateral (select {VERSION_BEFORE.format(at="$2")} as first,
    {VERSION_BEFORE.format(at="$3")} as last) span
join postings p on p.account_id = a.id and p.account_version > span.first
    and p.account_version <= span.last"""
_TRIAL = """
with books as (
    select a.id, a.kind, a.client_id, a.currency, {columns}
    from accounts a {source} where a.mode = $2),
listed as (
    select *, sum(greatest(minor, 0)) over same as debit_minor,
        -sum(least(minor, 0)) over same as credit_minor,
        bool_and(agrees) over same as balances_agree, count(*) over same as account_count,
        row_number() over (partition by currency order by client_id nulls first, id) as place
    from books window same as (partition by currency))
select * from listed where place <= $3 order by currency, place"""
# Now: the stored balances, each held against its account's newest posting.
_TRIAL_NOW = _TRIAL.format(
    columns="""a.balance_minor as minor, (a.balance_minor, a.version)
        = (coalesce(p.balance_minor, 0), coalesce(p.account_version, 0)) as agrees""",
    source="""left join lateral (
        select balance_minor, account_version from postings
        where account_id = a.id and $1::timestamptz is null
        order by account_version desc limit 1) p on true""",
)
_TRIAL_THEN = _TRIAL.format(
    columns="coalesce(p.balance_minor, 0) as minor, true as agrees", source=_THEN
)
_ENTRY_COUNT = """
select coalesce((select case when $1 = 'live' then live_entries else test_entries end
        from blocks order by id desc limit 1), 0)
    + (select count(*) from unsealed_entries u join journal_entries e on e.id = u.entry_id
       where e.mode = $1)"""
_ENTRY = """
select e.*, array_agg(p.account_id order by p.amount_minor desc, p.line) as accounts,
    array_agg(p.amount_minor order by p.amount_minor desc, p.line) as amounts,
    array_agg(p.previous_minor order by p.amount_minor desc, p.line) as befores,
    array_agg(p.balance_minor order by p.amount_minor desc, p.line) as afters,
    array_agg(p.account_version order by p.amount_minor desc, p.line) as versions
from journal_entries e join postings p on p.entry_id = e.id"""
_TENANT = "($2 = '' or e.client_id = $2) and ($3 = '' or e.mode = $3)"
_OF_PAYMENT = f"""{_ENTRY} where e.payment_id = $1 and {_TENANT}
group by e.id order by e.posted_at, e.id limit 200"""
_BY_ID = f"{_ENTRY} where e.id = $1 and {_TENANT} group by e.id"
_PLACE = """
select posted_at from journal_entries where id = $1 and ($2 = '' or client_id = $2) and mode = $3"""


# An entry without a side that the reader sees (nothing of it is on the client's accounts) is no
# row, so it must not count as one.
def _page_of(whose: str, payment: str) -> str:
    return f"""{_ENTRY} where e.id in (
    select j.id from journal_entries j
    where {whose} and {payment} and j.mode = $2
        and ($3 = '' or j.currency = $3) and ($4 = '' or j.kind = $4)
        and j.posted_at >= coalesce($5::timestamptz, '-infinity')
        and j.posted_at < coalesce($6::timestamptz, 'infinity')
        and (j.posted_at, j.id) < (coalesce($7::timestamptz, 'infinity'), $8)
        and exists (select from postings p where p.entry_id = j.id)
    order by j.posted_at desc, j.id desc limit $9)
group by e.id order by e.posted_at desc, e.id desc"""


# Down the index of what is named (client and mode, payment, or time alone), whatever is left open.
_PAGES = {
    (client, payment): _page_of(
        "j.client_id = $1" if client else "$1 = ''",
        "j.payment_id = $10" if payment else "$10 = ''",
    )
    for client in (True, False)
    for payment in (True, False)
}
_REVERSED_BY = "select id from journal_entries where reverses = $1"
_STATEMENT = """
select p.account_version, p.entry_id, p.amount_minor, p.previous_minor, p.balance_minor,
    p.posted_at, e.kind, e.payment_id, e.refund_id, e.attempt_id, e.provider_reference,
    e.occurred_at, e.late
from postings p join journal_entries e on e.id = p.entry_id
where p.account_id = $1 and p.account_version < $2
order by p.account_version desc limit $3"""
_FILTERED = """
where ($1 = '' or a.client_id = $1) and ($2 = '' or a.mode = $2) and ($3 = '' or a.currency = $3)
    and ($4 = '' or a.kind = $4) and ($7 = '' or a.id = $7) and a.id > $5 order by a.id limit $6"""
_ACCOUNTS = f"""
select a.id, a.kind, a.client_id, a.currency, a.mode, a.balance_minor, a.version
from accounts a {_FILTERED}"""
_ACCOUNTS_THEN = f"""
select a.id, a.kind, a.client_id, a.currency, a.mode,
    coalesce(p.balance_minor, 0) as balance_minor, coalesce(p.account_version, 0) as version
from accounts a {_THEN.replace("$1", "$8")} {_FILTERED}"""
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


async def trial_balance(
    tx: Tx, mode: str, limit: int, at: dt.datetime | None
) -> list[asyncpg.Record]:
    """Return a mode's accounts now or as of an instant, at most `limit` a currency.

    Each row repeats its currency's totals (over all accounts, whatever the limit) and whether
    stored balances agree with each account's newest posting. One statement, one snapshot.
    """
    return await tx.fetch(_TRIAL_NOW if at is None else _TRIAL_THEN, at, mode, limit)


async def entry_count(tx: Tx, mode: str) -> int:
    """Return how many entries a mode has: what the last block counted plus what waits."""
    return int(await tx.value(_ENTRY_COUNT, mode))


def _shown(row: Any) -> dict[str, Any]:
    postings = zip(
        row["accounts"], row["amounts"], row["befores"], row["afters"], row["versions"], strict=True
    )
    return {
        **{key: row[key] for key in row.keys() if key not in _ARRAYS},  # noqa: SIM118
        "entry_id": row["id"],
        "postings": [
            {
                "account": account,
                "amount_minor": amount,
                "previous_minor": before,
                "balance_minor": after,
                "account_version": version,
            }
            for account, amount, before, after, version in postings
        ],
    }


_ARRAYS = {"id", "accounts", "amounts", "befores", "afters", "versions"}


async def entries_of(
    tx: Tx, payment_id: str, client_id: str = "", mode: str = ""
) -> list[dict[str, Any]]:
    """Return a payment's entries with their postings, oldest first, at most 200."""
    return [_shown(row) for row in await tx.fetch(_OF_PAYMENT, payment_id, client_id, mode)]


async def page(
    tx: Tx,
    client_id: str,
    mode: str,
    *,
    currency: str,
    kind: str,
    payment_id: str,
    since: dt.datetime | None,
    until: dt.datetime | None,
    before: tuple[dt.datetime, str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return a mode's entries posted in [since, until), newest first; an empty filter takes all.

    `before` is where the last page ended: (posted_at, id).
    """
    at, entry_id = before or (None, "")
    statement = _PAGES[client_id != "", payment_id != ""]
    rows = await tx.fetch(
        statement, client_id, mode, currency, kind, since, until, at, entry_id, limit, payment_id
    )
    return [_shown(row) for row in rows]


async def place_of(tx: Tx, entry_id: str, client_id: str, mode: str) -> dt.datetime | None:
    """Return when an entry was posted; None where a client (empty: anybody) has no such entry."""
    found: dt.datetime | None = await tx.value(_PLACE, entry_id, client_id, mode)
    return found


async def entry(
    tx: Tx, entry_id: str, client_id: str = "", mode: str = ""
) -> dict[str, Any] | None:
    """Return an entry with its postings and `reversed_by`, or None."""
    row = await tx.row(_BY_ID, entry_id, client_id, mode)
    if row is None:
        return None
    return {**_shown(row), "reversed_by": await tx.value(_REVERSED_BY, entry_id)}


def rebuilt(found: dict[str, Any]) -> Entry:
    """Return the domain's entry of what `entry` found."""
    fee = (
        Fee(found["fee_minor"], found["fee_plan_id"], found["fee_plan_version"], found["fee_tier"])
        if found["fee_plan_id"] is not None
        else None
    )
    return Entry(
        id=found["entry_id"],
        fee=fee,
        postings=tuple(
            Posting(Account.parse(side["account"]), side["amount_minor"])
            for side in found["postings"]
        ),
        client_id=found["client_id"] or "",
        **{name: found[name] for name in _SAME},
    )


_SAME = (
    "kind", "effect_key", "mode", "currency", "amount_minor", "occurred_at",
    "payment_id", "attempt_id", "refund_id", "service_id", "provider_reference", "reverses",
    "reason", "fee_returned_minor", "fee_base_minor", "late", "resolved", "accepted_at",
)  # fmt: skip


async def statement(tx: Tx, account_id: str, before: int, limit: int) -> list[asyncpg.Record]:
    """Return an account's postings with their entries, newest first, below version `before`."""
    return await tx.fetch(_STATEMENT, account_id, before, limit)


async def accounts(
    tx: Tx,
    *,
    account_id: str = "",
    client_id: str = "",
    mode: str = "",
    currency: str = "",
    kind: str = "",
    after: str = "",
    limit: int,
    at: dt.datetime | None = None,
) -> Sequence[asyncpg.Record]:
    """Return accounts in id order, those past `after`; an empty filter takes all.

    With `at`, balances and versions are those of that instant.
    """
    filters = (client_id, mode, currency, kind, after, limit, account_id)
    if at is None:
        return await tx.fetch(_ACCOUNTS, *filters)
    return await tx.fetch(_ACCOUNTS_THEN, *filters, at)


async def count_unbalanced(tx: Tx) -> int:
    """Return how many entries of the last five minutes do not balance; the database allows none."""
    return int(await tx.value(_UNBALANCED))


async def count_adrift(tx: Tx) -> int:
    """Return how many accounts differ from the running balance of their newest posting."""
    return int(await tx.value(_ADRIFT))
