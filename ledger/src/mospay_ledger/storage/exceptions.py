"""Exceptions of reconciliation, what was done about them, and the report over both sides.

`client_id` says whose payment one is about, where the books know; the others are the operator's.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.reconciliation import Difference

_OPEN = """
insert into reconciliation_exceptions (id, kind, microservice, mode, currency, stated_minor,
    expected_currency, expected_minor, delta_minor, import_id, line_no, entry_id, reference,
    payment_id, occurred_at, state, due_at, client_id)
select u.id, u.kind, $1, $2, u.currency, u.stated, u.expected_currency, u.expected,
    case when coalesce(u.expected_currency, u.currency) = u.currency
        then u.stated - u.expected else u.stated end,
    u.import_id, u.line_no, u.entry_id, u.reference, u.payment_id, u.occurred_at, 'open', u.due_at,
    coalesce(e.client_id, p.client_id)
from unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::text[],
    $10::bigint[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::timestamptz[])
    as u(id, kind, currency, stated, expected_currency, expected, import_id, line_no, entry_id,
        reference, payment_id, occurred_at, due_at)
left join expected_lines e on e.entry_id = u.entry_id
left join lateral (
    select x.client_id from expected_lines x
    where u.entry_id is null and x.payment_id = u.payment_id and x.mode = $2
        and x.client_id is not null limit 1) p on true
on conflict do nothing returning id, kind, due_at"""
_LATE = """
select id, kind, state from reconciliation_exceptions
where kind = 'missing_here' and (import_id, line_no) in (
    select * from unnest($1::text[], $2::bigint[]))
union all
select id, kind, state from reconciliation_exceptions
where kind = 'missing_there' and entry_id = any($3::text[])
order by id"""
_CLOSE = """
update reconciliation_exceptions set state = 'resolved', resolution = 'matched',
    proposed_by = null, approved_by = null, resolved_at = now(), version = version + 1
where id = any($1::text[]) and state <> 'resolved' returning id, kind"""
_POSTED = """
select a.exception_id, e.entry_id from reconciliation_actions a
cross join lateral unnest(a.entry_ids) as e(entry_id)
where a.exception_id = any($1::text[]) and a.action = 'resolved'
    and not exists (select from journal_entries r where r.reverses = e.entry_id)
order by e.entry_id"""
_ACT = """
insert into reconciliation_actions (exception_id, action, actor, note, entry_ids)
select u, $2, $3, $4, $5::text[] from unnest($1::text[]) u"""
_SHOWN = """
select id, kind, microservice, mode, currency, stated_minor, expected_currency, expected_minor,
    delta_minor, import_id, line_no, entry_id, reference, payment_id, occurred_at, state, assignee,
    due_at, wait_until, resolution, proposed_by, approved_by, opened_at, resolved_at, version,
    (state <> 'resolved' and due_at < now()) as overdue
from reconciliation_exceptions"""
_PAGE = f"""{_SHOWN}
where ($1 = '' or state = $1) and ($2 = '' or mode = $2) and ($3 = '' or microservice = $3)
    and ($4 = '' or kind = $4) and ($5 = '' or assignee = $5) and ($6 = '' or import_id = $6)
    and ($7 = '' or currency = $7) and (not $8 or (state <> 'resolved' and due_at < now()))
    and ($9 = '' or id < $9)
order by id desc limit $10"""
# What a client is told: both sides of it, not who of our people does what about it.
_OF_CLIENT = """
select x.id, x.kind, x.microservice, x.mode, x.currency, x.stated_minor, x.expected_currency,
    x.expected_minor, x.payment_id, e.refund_id, x.entry_id, x.occurred_at, x.opened_at,
    x.resolved_at, case x.state when 'resolved' then 'resolved' else 'open' end as state
from reconciliation_exceptions x left join journal_entries e on e.id = x.entry_id
where x.client_id = $1 and x.mode = $2
    and ($3 = '' or (x.state = 'resolved') = ($3 = 'resolved')) and ($4 = '' or x.kind = $4)
    and ($5 = '' or x.currency = $5) and ($6 = '' or x.payment_id = $6)
    and ($7 = '' or x.id < $7)
order by x.id desc limit $8"""
_WAITING = """
select mode, kind, count(*) as open, count(*) filter (where due_at < now()) as overdue
from reconciliation_exceptions where state <> 'resolved' group by mode, kind"""
_REPORT = """
with books as (
    select currency, sum(amount_minor) as books,
        sum(amount_minor) filter (where kind <> 'adjustment' and state <> 'withdrawn') as expected,
        sum(amount_minor) filter (where state = 'matched') as matched_here,
        sum(amount_minor) filter (where state = 'differs') as differs_here,
        sum(amount_minor) filter (where state = 'missing_there') as missing_there,
        sum(amount_minor) filter (where state = 'open') as not_covered,
        sum(amount_minor) filter (where state in ('adjusted', 'withdrawn')) as adjusted
    from expected_lines where microservice = $1 and mode = $2
        and occurred_at >= $3 and occurred_at < $4 group by currency),
stated as (
    select currency,
        sum(amount_minor) filter (where state <> 'noted') as stated,
        sum(amount_minor) filter (where state = 'matched') as matched,
        sum(amount_minor) filter (where state = 'missing_here') as missing_here,
        sum(amount_minor) filter (where state = 'duplicate') as duplicate,
        sum(amount_minor) filter (where state in ('amount_differs', 'currency_differs')) as differs,
        sum(amount_minor) filter (where state = 'open') as not_matched_yet,
        sum(amount_minor) filter (where state = 'noted') as noted,
        sum(fee_minor) as fees, count(*) as lines
    from statement_lines where microservice = $1 and mode = $2
        and occurred_at >= $3 and occurred_at < $4 group by currency)
select currency, coalesce(books, 0) as books_minor, coalesce(expected, 0) as expected_minor,
    coalesce(adjusted, 0) as adjusted_minor, coalesce(stated, 0) as stated_minor,
    coalesce(matched, 0) as matched_minor, coalesce(missing_here, 0) as missing_here_minor,
    coalesce(duplicate, 0) as duplicate_minor, coalesce(differs, 0) as differs_stated_minor,
    coalesce(differs_here, 0) as differs_expected_minor,
    coalesce(missing_there, 0) as missing_there_minor,
    coalesce(not_covered, 0) as not_covered_minor,
    coalesce(not_matched_yet, 0) as not_matched_yet_minor,
    coalesce(noted, 0) as noted_minor, coalesce(fees, 0) as fees_minor,
    coalesce(lines, 0) as lines
from books full join stated using (currency) order by currency"""


async def open_exceptions(
    tx: Tx, microservice: str, mode: str, rows: Sequence[dict[str, Any]]
) -> list[asyncpg.Record]:
    """Open exceptions, one a line, entry or fee; return the new ones.

    Rows have id, kind, currency, amount_minor (stated), expected_currency, expected_minor,
    import_id, line_no, entry_id, reference, payment_id, occurred_at, due_at.
    """
    names = (
        "id", "kind", "currency", "amount_minor", "expected_currency", "expected_minor",
        "import_id", "line_no", "entry_id", "reference", "payment_id", "occurred_at", "due_at",
    )  # fmt: skip
    columns = [[row[name] for row in rows] for name in names]
    return await tx.fetch(_OPEN, microservice, mode, *columns)


async def late(
    tx: Tx, lines: Sequence[tuple[str, int]], entries: Sequence[str]
) -> list[asyncpg.Record]:
    """Return the exceptions about lines that were missing here, and entries missing there."""
    return await tx.fetch(
        _LATE, [line[0] for line in lines], [line[1] for line in lines], list(entries)
    )


async def close_matched(tx: Tx, ids: Sequence[str]) -> list[asyncpg.Record]:
    """Resolve what is not resolved yet: the match came. Returns id and kind."""
    return await tx.fetch(_CLOSE, list(ids))


async def posted(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Return the entries that resolutions posted and nobody took back."""
    return [row["entry_id"] for row in await tx.fetch(_POSTED, list(ids))]


async def act(
    tx: Tx,
    ids: Sequence[str],
    action: str,
    actor: str,
    note: str | None = None,
    entries: Sequence[str] = (),
) -> None:
    """Write down what was done, for ever."""
    await tx.run(_ACT, list(ids), action, actor, note, list(entries))


async def lock(tx: Tx, exception_id: str) -> asyncpg.Record | None:
    """Lock an exception until the transaction ends."""
    return await tx.row(
        "select * from reconciliation_exceptions where id = $1 for update", exception_id
    )


def difference(row: asyncpg.Record) -> Difference:
    """Return what a locked exception is about."""
    return Difference(
        exception_id=row["id"],
        kind=row["kind"],
        microservice=row["microservice"],
        mode=row["mode"],
        currency=row["currency"],
        stated_minor=row["stated_minor"],
        expected_currency=row["expected_currency"],
        expected_minor=row["expected_minor"],
        reference=row["reference"],
        payment_id=row["payment_id"],
        occurred_at=row["occurred_at"],
    )


async def set_state(
    tx: Tx,
    exception_id: str,
    state: str,
    *,
    resolution: str | None = None,
    proposed_by: str | None = None,
    approved_by: str | None = None,
) -> None:
    """Move a locked exception."""
    await tx.run(
        """update reconciliation_exceptions set state = $2, resolution = $3, proposed_by = $4,
            approved_by = $5, resolved_at = case when $2 = 'resolved' then now() end,
            version = version + 1 where id = $1""",
        exception_id,
        state,
        resolution,
        proposed_by,
        approved_by,
    )


async def assign(tx: Tx, exception_id: str, assignee: str | None) -> None:
    """Give a locked exception to a person, or to nobody."""
    await tx.run(
        """update reconciliation_exceptions set assignee = $2, version = version + 1
        where id = $1""",
        exception_id,
        assignee,
    )


async def wait(tx: Tx, exception_id: str, until: dt.datetime) -> None:
    """Let a locked exception wait; its clock rings then."""
    await tx.run(
        """update reconciliation_exceptions set wait_until = $2, due_at = $2,
            version = version + 1 where id = $1""",
        exception_id,
        until,
    )


async def shown(tx: Tx, exception_id: str) -> asyncpg.Record | None:
    """Return an exception as people see it, or None."""
    return await tx.row(f"{_SHOWN} where id = $1", exception_id)


async def actions(tx: Tx, exception_id: str) -> list[asyncpg.Record]:
    """Return what was done with an exception, oldest first, at most 200."""
    return await tx.fetch(
        """select action, actor, note, entry_ids, at from reconciliation_actions
        where exception_id = $1 order by id limit 200""",
        exception_id,
    )


async def page(tx: Tx, filters: Sequence[Any], before: str, limit: int) -> list[asyncpg.Record]:
    """Return exceptions, newest first, below the id `before`; an empty filter takes all.

    Filters: state, mode, microservice, kind, assignee, import_id, currency, overdue.
    """
    return await tx.fetch(_PAGE, *filters, before, limit)


async def of_client(
    tx: Tx,
    client_id: str,
    mode: str,
    *,
    state: str,
    kind: str,
    currency: str,
    payment_id: str,
    before: str,
    limit: int,
) -> list[asyncpg.Record]:
    """Return what is about a client's own payments, newest first; an empty filter takes all.

    `state`: open (a proposal is open too) or resolved.
    """
    return await tx.fetch(
        _OF_CLIENT, client_id, mode, state, kind, currency, payment_id, before, limit
    )


async def waiting(tx: Tx) -> list[asyncpg.Record]:
    """Return how many exceptions are open and how many overdue, by mode and kind."""
    return await tx.fetch(_WAITING)


async def report(
    tx: Tx, microservice: str, mode: str, since: dt.datetime, until: dt.datetime
) -> list[asyncpg.Record]:
    """Return both sides of what occurred in a period, by currency, in minor units."""
    return await tx.fetch(_REPORT, microservice, mode, since, until)
