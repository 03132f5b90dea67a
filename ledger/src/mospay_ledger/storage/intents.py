"""Payment intents: made under the invoice's row lock, claimed by whoever sends, ended by proof."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import SealedSecrets

from mospay_ledger.domain.paying import Intent, Method, Tenant

_NAMES = [f.name for f in fields(Intent)]
_COLUMNS = ", ".join(_NAMES)
_LOCK_INVOICE = """
select id, issuer_id, client_id, recipient_client_id, mode, customer_id, number, currency, status,
    open_minor, allow_partial, locked_by
from invoices where id = $1 and ($2 = '' or client_id = $2 or recipient_client_id = $2)
    and ($3 = '' or mode = $3) and ($4 = '' or customer_id = $4) for update"""
_METHODS = """
select currency, service, microservice, route, label from payment_methods
where issuer_id = $1 and ($2 = '' or currency = $2) and active
order by currency, place, service, route limit 100"""
_INSERT = f"""
insert into payment_intents (id, invoice_id, client_id, recipient_client_id, customer_id, mode,
    merchant_id, invoice_number, currency, amount_minor, service, microservice, route, phone_sealed,
    phone_masked, link_id, tries, next_at, not_after, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 1,
    now() + $17::interval, now() + $18::interval, $19)
returning {_COLUMNS}"""
_LOCK = "update invoices set locked_by = $2, updated_at = now() where id = $1"
_UNLOCK = """
update invoices set locked_by = null, updated_at = now() where id = $1 and locked_by = $2"""
_CLAIM = f"""
update payment_intents i
set tries = i.tries + 1, next_at = now() + $1::interval, updated_at = now()
from (select id from payment_intents where next_at <= now() and state in ('open', 'posted')
      order by next_at limit $2 for update skip locked) due
where i.id = due.id
returning {", ".join(f"i.{name}" for name in _NAMES)}, i.phone_sealed"""
_ONE = f"select {_COLUMNS} from payment_intents where id = $1"
# Invoices first and in order, as `start` locks them: two batches never wait for each other.
_HOLD_INVOICES = """
select id from invoices where id in (
    select invoice_id from payment_intents where id = any($1::text[])) order by id for update"""
_HOLD_ALL = f"""
select {_COLUMNS}, payment_version from payment_intents where id = any($1::text[])
order by id for update"""
_OF_INVOICE = f"""
select {_COLUMNS} from payment_intents where invoice_id = $1 and id < $2
order by id desc limit $3"""
_LATER = """
update payment_intents set next_at = now() + $3::interval, updated_at = now()
where id = $1 and tries = $2 and state in ('open', 'posted')"""
_POSTED = """
update payment_intents set state = 'posted', payment_id = $2, payment_status = $3,
    phone_sealed = null, next_at = now() + $4::interval, updated_at = now()
where id = $1 and state = 'open'"""
_NOTE = """
update payment_intents set state = case when state = 'open' then 'posted' else state end,
    payment_id = $2, payment_status = $3, payment_version = $4, reason_code = $5,
    reason_message = $6, phone_sealed = null, updated_at = now()
where id = $1 and state in ('open', 'posted')"""
_END = """
update payment_intents set state = $2, payment_id = coalesce(payment_id, $3),
    payment_status = coalesce($4, payment_status), reason_code = $5, reason_message = $6,
    payment_version = greatest(payment_version, $7), phone_sealed = null, next_at = null,
    updated_at = now(), ended_at = now()
where id = $1"""
_UNDER_WAY = """
select state, coalesce(payment_status, '') as payment_status, count(*) as intents,
    extract(epoch from now() - min(created_at))::float8 as oldest_seconds
from (select state, payment_status, created_at from payment_intents
      where next_at is not null limit 100000) live group by 1, 2"""
_KEEP_METHOD = """
insert into payment_methods (issuer_id, client_id, mode, currency, service, microservice, route,
    label, place, active)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, true)
on conflict (issuer_id, currency, service, route) do update
set microservice = excluded.microservice, label = excluded.label, place = excluded.place,
    active = true, updated_at = now()"""
_DROP_METHODS = "update payment_methods set active = false, updated_at = now() where issuer_id = $1"
_LOCK_ISSUER = """
select id, client_id, mode from issuers
where id = $1 and ($2 = '' or client_id = $2) and ($3 = '' or mode = $3) for no key update"""


def _intent(row: Any) -> Intent:
    return Intent(**{name: row[name] for name in _NAMES})


async def lock_invoice(tx: Tx, invoice_id: str, whose: Tenant) -> asyncpg.Record | None:
    """Lock a tenant's invoice until the commit; None where there is none."""
    return await tx.row(_LOCK_INVOICE, invoice_id, whose.client_id, whose.mode, whose.customer_id)


async def methods(tx: Tx, issuer_id: str, currency: str) -> list[Method]:
    """Return the ways to pay an issuer in a currency, the first one first."""
    rows = await tx.fetch(_METHODS, issuer_id, currency)
    return [Method(r["service"], r["microservice"], r["route"], r["label"]) for r in rows]


async def methods_of(tx: Tx, issuer_id: str) -> list[asyncpg.Record]:
    """Return all ways to pay an issuer, by currency and place, at most 100."""
    return await tx.fetch(_METHODS, issuer_id, "")


async def lock_issuer(tx: Tx, issuer_id: str, client_id: str, mode: str) -> asyncpg.Record | None:
    """Lock an issuer of a tenant ('' is any) until the commit; None where there is none."""
    return await tx.row(_LOCK_ISSUER, issuer_id, client_id, mode)


async def keep_methods(
    tx: Tx, issuer: asyncpg.Record, wanted: Sequence[tuple[str, Method]]
) -> None:
    """Make these (currency, method) the only ways to pay an issuer, in this order."""
    await tx.run(_DROP_METHODS, issuer["id"])
    for place, (currency, method) in enumerate(wanted):
        await tx.run(
            _KEEP_METHOD, issuer["id"], issuer["client_id"], issuer["mode"], currency,
            method.service, method.microservice, method.route, method.label, place,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewIntent:
    """What `insert` writes beside what it copies from the invoice."""

    id: str
    merchant_id: str
    amount_minor: int
    method: Method
    sealed: SealedSecrets
    phone_masked: str
    link_id: str | None
    created_by: str | None
    lease: dt.timedelta
    window: dt.timedelta


async def insert(tx: Tx, invoice: asyncpg.Record, new: NewIntent) -> Intent:
    """Write an intent, leased to its maker, and lock its invoice with it."""
    row = await tx.row(
        _INSERT, new.id, invoice["id"], invoice["client_id"], invoice["recipient_client_id"],
        invoice["customer_id"], invoice["mode"], new.merchant_id, invoice["number"],
        invoice["currency"], new.amount_minor, new.method.service, new.method.microservice,
        new.method.route, new.sealed.model_dump(), new.phone_masked, new.link_id, new.lease,
        new.window, new.created_by,
    )  # fmt: skip
    await tx.run(_LOCK, invoice["id"], new.id)
    return _intent(row)


async def claim(
    tx: Tx, lease: dt.timedelta, limit: int
) -> list[tuple[Intent, SealedSecrets | None]]:
    """Claim intents that are due, each for `lease`: with the sealed phone of those to be sent."""
    return [
        (_intent(row), SealedSecrets(**row["phone_sealed"]) if row["phone_sealed"] else None)
        for row in await tx.fetch(_CLAIM, lease, limit)
    ]


async def find(tx: Tx, intent_id: str) -> Intent | None:
    """Return an intent, if this transaction's tenant may see it."""
    row = await tx.row(_ONE, intent_id)
    return None if row is None else _intent(row)


async def of_invoice(tx: Tx, invoice_id: str, before: str, limit: int) -> list[Intent]:
    """Return an invoice's intents, newest first, below id `before` (`int_z`: from the newest)."""
    return [_intent(row) for row in await tx.fetch(_OF_INVOICE, invoice_id, before, limit)]


async def hold(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[Intent, int]]:
    """Lock intents with their invoices; return each with the version of its payment's last news."""
    await tx.fetch(_HOLD_INVOICES, list(ids))
    rows = await tx.fetch(_HOLD_ALL, list(ids))
    return {row["id"]: (_intent(row), row["payment_version"]) for row in rows}


async def wait_longer(tx: Tx, intent: Intent, wait: dt.timedelta) -> None:
    """Put the next try off, unless somebody else has claimed the intent since."""
    await tx.run(_LATER, intent.id, intent.tries, wait)


async def posted(tx: Tx, intent_id: str, payment_id: str, status: str, check: dt.timedelta) -> bool:
    """Note that the gateway has the payment; False where the intent was not open any more."""
    return await tx.run(_POSTED, intent_id, payment_id, status, check) == "UPDATE 1"


async def note(
    tx: Tx, intent_id: str, payment_id: str, status: str, version: int, reason: tuple[Any, Any]
) -> None:
    """Note news of a payment that has not ended."""
    await tx.run(_NOTE, intent_id, payment_id, status, version, *reason)


async def end(
    tx: Tx,
    intent: Intent,
    state: str,
    *,
    payment_id: str | None = None,
    status: str | None = None,
    version: int = -1,
    reason: tuple[str | None, str | None] = (None, None),
) -> None:
    """End an intent (it is held) and unlock its invoice if it is the one that locks it."""
    await tx.run(_END, intent.id, state, payment_id, status, *reason, version)
    await tx.run(_UNLOCK, intent.invoice_id, intent.id)


async def under_way(tx: Tx) -> list[asyncpg.Record]:
    """Return live intents by state and payment status: how many, and the age of the oldest."""
    return await tx.fetch(_UNDER_WAY)
