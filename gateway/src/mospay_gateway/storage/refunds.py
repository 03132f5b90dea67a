"""Refunds: asked for under the payment's row lock, then moved by the router's news."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import FINAL_REFUND_STATUSES, RefundStatus

from mospay_gateway.domain.refunds import Refund

_NAMES = [f.name for f in fields(Refund)]
_COLUMNS = ", ".join(_NAMES)
_OPEN = sorted(set(RefundStatus) - FINAL_REFUND_STATUSES)

_ONE = f"select {_COLUMNS} from refunds where id = $1"
_LIST = f"""
select {_COLUMNS} from refunds
where client_id = $1 and mode = $2 and ($3::text is null or id < $3)
  and ($4::text is null or payment_id = $4)
order by id desc limit $5"""
_ADD = """
insert into refunds (id, payment_id, client_id, mode, amount_minor, currency, reason, requested_at,
                     status, request_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
_LOCK_PAYMENTS = """
select p.id from payments p
join unnest($1::text[], $2::text[], $3::text[]) as u(id, client_id, mode)
    using (id, client_id, mode)
order by p.id for update of p"""
# One that was asked for elsewhere (a person on a page) is new here; another tenant's is not ours.
_NEWS = f"""
insert into refunds as r ({_COLUMNS})
select u.* from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
        $7::text[], $8::timestamptz[], $9::text[], $10::int[], $11::text[], $12::text[],
        $13::text[], $14::bool[], $15::bool[], $16::timestamptz[]) as u({_COLUMNS})
join payments p on (p.id, p.client_id, p.mode) = (u.payment_id, u.client_id, u.mode)
order by u.id
on conflict (id) do update set status = excluded.status, version = excluded.version,
    provider_reference = excluded.provider_reference, reason_code = excluded.reason_code,
    reason_message = excluded.reason_message, late = excluded.late,
    over_refund = excluded.over_refund, updated_at = excluded.updated_at
where r.version < excluded.version
  and (r.payment_id, r.client_id, r.mode)
    = (excluded.payment_id, excluded.client_id, excluded.mode)
returning r.id, r.payment_id"""
_SUM = """
update payments p set refunded_minor = s.done, refunds_open_minor = s.open
from (select payment_id, coalesce(sum(amount_minor) filter (where status = 'succeeded'), 0) as done,
          coalesce(sum(amount_minor) filter (where status = any($2)), 0) as open
      from refunds where payment_id = any($1) group by payment_id) s
where p.id = s.payment_id"""
_UNSEEN = """
select count(*) from (select 1 from refunds
    where version = 0 and requested_at < now() - interval '60 s' limit 100000) u"""

# As with payments; the statuses are written out, only so is the index of open refunds of use.
_CLAIM_CHECK = """
update refunds r set check_at = now() + $1::interval
from (select id from refunds where status in ('pending', 'unknown')
        and requested_at < now() - $1::interval and check_at <= now()
      order by requested_at limit $2 for update skip locked) due
where r.id = due.id returning r.id, r.client_id, r.mode"""
# Twice as long after each, an hour at most; the one after `$3` is the last, then a person is told.
_ANNOUNCE = f"""
update refunds set announcements = announcements + 1,
    announce_at = case when requested_at <= now() - $3::interval then 'infinity'::timestamptz
        else now() + least(interval '1 hour', $2::interval * power(2, announcements)) end
where id = any(array(
    select id from refunds where id = any($1) and status in ('pending', 'unknown')
        and requested_at <= now() - $2::interval and (announce_at is null or announce_at <= now())
    order by id for update))
returning {_COLUMNS}, request_id"""
_GIVEN_UP = """
select count(*) from (select 1 from refunds
    where status in ('pending', 'unknown') and announce_at = 'infinity' limit 100000) u"""


def _refund(row: Any) -> Refund:
    values = dict(row)
    values["status"] = RefundStatus(values["status"])
    return Refund(**values)


async def find(tx: Tx, refund_id: str) -> Refund | None:
    """Return a refund, if this transaction's tenant may see it."""
    row = await tx.row(_ONE, refund_id)
    return None if row is None else _refund(row)


async def page(
    tx: Tx, client_id: str, mode: str, before: str | None, payment_id: str | None, limit: int
) -> list[Refund]:
    """Return a tenant's refunds (of one payment, where given), newest first."""
    rows = await tx.fetch(_LIST, client_id, mode, before, payment_id, limit)
    return [_refund(row) for row in rows]


async def add(tx: Tx, refund: Refund, request_id: str) -> None:
    """Write a refund that was just asked for; the caller holds the payment's row lock."""
    await tx.run(
        _ADD,
        refund.id,
        refund.payment_id,
        refund.client_id,
        refund.mode,
        refund.amount_minor,
        refund.currency,
        refund.reason,
        refund.requested_at,
        refund.status.value,
        request_id,
    )
    await tx.run(_SUM, [refund.payment_id], _OPEN)


async def apply_news(tx: Tx, news: Sequence[Refund]) -> tuple[set[str], set[str]]:
    """Apply what is newer than what is known; return what changed, and what has no payment here."""
    newest: dict[str, Refund] = {}
    for one in news:
        known = newest.get(one.id)
        if known is None or known.version < one.version:
            newest[one.id] = one
    ordered = [newest[refund_id] for refund_id in sorted(newest)]
    keys = sorted({(one.payment_id, one.client_id, one.mode) for one in ordered})
    locked = await tx.fetch(_LOCK_PAYMENTS, *[list(column) for column in zip(*keys, strict=True)])
    known_payments = {row["id"] for row in locked}
    rows = await tx.fetch(_NEWS, *[[getattr(one, name) for one in ordered] for name in _NAMES])
    if rows:
        await tx.run(_SUM, sorted({row["payment_id"] for row in rows}), _OPEN)
    return {row["id"] for row in rows}, {
        one.id for one in ordered if one.payment_id not in known_payments
    }


async def count_unseen(tx: Tx) -> int:
    """Count refunds asked for over a minute ago of which the router has said nothing yet."""
    return int(await tx.value(_UNSEEN))


async def claim_checks(tx: Tx, every: dt.timedelta, limit: int) -> list[tuple[str, str, str]]:
    """Claim open refunds whose news is due to be asked for: (id, client_id, mode)."""
    rows = await tx.fetch(_CLAIM_CHECK, every, limit)
    return [(row["id"], row["client_id"], row["mode"]) for row in rows]


async def claim_announcements(
    tx: Tx, ids: Sequence[str], after: dt.timedelta, last_after: dt.timedelta
) -> list[tuple[Refund, str | None]]:
    """Claim those of these refunds that are to be announced again, with their request's id."""
    rows = [dict(row) for row in await tx.fetch(_ANNOUNCE, list(ids), after, last_after)]
    requests = [row.pop("request_id") for row in rows]
    return [(_refund(row), request) for row, request in zip(rows, requests, strict=True)]


async def count_given_up(tx: Tx) -> int:
    """Count open refunds that the router did not know even after the last announcement."""
    return int(await tx.value(_GIVEN_UP))
