"""The fees of a month by client and service, from the postings themselves; what was invoiced."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.invoices import Row
from mospay_ledger.storage.reads import POSTED_BETWEEN

_CURRENCIES = """
select distinct currency from accounts where kind in ('fees', 'refunds') and mode = $1
order by currency"""
# By the operator's own two accounts, so that what is invoiced is what they say.
_WAITING = f"""
select distinct e.client_id
from unnest($1::text[]) as a(id)
{POSTED_BETWEEN}
join journal_entries e on e.id = p.entry_id
where not exists (select from fee_invoices f where f.client_id = e.client_id
        and (f.mode, f.currency, f.month) = ($4, $5, $6))
order by 1 limit $7"""
_BY_SERVICE = """
select coalesce(e.service_id, '') as service_id,
    count(*) filter (where e.kind = 'capture' and a.kind = 'fees')::int as payments,
    count(distinct e.refund_id)::int as refunds,
    coalesce(-sum(p.amount_minor) filter (where a.kind = 'fees'), 0)::bigint as taken_minor,
    coalesce(sum(p.amount_minor) filter (where a.kind = 'refunds'), 0)::bigint as returned_minor
from journal_entries e join postings p on p.entry_id = e.id join accounts a on a.id = p.account_id
where e.client_id = $1 and e.mode = $2 and e.currency = $3 and e.posted_at >= $4
    and e.posted_at < $5 and a.kind in ('fees', 'refunds')
group by 1 order by 1"""
_BROUGHT = """
select carried_minor from fee_invoices
where client_id = $1 and mode = $2 and currency = $3 and month < $4 order by month desc limit 1"""
_STATE = """
select coalesce(bool_or(month = $4), false) as done, coalesce(bool_or(month > $4), false) as later
from fee_invoices where client_id = $1 and mode = $2 and currency = $3 and month >= $4"""
_LIST = """
select f.*, i.number from fee_invoices f left join invoices i on i.id = f.invoice_id
where ($1 = '' or f.client_id = $1) and ($2 = '' or f.mode = $2)
    and ($3::date is null or f.month = $3)
    and (f.client_id, f.mode, f.currency, f.month) > ($4, $5, $6, $7)
order by f.client_id, f.mode, f.currency, f.month limit $8"""


async def currencies(tx: Tx, mode: str) -> list[str]:
    """Return the currencies fees were taken in."""
    return [row["currency"] for row in await tx.fetch(_CURRENCIES, mode)]


async def waiting(
    tx: Tx, mode: str, currency: str, month: dt.date, span: tuple[dt.datetime, dt.datetime],
    limit: int,
) -> list[str]:  # fmt: skip
    """Return clients with fees in a month that has not been closed for them."""
    accounts = [f"operator:{currency}:{mode}:{kind}" for kind in ("fees", "refunds")]
    rows = await tx.fetch(_WAITING, accounts, *span, mode, currency, month, limit)
    return [row["client_id"] for row in rows]


async def hold(
    tx: Tx, client_id: str, mode: str, currency: str, month: dt.date
) -> tuple[bool, bool]:
    """Hold a client's fee invoices until the commit; say if this month, or a later one, is done."""
    key = f"fees:{client_id}:{mode}:{currency}"
    await tx.run("select pg_advisory_xact_lock(hashtextextended($1, 0))", key)
    row = await tx.row(_STATE, client_id, mode, currency, month)
    assert row is not None
    return row["done"], row["later"]


async def by_service(
    tx: Tx, client_id: str, mode: str, currency: str, span: tuple[dt.datetime, dt.datetime]
) -> list[asyncpg.Record]:
    """Return a client's fees by service: payments, refunds, taken_minor, returned_minor."""
    return await tx.fetch(_BY_SERVICE, client_id, mode, currency, *span)


async def brought(tx: Tx, client_id: str, mode: str, currency: str, month: dt.date) -> int:
    """Return what earlier months left: zero, or less when more was given back than taken."""
    return int(await tx.value(_BROUGHT, client_id, mode, currency, month) or 0)


async def write(tx: Tx, row: Row) -> None:
    """Close a month for a client."""
    names = (
        "client_id", "mode", "currency", "month", "taken_minor", "returned_minor",
        "brought_minor", "carried_minor", "invoice_id", "invoiced_minor",
    )  # fmt: skip
    await tx.run(
        f"insert into fee_invoices ({', '.join(names)}) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        *(row[name] for name in names),
    )


async def page(
    tx: Tx,
    *,
    client_id: str,
    mode: str,
    month: dt.date | None,
    after: tuple[str, str, str, dt.date],
    limit: int,
) -> list[asyncpg.Record]:
    """Return closed months in (client, mode, currency, month) order."""
    return await tx.fetch(_LIST, client_id, mode, month, *after, limit)


async def client_name(tx: Tx, client_id: str, mode: str) -> Mapping[str, Any]:
    """Return what is known of a client for its papers: its own issuer's particulars, if it has one.

    Else the name the directory has, where this service keeps one; else its id.
    """
    own = await tx.row(
        "select name, address, tax_id, email, phone, locale from issuers "
        "where client_id = $1 and mode = $2",
        client_id,
        mode,
    )
    if own is not None:
        return dict(own)
    name = None
    if await tx.value("select to_regclass('directory_entity') is not null"):
        name = await tx.value(
            "select body->>'name' from directory_entity "
            "where kind = 'client' and entity_id = $1 and not deleted",
            client_id,
        )
    nothing = dict.fromkeys(("address", "tax_id", "email", "phone"))
    return {**nothing, "name": name or client_id, "locale": "en"}
