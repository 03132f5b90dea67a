"""A client's statement of account: what each entry did to its balances between two instants."""

import datetime as dt

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.storage.reads import POSTED_BETWEEN, VERSION_AT, VERSION_BEFORE

# What is posted in one transaction has one time: of that time, what is up to an entry counts too.
_OPENING = f"""
select a.kind, (coalesce(p.balance_minor, 0) + coalesce((
    select sum(amount_minor) from postings
    where account_id = a.id and account_version > before.version
        and account_version <= {VERSION_AT.format(at="$2")} and entry_id <= $3), 0)
    )::bigint as balance_minor
from accounts a
cross join lateral (select {VERSION_BEFORE.format(at="$2")} as version) before
left join postings p on p.account_id = a.id and p.account_version = before.version
where a.id = any($1::text[])"""
_LINES = f"""
select p.entry_id, p.posted_at, e.kind, e.payment_id, e.refund_id, e.effect_key, e.amount_minor,
    coalesce(-sum(p.amount_minor) filter (where p.account_id = $4), 0)::bigint as pending_minor,
    coalesce(-sum(p.amount_minor) filter (where p.account_id = $5), 0)::bigint as available_minor,
    coalesce(-sum(p.amount_minor) filter (where p.account_id <> $4 and p.account_id <> $5
        and p.account_id <> $6), 0)::bigint as held_minor,
    coalesce(-sum(p.amount_minor) filter (where p.account_id = $6), 0)::bigint as debt_minor,
    -sum(p.amount_minor)::bigint as change_minor
from unnest($1::text[]) as a(id)
{POSTED_BETWEEN}
join journal_entries e on e.id = p.entry_id
where (p.posted_at > $2 or p.entry_id > $8)
group by p.entry_id, p.posted_at, e.kind, e.payment_id, e.refund_id, e.effect_key, e.amount_minor
order by p.posted_at, p.entry_id limit $7"""


async def opening(tx: Tx, accounts: list[str], at: dt.datetime, after: str = "") -> dict[str, int]:
    """Return what accounts held before an instant, by kind; credits are negative.

    With `after`, an entry posted at that instant: what they held after that entry.
    """
    rows = await tx.fetch(_OPENING, accounts, at, after)
    return {row["kind"]: row["balance_minor"] for row in rows}


async def lines(
    tx: Tx,
    accounts: dict[str, str],
    since: dt.datetime,
    until: dt.datetime,
    limit: int,
    after: str = "",
) -> list[asyncpg.Record]:
    """Return the entries on accounts (ids by kind) of [since, until), oldest first.

    What they changed, seen by the client: more is positive. With `after`, those past that entry,
    which was posted at `since`.
    """
    named = (accounts["pending"], accounts["available"], accounts["receivable"])
    return await tx.fetch(_LINES, list(accounts.values()), since, until, *named, limit, after)
