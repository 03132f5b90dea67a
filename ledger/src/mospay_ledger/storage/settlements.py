"""Settlements: what is ripe, the batch with its lines, terms, schedules, and the lists of them.

What is open of a client are the postings on its `pending` account that no settlement names. All
below `settled_below` are named, so a look never reads an account's whole past.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.settling import Terms, TermsInvalid, Totals

_ENROL = """
insert into settlement_schedules (client_id, currency, mode)
select client_id, currency, mode from accounts a
where kind = 'pending' and balance_minor < 0 and ($2 = '' or client_id = $2) and not exists (
    select from settlement_schedules s
    where (s.client_id, s.currency, s.mode) = (a.client_id, a.currency, a.mode))
order by id limit $1 on conflict do nothing"""
_DUE = """
select client_id, currency, mode, settled_below, open_day from settlement_schedules
where next_at <= $1 order by next_at limit 1 for update skip locked"""
_OF_MODE = """
select client_id, currency, mode from settlement_schedules
where mode = $1 and ($2 = '' or client_id = $2) and (client_id, currency) > ($3, $4)
order by client_id, currency limit $5"""
_LOCK = """
select client_id, currency, mode, settled_below, open_day from settlement_schedules
where (client_id, currency, mode) = ($1, $2, $3) for update"""
_LOOKED = """
update settlement_schedules set next_at = coalesce($4, next_at), open_day = $5,
    settled_below = coalesce((
        select min(p.account_version) - 1 from postings p
        join journal_entries e on e.id = p.entry_id
        where p.account_id = $6 and p.account_version > settled_below and e.kind <> 'settlement'
            and not exists (select from settlement_lines l where l.entry_id = p.entry_id)),
        (select version from accounts where id = $6), 0),
    failures = 0, reason = null
where (client_id, currency, mode) = ($1, $2, $3)"""
_FAILED = """
update settlement_schedules set failures = failures + 1, reason = $4,
    next_at = $5::timestamptz
        + least(interval '1 minute' * 2 ^ least(failures, 6), interval '1 hour')
where (client_id, currency, mode) = ($1, $2, $3)"""
# Debits first, whatever their age: what was taken from a client is never paid out to it. What an
# entry paid off of the client's debt (receivable, negative) never was the client's to settle.
_RIPE = """
select p.account_version, p.entry_id, e.kind, e.payment_id, e.refund_id, e.occurred_at,
    -p.amount_minor as net,
    case when e.kind = 'capture' then e.amount_minor else 0 end as gross,
    case when e.kind = 'capture' then e.fee_minor else 0 end
        - case when e.kind in ('capture', 'refund', 'over_refund') then e.fee_returned_minor
            else 0 end as fee,
    case when e.kind in ('refund_reserved', 'refund_released', 'refund', 'over_refund')
        then -p.amount_minor - case when e.kind in ('refund', 'over_refund')
            then e.fee_returned_minor else 0 end - least(coalesce(d.amount_minor, 0), 0)
        else 0 end as refund
from postings p join journal_entries e on e.id = p.entry_id
left join lateral (select amount_minor from postings
    where entry_id = p.entry_id and account_id = $4) d on true
where p.account_id = $1 and p.account_version > $2 and e.kind <> 'settlement'
    and (e.kind <> 'capture' or e.occurred_at < $3)
    and not exists (select from settlement_lines l where l.entry_id = p.entry_id)
order by p.amount_minor < 0, p.account_version limit $5"""
_TOTALS = f"""
select count(*)::int as lines, coalesce(sum(gross), 0)::bigint as gross,
    coalesce(sum(fee), 0)::bigint as fee, coalesce(sum(refund), 0)::bigint as refund,
    coalesce(sum(net - gross + fee - refund), 0)::bigint as adjustment
from ({_RIPE}) ripe"""
_LINES = f"""
insert into settlement_lines (entry_id, settlement_id, number, client_id, mode, currency, kind,
    payment_id, refund_id, occurred_at, gross_minor, fee_minor, refund_minor, adjustment_minor,
    net_minor)
select entry_id, $6, row_number() over (order by account_version), $7, $8, $9, kind, payment_id,
    refund_id, occurred_at, gross, fee, refund, net - gross + fee - refund, net
from ({_RIPE}) ripe"""
_SETTLEMENT = """
insert into settlements (id, client_id, mode, currency, local_day, part, time_zone, cut_off_at,
    terms_id, entry_id, line_count, gross_minor, fee_minor, refund_minor, adjustment_minor,
    net_minor, reserve_minor, reserve_due_at, made_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
returning *"""
_PARTS = """
select coalesce(max(part), 0) from settlements
where (client_id, currency, mode, local_day) = ($1, $2, $3, $4)"""
_RESERVES = """
select s.* from settlements s
where s.reserve_minor > 0 and s.reserve_released_at is null and s.reserve_due_at <= $1
    and ($2 = '' or s.mode = $2) and ($3 = '' or s.client_id = $3)
order by s.reserve_due_at limit $4 for update skip locked"""
_RELEASED = """
update settlements set reserve_released_at = $2 where id = any($1::text[])"""
_TERMS_COLUMNS = """id, mode, client_id, currency, hold_days, reserve_bps, reserve_days,
    minimum_minor, destination, cut_off, paused, effective_from"""
_TERMS = f"""
select {_TERMS_COLUMNS} from settlement_terms
where mode = $1 and (client_id = $2 or client_id is null) and (currency = $3 or currency is null)
    and effective_from <= $4 order by effective_from desc limit 1000"""
_ADD_TERMS = f"""
insert into settlement_terms ({_TERMS_COLUMNS}, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($12, now()), $13)
returning {_TERMS_COLUMNS}, created_by, recorded_at"""
_LIST_TERMS = f"""
select {_TERMS_COLUMNS}, created_by, recorded_at from settlement_terms
where ($1 = '' or client_id = $1) and ($2 = '' or mode = $2) and id > $3 order by id limit $4"""
_CLIENT = """
select body ->> 'name' as name, body ->> 'time_zone' as time_zone from directory_entity
where kind = 'client' and entity_id = $1 and not deleted"""
_PAGE = """
select s.* from settlements s
where ($1 = '' or s.client_id = $1) and ($2 = '' or s.mode = $2) and ($3 = '' or s.currency = $3)
    and ($4::date is null or s.local_day >= $4) and ($5::date is null or s.local_day <= $5)
    and ($6 = '' or s.id < $6) order by s.id desc limit $7"""
_ONE = """
select s.*, (select r.id from journal_entries r where r.reverses = s.entry_id) as reversed_by
from settlements s where s.id = $1 and ($2 = '' or s.client_id = $2) and ($3 = '' or s.mode = $3)"""
_LINES_OF = """
select number, entry_id, kind, payment_id, refund_id, occurred_at, gross_minor, fee_minor,
    refund_minor, adjustment_minor, net_minor
from settlement_lines where settlement_id = $1 and number > $2 order by number limit $3"""
_BEHIND = """
select count(*) filter (where failures > 0) as failing,
    coalesce(extract(epoch from $1 - min(next_at)), 0)::float8 as late_seconds
from settlement_schedules"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Which part of whose pending money: everything `_RIPE` needs to see the same rows twice."""

    account: str
    settled_below: int
    hold_until: dt.datetime
    receivable: str
    limit: int

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arguments in the statement's order."""
        return self.account, self.settled_below, self.hold_until, self.receivable, self.limit


async def enrol(tx: Tx, limit: int, client_id: str = "") -> None:
    """Give clients whose money waits a schedule; at most `limit`, or those of one client."""
    await tx.run(_ENROL, limit, client_id)


async def due(tx: Tx, at: dt.datetime) -> asyncpg.Record | None:
    """Lock and return one schedule that is due, or None; nobody else holds it."""
    return await tx.row(_DUE, at)


async def of_mode(
    tx: Tx, mode: str, client_id: str, after: tuple[str, str], limit: int
) -> list[asyncpg.Record]:
    """Return the schedules of a mode past `after`."""
    return await tx.fetch(_OF_MODE, mode, client_id, *after, limit)


async def lock_schedule(tx: Tx, client_id: str, currency: str, mode: str) -> asyncpg.Record | None:
    """Lock and return one schedule, waiting for whoever has it."""
    return await tx.row(_LOCK, client_id, currency, mode)


async def looked_at(
    tx: Tx,
    key: tuple[str, str, str],
    *,
    next_at: dt.datetime | None,
    open_day: dt.date | None,
    account: str,
) -> None:
    """Say when a schedule (client, currency, mode) is due again, and how far all is settled.

    `open_day` is a day of which parts are still to be made.
    """
    await tx.run(_LOOKED, *key, next_at, open_day, account)


async def failed(tx: Tx, key: tuple[str, str, str], reason: str, now: dt.datetime) -> None:
    """Remember why a schedule could not be settled, and try it again after 1 to 60 minutes."""
    await tx.run(_FAILED, *key, reason, now)


async def totals(tx: Tx, batch: Batch) -> Totals:
    """Return what is ripe; the client's gate must be held."""
    row = await tx.row(_TOTALS, *batch.arguments)
    assert row is not None
    return Totals(row["lines"], row["gross"], row["fee"], row["refund"], row["adjustment"])


async def parts_of(tx: Tx, key: tuple[str, str, str], day: dt.date) -> int:
    """Return how many parts a client's day has."""
    return int(await tx.value(_PARTS, *key, day))


async def write(tx: Tx, values: Sequence[Any], batch: Batch) -> asyncpg.Record:
    """Write a settlement (`values` in the order of its columns) with the lines of its batch.

    The database refuses one that is not the sum of its lines.
    """
    row = await tx.row(_SETTLEMENT, *values)
    assert row is not None
    tag = await tx.run(
        _LINES, *batch.arguments, row["id"], row["client_id"], row["mode"], row["currency"]
    )
    assert tag.endswith(f" {row['line_count']}"), tag
    return row


async def due_reserves(
    tx: Tx, at: dt.datetime, limit: int, *, mode: str = "", client_id: str = ""
) -> list[asyncpg.Record]:
    """Lock and return settlements whose reserve is to be given back."""
    return await tx.fetch(_RESERVES, at, mode, client_id, limit)


async def released(tx: Tx, ids: Sequence[str], at: dt.datetime) -> None:
    """Remember that reserves were given back."""
    await tx.run(_RELEASED, ids, at)


async def terms_for(
    tx: Tx, mode: str, client_id: str, currency: str, at: dt.datetime
) -> list[Terms]:
    """Return the terms that may apply to a client at an instant."""
    rows = await tx.fetch(_TERMS, mode, client_id, currency, at)
    return [Terms(**dict(row)) for row in rows]


async def add_terms(
    tx: Tx, terms: Terms, effective_from: dt.datetime | None, created_by: str
) -> asyncpg.Record:
    """Write terms, in force from `effective_from` or now; raises TermsInvalid."""
    try:
        row = await tx.row(
            _ADD_TERMS, terms.id, terms.mode, terms.client_id, terms.currency, terms.hold_days,
            terms.reserve_bps, terms.reserve_days, terms.minimum_minor, terms.destination,
            terms.cut_off, terms.paused, effective_from, created_by,
        )  # fmt: skip
    except asyncpg.UniqueViolationError as error:
        message = "other terms of this scope start at this instant"
        raise TermsInvalid("effective_from", message) from error
    except asyncpg.PostgresError as error:
        if error.sqlstate == "23M03":
            raise TermsInvalid("effective_from", "terms start now or later") from error
        raise
    assert row is not None
    return row


async def list_terms(
    tx: Tx, *, client_id: str, mode: str, after: str, limit: int
) -> list[asyncpg.Record]:
    """Return terms in id order, those past `after`; an empty filter takes all."""
    return await tx.fetch(_LIST_TERMS, client_id, mode, after, limit)


async def client(tx: Tx, client_id: str) -> asyncpg.Record | None:
    """Return a client's name and time zone as the directory has them, or None."""
    return await tx.row(_CLIENT, client_id)


async def page(
    tx: Tx,
    *,
    client_id: str,
    mode: str,
    currency: str,
    since: dt.date | None,
    until: dt.date | None,
    before: str,
    limit: int,
) -> list[asyncpg.Record]:
    """Return settlements, newest first, those before the id `before`."""
    return await tx.fetch(_PAGE, client_id, mode, currency, since, until, before, limit)


async def one(tx: Tx, settlement_id: str, client_id: str, mode: str) -> asyncpg.Record | None:
    """Return a settlement with `reversed_by`, or None where it is not there or not the tenant's."""
    return await tx.row(_ONE, settlement_id, client_id, mode)


async def lines(tx: Tx, settlement_id: str, after: int, limit: int) -> list[asyncpg.Record]:
    """Return lines by number, those past `after`."""
    return await tx.fetch(_LINES_OF, settlement_id, after, limit)


async def behind(tx: Tx, now: dt.datetime) -> tuple[int, float]:
    """Return how many schedules fail and by how many seconds the most overdue one is late."""
    row = await tx.row(_BEHIND, now)
    assert row is not None
    return row["failing"], max(0.0, row["late_seconds"])
