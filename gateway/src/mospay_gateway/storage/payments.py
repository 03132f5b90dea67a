"""Payments: reads of a tenant, the router's news, what is due to be looked at."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import FINAL_STATUSES, PaymentStatus

from mospay_gateway.domain.payments import NOT_PAID, WAIT_OVER, News, Payment

_COLUMNS = ", ".join(f.name for f in fields(Payment))
_FINAL = sorted(FINAL_STATUSES)
_NOT_PAID = sorted(NOT_PAID)
_OVER = sorted(WAIT_OVER)

_ONE = f"select {_COLUMNS} from payments where id = $1"
_BY_REFERENCE = f"""
select {_COLUMNS} from payments
where id = (select payment_id from payment_references where reference_hash = $1)"""
_LIST = f"""
select {_COLUMNS} from payments
where client_id = $1 and mode = $2 and ($3::text is null or id < $3)
  and ($4::text[] is null or status = any($4)) and ($5::text is null or service = $5)
  and ($6::timestamptz is null or accepted_at >= $6)
  and ($7::timestamptz is null or accepted_at < $7)
  and ($8::bytea is null or id = (select payment_id from payment_references
                                  where reference_hash = $8))
  and ($10::text[] is null or id = any(array(
      select f.payment_id from payment_fields f, unnest($10::text[], $11::text[]) w(code, value)
      where f.client_id = $1 and f.mode = $2 and f.code = w.code and f.value = w.value
        and ($3::text is null or f.payment_id < $3)
      group by f.payment_id having count(*) = cardinality($10))))
order by id desc limit $9"""
_OVER_NOW = f"select {_COLUMNS} from payments where id = any($1) and status = any($2)"
# Payments and then counters are locked in key order. What an end without money sets free of a daily
# limit, and what a late success takes again, moves in the statement that moves the status.
_NEWS = """
with news as (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[],
                         $7::text[], $8::text[], $9::bool[], $10::timestamptz[])
        as u(id, client_id, mode, status, version, provider_reference, reason_code, reason_message,
             late, occurred_at)
), held as materialized (
    select p.id, p.client_id, p.mode, p.service_id, p.amount_minor, p.limit_day, p.limit_phone,
           p.status = any($12) as was_free, u.status = any($12) as is_free
    from payments p join news u using (id, client_id, mode)
    where p.version < u.version order by p.id for update of p
), applied as (
    update payments p set status = u.status, version = u.version,
        provider_reference = u.provider_reference, reason_code = u.reason_code,
        reason_message = u.reason_message, late = u.late, updated_at = u.occurred_at,
        settled_at = case when u.status = any($11)
                     then coalesce(p.settled_at, clock_timestamp()) end,
        secrets = case when u.status = any($11) then null else p.secrets end,
        ip = case when u.status = any($11) then null else p.ip end,
        device = case when u.status = any($11) then null else p.device end
    from news u join held h using (id) where p.id = h.id returning p.id
), moved as materialized (
    select client_id, mode, service_id, limit_day as day, s.subject,
           sum(case when is_free then -amount_minor else amount_minor end) as by_minor
    from held cross join lateral (values (''::bytea), (limit_phone)) s(subject)
    where limit_day is not null and was_free <> is_free and s.subject is not null
    group by 1, 2, 3, 4, 5
), counters as materialized (
    select c.client_id, c.mode, c.service_id, c.day, c.subject, m.by_minor
    from limit_counters c join moved m using (client_id, mode, service_id, day, subject)
    order by 1, 2, 3, 4, 5 for update of c
), counted as (
    update limit_counters c set used_minor = greatest(0, c.used_minor + m.by_minor)
    from counters m where (c.client_id, c.mode, c.service_id, c.day, c.subject)
                        = (m.client_id, m.mode, m.service_id, m.day, m.subject)
)
select id from applied"""
_CLAIM_CHECK = """
update payments p set check_at = now() + $1::interval
from (select id from payments where settled_at is null and accepted_at < now() - $1::interval
        and check_at <= now()
      order by accepted_at limit $2 for update skip locked) due
where p.id = due.id returning p.id, p.client_id, p.mode"""
_UNSEEN = """
select count(*) from (select 1 from payments
    where settled_at is null and version = 0 and accepted_at < now() - $1::interval limit 100000) u
"""
_ERASE = """
update payments set secrets = null where id = any(array(
    select id from payments where settled_at is null and secrets is not null
        and accepted_at < now() - $1::interval
    order by accepted_at limit 1000 for update skip locked))
returning id"""
_FORGET_KEYS = """
delete from idempotency_keys where (client_id, mode, operation, key) in (
    select client_id, mode, operation, key from idempotency_keys
    where created_at < now() - $1::interval limit 5000 for update skip locked)
returning key"""
_FORGET_CALLBACKS = """
delete from callbacks where id = any(array(
    select id from callbacks where received_at < now() - $1::interval limit 1000
    for update skip locked))
returning id"""


def payment_of(row: Any) -> Payment:
    """Make a payment of a row that has its columns."""
    values = dict(row)
    values["status"] = PaymentStatus(values["status"])
    return Payment(**values)


async def find(tx: Tx, payment_id: str) -> Payment | None:
    """Return a payment, if this transaction's tenant may see it."""
    row = await tx.row(_ONE, payment_id)
    return None if row is None else payment_of(row)


async def find_by_reference(tx: Tx, reference_hash: bytes) -> Payment | None:
    """Return the payment of a reference, if this transaction's tenant may see it."""
    row = await tx.row(_BY_REFERENCE, reference_hash)
    return None if row is None else payment_of(row)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to; None narrows nothing. `before` is the last id of a page.

    `fields` are values of client-defined fields, all of which a payment must have.
    """

    before: str | None = None
    statuses: Sequence[str] | None = None
    service: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    reference_hash: bytes | None = None
    fields: Mapping[str, str] | None = None
    limit: int = 50


async def page(tx: Tx, client_id: str, mode: str, wanted: Filter) -> list[Payment]:
    """Return a tenant's payments, newest first, `limit` at the most."""
    rows = await tx.fetch(
        _LIST,
        client_id,
        mode,
        wanted.before,
        wanted.statuses,
        wanted.service,
        wanted.since,
        wanted.until,
        wanted.reference_hash,
        wanted.limit,
        list(wanted.fields) if wanted.fields else None,
        list(wanted.fields.values()) if wanted.fields else None,
    )
    return [payment_of(row) for row in rows]


async def find_over(tx: Tx, ids: Sequence[str]) -> list[Payment]:
    """Return those of these payments for which no wait is of use any more."""
    return [payment_of(row) for row in await tx.fetch(_OVER_NOW, list(ids), _OVER)]


async def apply_news(tx: Tx, news: Sequence[News]) -> set[str]:
    """Apply news that are newer than what is known, tenant and mode matching; return their ids."""
    newest: dict[str, News] = {}
    for one in news:
        known = newest.get(one.payment_id)
        if known is None or known.version < one.version:
            newest[one.payment_id] = one
    rows = await tx.fetch(
        _NEWS,
        *[
            [getattr(one, name) for _, one in sorted(newest.items())]
            for name in (
                "payment_id", "client_id", "mode", "status", "version", "provider_reference",
                "reason_code", "reason_message", "late", "occurred_at",
            )
        ],
        _FINAL,
        _NOT_PAID,
    )  # fmt: skip
    return {row["id"] for row in rows}


async def claim_checks(tx: Tx, every: dt.timedelta, limit: int) -> list[tuple[str, str, str]]:
    """Claim open payments whose news is due to be asked for: (id, client_id, mode)."""
    rows = await tx.fetch(_CLAIM_CHECK, every, limit)
    return [(row["id"], row["client_id"], row["mode"]) for row in rows]


async def count_unseen(tx: Tx, older_than: dt.timedelta) -> int:
    """Count payments accepted that long ago of which the router has said nothing yet."""
    return int(await tx.value(_UNSEEN, older_than))


async def erase_secrets(tx: Tx, older_than: dt.timedelta) -> int:
    """Erase sealed secrets of payments that are open for too long."""
    return len(await tx.fetch(_ERASE, older_than))


async def forget_keys(tx: Tx, older_than: dt.timedelta) -> int:
    """Delete idempotency records past their time; references stay."""
    return len(await tx.fetch(_FORGET_KEYS, older_than))


async def forget_callbacks(tx: Tx, older_than: dt.timedelta) -> int:
    """Delete raw callbacks past their time."""
    return len(await tx.fetch(_FORGET_CALLBACKS, older_than))
