"""Matching in sets: a batch of unmatched lines against what the journal expects, one statement.

Whoever matches a provider's lines holds its stream's lease, and asks for it in every transaction,
so two never decide at once. Batches are looked up by index, whatever the planner believes of
tables that were small when it was asked first (`hold` says so to it).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.storage.imports import WHOLE_FILE_SECONDS

_CLAIM = """
update reconciliation_streams s set lease_by = $1, lease_until = now() + $2 * interval '1 s'
from (
    select microservice, mode, asked <= answered as nightly from reconciliation_streams
    where lease_until < now() and (asked > answered or (
        (nightly_on is null or nightly_on < (now() at time zone 'UTC')::date)
        and extract(hour from now() at time zone 'UTC') >= $3))
    order by asked > answered desc, ran_at nulls first for update skip locked limit 1) due
where (s.microservice, s.mode) = (due.microservice, due.mode)
returning s.microservice, s.mode, s.as_of, s.asked, due.nightly"""
_HOLD = """
update reconciliation_streams set lease_until = now() + $4 * interval '1 s'
where microservice = $1 and mode = $2 and lease_by = $3 returning 1"""
_END = """
update reconciliation_streams set lease_until = '-infinity', ran_at = now(), answered = $4,
    as_of = case when asked = $4 then null else as_of end,
    nightly_on = case when $3 then (now() at time zone 'UTC')::date else nightly_on end
where microservice = $1 and mode = $2"""
_RELEASE = """
update reconciliation_streams set lease_until = '-infinity'
where microservice = $1 and mode = $2 and lease_by = $3"""
_ASK = """
insert into reconciliation_streams (microservice, mode, as_of) values ($1, $2, $3)
on conflict (microservice, mode) do update
    set asked = reconciliation_streams.asked + 1, as_of = excluded.as_of"""
_INDEXED = """
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true)"""
# A range of the key, as an account's id begins with its provider.
_ACCOUNTS = """
select id from accounts where id >= $1 and id < $2 and kind = 'clearing' and mode = $3
order by id"""
# Versions of an account have no gap and commit in order: nothing can come in behind the cursor.
_GATHER = """
with place as (
    select coalesce((select version from expected_cursors where account_id = $1), 0) as version),
told as materialized (
    select p.account_version, p.amount_minor, p.currency, p.mode, p.posted_at, p.entry_id
    from postings p, place
    where p.account_id = $1 and p.account_version > place.version
    order by p.account_version limit $3),
made as (
    insert into expected_lines (entry_id, microservice, mode, currency, kind, amount_minor,
        client_id, payment_id, attempt_id, refund_id, provider_reference, occurred_at, posted_at,
        state)
    select e.id, $2, t.mode, t.currency, k.kind, t.amount_minor, e.client_id, e.payment_id,
        e.attempt_id, e.refund_id, e.provider_reference, e.occurred_at, t.posted_at,
        case when k.kind = 'adjustment' then 'adjusted' else 'open' end
    from told t join journal_entries e on e.id = t.entry_id
    cross join lateral (select case
        when e.kind in ('capture', 'second_capture') then 'payment'
        when e.kind in ('refund', 'over_refund', 'chargeback') then 'refund'
        else 'adjustment' end as kind) k
    on conflict (entry_id) do nothing),
moved as (
    insert into expected_cursors (account_id, version)
    select $1, max(account_version) from told having count(*) > 0
    on conflict (account_id) do update set version = excluded.version)
select count(*) from told"""
# What was booked and taken back again before a statement named it: nobody waits for it any more.
_WITHDRAW = """
with back as (
    select r.reverses, x.entry_id from expected_lines x
    join journal_entries r on r.id = x.entry_id
    where x.microservice = $1 and x.mode = $2 and x.kind = 'adjustment' and x.state = 'adjusted'
        and r.reverses is not null),
gone as (
    update expected_lines o set state = 'withdrawn' from back b
    where o.entry_id = b.reverses and o.state in ('open', 'missing_there')
    returning o.entry_id, b.entry_id as by),
its as (
    update expected_lines x set state = 'withdrawn' from gone g where x.entry_id = g.by)
select array_agg(entry_id) from gone"""
# Where a batch ends: of imports that are whole, so that no line comes in behind the place.
_BATCH = """
select import_id, line_no from (
    select import_id, line_no from statement_lines
    where microservice || '/' || mode = $1::text || '/' || $2 and state = $3
        and (import_id, line_no) > ($4, $5)
        and (state <> 'open' or import_id = any($6::text[]))
    order by import_id, line_no limit $7) b
order by import_id desc, line_no desc limit 1"""
_TODO = """
todo as materialized (
    select import_id, line_no, kind, reference, our_reference, amount_minor, currency, occurred_at
    from statement_lines
    where microservice || '/' || mode = $1::text || '/' || $2 and state = $3
        and (import_id, line_no) > ($4, $5) and (import_id, line_no) <= ($6, $7)
        and (state <> 'open' or import_id = any($8::text[])))"""
# `offset 0`: a line's entries are looked up by their references, never by what all have in common.
_PAIRS = """
pairs as (
    select t.import_id, t.line_no, t.amount_minor, t.currency, t.occurred_at, e.entry_id,
        e.state as was, e.amount_minor as expected_minor, e.currency as expected_currency,
        e.occurred_at as expected_at, e.rank
    from todo t
    cross join lateral (
        select x.*, 1 as rank from expected_lines x where x.provider_reference = t.reference
        union all
        select x.*, 2 from expected_lines x where x.attempt_id = t.our_reference
        union all
        select x.*, 2 from expected_lines x where x.refund_id = t.our_reference
        union all
        select x.*, 3 from expected_lines x where x.payment_id = t.our_reference
        offset 0) e
    where e.microservice = $1 and e.mode = $2 and e.kind = t.kind and {condition})"""
# Each line takes the nearest entry, each entry the first line that takes it; who came too late
# looks again (`lost`), for another entry with the same reference.
_CHOSEN = """
best as (
    select distinct on (import_id, line_no) * from pairs
    order by import_id, line_no, rank, expected_at, entry_id),
chosen as (
    select distinct on (entry_id) * from best
    order by entry_id, rank, occurred_at, import_id, line_no)"""
_TAKEN = """
taken as (
    update expected_lines e set state = {expected}, import_id = c.import_id, line_no = c.line_no
    from chosen c where e.entry_id = c.entry_id),
marked as (
    update statement_lines l set state = {line}, entry_id = c.entry_id, matched_by = {by}
    from chosen c where l.import_id = c.import_id and l.line_no = c.line_no)"""
_FREE = "e.state in ('open', 'missing_there')"
_SAME = "e.amount_minor = t.amount_minor and e.currency = t.currency"
_MATCHED = """
select (select count(*) from {candidates}) - (select count(*) from chosen) as lost,
    (select array_agg(entry_id) from chosen where was = 'missing_there') as late_entries,
    (select array_agg(import_id) from chosen) as imports,
    (select array_agg(line_no) from chosen) as lines"""
_EXACT = f"""
with {_TODO}, {_PAIRS.format(condition=f"{_FREE} and {_SAME}")}, {_CHOSEN},
{_TAKEN.format(expected="'matched'", line="'matched'", by="'reference'")}
{_MATCHED.format(candidates="best")}"""
_DIFFERS = f"""
with {_TODO}, {_PAIRS.format(condition=_FREE)}, {_CHOSEN},
{
    _TAKEN.format(
        expected="'differs'",
        by="null",
        line='''case when c.currency = c.expected_currency
        then 'amount_differs' else 'currency_differs' end''',
    )
}
select l.import_id, l.line_no, l.reference, l.occurred_at, l.currency, l.amount_minor,
    c.entry_id, c.expected_minor, c.expected_currency, e.payment_id, c.was,
    case when c.currency = c.expected_currency then 'amount_differs' else 'currency_differs' end
        as kind
from chosen c join statement_lines l on l.import_id = c.import_id and l.line_no = c.line_no
join expected_lines e on e.entry_id = c.entry_id"""
_DUPLICATES = f"""
with {_TODO}, {_PAIRS.format(condition="e.state in ('matched', 'differs')")},
chosen as (
    select distinct on (import_id, line_no) * from pairs
    order by import_id, line_no, rank, expected_at, entry_id),
marked as (
    update statement_lines l set state = 'duplicate', entry_id = c.entry_id
    from chosen c where l.import_id = c.import_id and l.line_no = c.line_no)
select l.import_id, l.line_no, l.reference, l.occurred_at, l.currency, l.amount_minor,
    c.entry_id, 0::bigint as expected_minor, null::text as expected_currency, e.payment_id,
    'duplicate' as kind
from chosen c join statement_lines l on l.import_id = c.import_id and l.line_no = c.line_no
join expected_lines e on e.entry_id = c.entry_id"""
# Two references that contradict each other are two payments, however alike their amounts.
_NOT_ANOTHER = """(e.provider_reference is null or {l}.reference is null
        or e.provider_reference = {l}.reference)
    and ({l}.our_reference is null or {l}.our_reference !~ '^(pay|att|ref)_[0-9a-f]{{32}}$'
        or {l}.our_reference in (e.payment_id, e.attempt_id, e.refund_id))"""
_NEAR = """e.microservice = $1 and e.mode = $2 and e.currency = {l}.currency
    and e.amount_minor = {l}.amount_minor and e.kind = {l}.kind
    and e.occurred_at between {l}.occurred_at - $9::interval and {l}.occurred_at + $9::interval"""
_BY_AMOUNT = f"""
with {_TODO},
candidates as (
    select t.*, e.entry_id, e.was, count(*) over (partition by t.import_id, t.line_no) as rivals
    from todo t cross join lateral (
        select e.entry_id, e.state as was from expected_lines e
        where {_FREE} and {_NEAR.format(l="t")} and {_NOT_ANOTHER.format(l="t")} limit 2) e),
chosen as (
    select c.* from candidates c join expected_lines e on e.entry_id = c.entry_id
    where c.rivals = 1 and 1 = (select count(*) from (
        select 1 from statement_lines l
        where l.microservice = $1 and l.mode = $2 and l.state in ('open', 'missing_here')
            and l.currency = e.currency and l.amount_minor = e.amount_minor and l.kind = e.kind
            and l.occurred_at between e.occurred_at - $9::interval and e.occurred_at + $9::interval
            and {_NOT_ANOTHER.format(l="l")} limit 2) x)),
{_TAKEN.format(expected="'matched'", line="'matched'", by="'amount'")}
{_MATCHED.format(candidates="chosen")}"""
_REST = f"""
with {_TODO},
marked as (
    update statement_lines l set state = 'missing_here' from todo t
    where l.import_id = t.import_id and l.line_no = t.line_no)
select import_id, line_no, reference, occurred_at, currency, amount_minor,
    null::text as entry_id, 0::bigint as expected_minor, null::text as expected_currency,
    case when our_reference ~ '^pay_[0-9a-f]{{32}}$' then our_reference end as payment_id,
    'missing_here' as kind from todo"""
_MISSING_THERE = """
with gone as (
    select e.entry_id from expected_lines e
    where e.microservice = $1 and e.mode = $2 and e.state = 'open'
        and e.occurred_at <= $3::timestamptz - $4::interval
        and exists (
            select from statement_coverage c
            join statement_imports i on i.id = c.import_id and i.state in ('matching', 'finished')
            where c.microservice = $1 and c.mode = $2 and c.currency = e.currency
                and e.kind = any(c.kinds)
                and e.occurred_at between c.covers_from and c.covers_until)
    limit $5)
update expected_lines e set state = 'missing_there' from gone g where e.entry_id = g.entry_id
returning null::text as import_id, null::bigint as line_no, e.provider_reference as reference,
    e.occurred_at, e.currency, 0::bigint as amount_minor, e.entry_id,
    e.amount_minor as expected_minor, null::text as expected_currency, e.payment_id,
    'missing_there' as kind"""
_FINISH = """
update statement_imports set state = 'finished', finished_at = now(), told = true
where id = $1 and state = 'matching' returning *"""
_OF_IMPORT = """
select count(*) filter (where state = 'matched') as matched,
    count(*) filter (where state not in ('matched', 'open', 'noted')) as exceptions
from statement_lines where import_id = $1"""
_FEES = """
select currency, max(occurred_at) as occurred_at,
    sum(fee_minor) + coalesce(-sum(amount_minor) filter (where kind = 'fee'), 0) as fee_minor
from statement_lines where import_id = $1
group by currency
having sum(fee_minor) + coalesce(-sum(amount_minor) filter (where kind = 'fee'), 0) > 0"""


@dataclass(frozen=True, slots=True)
class Stream:
    """A provider and mode whose lines are matched; `as_of` is another now, by hand, in a test."""

    microservice: str
    mode: str
    token: str
    as_of: dt.datetime | None
    asked: int  # how often somebody asked, until now
    nightly: bool


Place = tuple[str, int]  # an import and a line of it


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines in one state behind one place up to another, of imports that are whole."""

    state: str
    after: Place
    until: Place
    imports: Sequence[str]


@dataclass(frozen=True, slots=True)
class Matched:
    """What a batch came to: pairs, lines that have to look again, entries missed until now."""

    lines: list[Place]
    lost: int
    late_entries: list[str]


async def claim(tx: Tx, token: str, lease_seconds: float, nightly_hour: int) -> Stream | None:
    """Take a stream that has work and nobody at it."""
    row = await tx.row(_CLAIM, token, lease_seconds, nightly_hour)
    if row is None:
        return None
    return Stream(
        row["microservice"], row["mode"], token, row["as_of"], row["asked"], row["nightly"]
    )


async def hold(tx: Tx, stream: Stream, lease_seconds: float) -> bool:
    """Renew a stream's lease and lock it; False when it is another's by now."""
    held = await tx.value(_HOLD, stream.microservice, stream.mode, stream.token, lease_seconds)
    await tx.run(_INDEXED)
    return held is not None


async def begin(tx: Tx, stream: Stream) -> list[str]:
    """Return the imports that wait to be matched."""
    rows = await tx.fetch(
        """select id from statement_imports where microservice = $1 and mode = $2
            and state = 'matching' order by id""",
        stream.microservice,
        stream.mode,
    )
    return [row["id"] for row in rows]


async def end(tx: Tx, stream: Stream) -> None:
    """Note that what was asked for when the run began is done."""
    await tx.run(_END, stream.microservice, stream.mode, stream.nightly, stream.asked)


async def release(tx: Tx, stream: Stream) -> None:
    """Let somebody else go on at once."""
    await tx.run(_RELEASE, stream.microservice, stream.mode, stream.token)


async def ask(tx: Tx, microservice: str, mode: str, as_of: dt.datetime | None) -> None:
    """Ask for a stream's lines to be matched again."""
    await tx.run(_ASK, microservice, mode, as_of)


async def clearing_accounts(tx: Tx, stream: Stream) -> list[str]:
    """Return the clearing accounts of a provider, one a currency."""
    owner = f"provider:{stream.microservice}"
    rows = await tx.fetch(_ACCOUNTS, owner + ":", owner + ";", stream.mode)
    return [row["id"] for row in rows]


async def gather(tx: Tx, stream: Stream, account_id: str, limit: int) -> int:
    """Add what was posted on an account since the last look, at most `limit`; return how many."""
    return int(await tx.value(_GATHER, account_id, stream.microservice, limit))


async def withdraw(tx: Tx, stream: Stream) -> list[str]:
    """Let go of what was taken back in the books; return those entries."""
    found = await tx.value(_WITHDRAW, stream.microservice, stream.mode)
    return list(found or [])


async def batch(
    tx: Tx, stream: Stream, state: str, imports: Sequence[str], after: Place, limit: int
) -> Batch | None:
    """Return the next batch of lines in `state` behind a place, None at the end."""
    row = await tx.row(
        _BATCH, stream.microservice, stream.mode, state, *after, list(imports), limit
    )
    if row is None:
        return None
    return Batch(state, after, (row["import_id"], row["line_no"]), imports)


def _of(stream: Stream, batch: Batch) -> tuple[object, ...]:
    return (
        stream.microservice,
        stream.mode,
        batch.state,
        *batch.after,
        *batch.until,
        list(batch.imports),
    )


def _matched(row: asyncpg.Record | None) -> Matched:
    assert row is not None
    lines = zip(row["imports"] or [], row["lines"] or [], strict=True)
    return Matched(
        [(str(import_id), int(line)) for import_id, line in lines],
        int(row["lost"]),
        list(row["late_entries"] or []),
    )


async def match_exact(tx: Tx, stream: Stream, batch: Batch) -> Matched:
    """Match a batch by reference, amount and currency."""
    return _matched(await tx.row(_EXACT, *_of(stream, batch)))


async def match_by_amount(tx: Tx, stream: Stream, batch: Batch, window: dt.timedelta) -> Matched:
    """Match a batch by amount, currency and time, where one line and one entry alone fit."""
    return _matched(await tx.row(_BY_AMOUNT, *_of(stream, batch), window))


async def find_differing(tx: Tx, stream: Stream, batch: Batch) -> list[asyncpg.Record]:
    """Pair open lines with entries of their reference but another amount or currency."""
    return await tx.fetch(_DIFFERS, *_of(stream, batch))


async def find_duplicates(tx: Tx, stream: Stream, batch: Batch) -> list[asyncpg.Record]:
    """Mark open lines whose entry has another line already."""
    return await tx.fetch(_DUPLICATES, *_of(stream, batch))


async def find_missing_here(tx: Tx, stream: Stream, batch: Batch) -> list[asyncpg.Record]:
    """Mark open lines that nothing in the books fits."""
    return await tx.fetch(_REST, *_of(stream, batch))


async def find_missing_there(
    tx: Tx, stream: Stream, as_of: dt.datetime, grace: dt.timedelta, limit: int
) -> list[asyncpg.Record]:
    """Mark entries that no line names though their period is covered and the grace is over."""
    return await tx.fetch(_MISSING_THERE, stream.microservice, stream.mode, as_of, grace, limit)


async def finish(tx: Tx, import_id: str) -> tuple[asyncpg.Record, int, int] | None:
    """End an import; return it with its matched lines and exceptions, None when it has ended."""
    row = await tx.row(_FINISH, import_id)
    counts = await tx.connection.fetchrow(_OF_IMPORT, import_id, timeout=WHOLE_FILE_SECONDS)
    if row is None or counts is None:
        return None
    return row, counts["matched"], counts["exceptions"]


async def fees(tx: Tx, import_id: str) -> list[asyncpg.Record]:
    """Return what the provider says it took as fees in an import's new lines, by currency."""
    rows: list[asyncpg.Record] = await tx.connection.fetch(
        _FEES, import_id, timeout=WHOLE_FILE_SECONDS
    )
    return rows
