"""Payments: reads of a tenant, the router's news, what is due to be looked at."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import FINAL_STATUSES, PaymentStatus

from mospay_gateway.domain.payments import WAIT_OVER, News, Payment

_COLUMNS = ", ".join(f.name for f in fields(Payment))
_FINAL = sorted(FINAL_STATUSES)
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
order by id desc limit $9"""
_OVER_NOW = f"select {_COLUMNS} from payments where id = any($1) and status = any($2)"
_NEWS = """
update payments p set status = u.status, version = u.version,
    provider_reference = u.provider_reference, reason_code = u.reason_code,
    reason_message = u.reason_message, late = u.late, updated_at = u.occurred_at,
    settled_at = case when u.status = any($11) then coalesce(p.settled_at, clock_timestamp()) end,
    secrets = case when u.status = any($11) then null else p.secrets end
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[],
            $8::text[], $9::bool[], $10::timestamptz[])
    as u(id, client_id, mode, status, version, provider_reference, reason_code, reason_message,
         late, occurred_at)
where p.id = u.id and p.client_id = u.client_id and p.mode = u.mode and p.version < u.version
returning p.id"""
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


def _payment(row: Any) -> Payment:
    values = dict(row)
    values["status"] = PaymentStatus(values["status"])
    return Payment(**values)


async def find(tx: Tx, payment_id: str) -> Payment | None:
    """Return a payment, if this transaction's tenant may see it."""
    row = await tx.row(_ONE, payment_id)
    return None if row is None else _payment(row)


async def find_by_reference(tx: Tx, reference_hash: bytes) -> Payment | None:
    """Return the payment of a reference, if this transaction's tenant may see it."""
    row = await tx.row(_BY_REFERENCE, reference_hash)
    return None if row is None else _payment(row)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to; None narrows nothing. `before` is the last id of a page."""

    before: str | None = None
    statuses: Sequence[str] | None = None
    service: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    reference_hash: bytes | None = None
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
    )
    return [_payment(row) for row in rows]


async def find_over(tx: Tx, ids: Sequence[str]) -> list[Payment]:
    """Return those of these payments for which no wait is of use any more."""
    return [_payment(row) for row in await tx.fetch(_OVER_NOW, list(ids), _OVER)]


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
