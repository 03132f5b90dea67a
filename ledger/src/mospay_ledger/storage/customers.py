"""Issuers and their customers.

`View` bounds every statement that changes something by client and mode; reads run as the request
role, where row-level security bounds them again.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.invoices import Row


@dataclass(frozen=True, slots=True)
class View:
    """Whose rows a change may touch; None is any (the operator)."""

    client_id: str | None = None
    mode: str | None = None


EVERYTHING = View()
ISSUER_FIELDS = (
    "name", "address", "tax_id", "email", "phone", "colour", "time_zone", "locale", "footer",
    "payment_terms_days", "fee_tax_bps", "invoice_prefix", "credit_prefix",
)  # fmt: skip
CUSTOMER_FIELDS = (
    "client_ref", "name", "email", "phone", "address", "tax_id", "locale", "active",
    "portal_enabled",
)  # fmt: skip
_VIEWED = "($1::text is null or client_id = $1) and ($2::text is null or mode = $2)"
_ISSUER = f"select * from issuers where {_VIEWED} and id = $3"
_ISSUER_OF = """
select * from issuers where client_id is not distinct from $1 and mode = $2"""
_ISSUERS = """
select * from issuers where ($1 = '' or client_id = $1) and ($2 = '' or mode = $2)
    and id > $3 order by id limit $4"""
_INSERT_ISSUER = f"""
insert into issuers (id, kind, client_id, mode, {", ".join(ISSUER_FIELDS)})
values ($1, case when $2::text is null then 'operator' else 'client' end, $2, $3,
    {", ".join(f"${n}" for n in range(4, 4 + len(ISSUER_FIELDS)))})
on conflict (client_id, mode) do nothing returning *"""
_UPDATE_ISSUER = f"""
update issuers set version = version + 1,
    {", ".join(f"{name} = ${n}" for n, name in enumerate(ISSUER_FIELDS, 3))}
where id = $1 and version = $2 returning *"""
_INSERT_CUSTOMER = f"""
insert into customers (id, issuer_id, client_id, mode, recipient_client_id,
    {", ".join(CUSTOMER_FIELDS)})
values ($1, $2, $3, $4, $5, {", ".join(f"${n}" for n in range(6, 6 + len(CUSTOMER_FIELDS)))})
returning *"""
_UPDATE_CUSTOMER = f"""
update customers set version = version + 1, updated_at = now(),
    {", ".join(f"{name} = ${n}" for n, name in enumerate(CUSTOMER_FIELDS, 2))}
where id = $1 returning *"""
_CUSTOMER = f"select * from customers where {_VIEWED} and id = $3 for no key update"
_CUSTOMERS = """
select * from customers
where ($1 = '' or client_id = $1) and ($2 = '' or mode = $2) and ($3 = '' or issuer_id = $3)
    and ($4 = '' or strpos(lower(concat_ws(' ', name, email, phone, client_ref, tax_id)
        collate "default"), lower($4)) > 0)
    and ($5::bool is null or active = $5) and ($6 = '' or id < $6)
order by id desc limit $7"""
_KNOWN = """
select client_ref, active from customers where issuer_id = $1 and client_ref = any($2::text[])
order by id for no key update"""
# A row that says what is there already changes nothing, and nobody is told of it. A list that says
# nothing of the portal leaves it as it is (`_KNOWN` holds the rows).
_IMPORT = """
insert into customers (id, issuer_id, client_id, mode, client_ref, name, email, phone, address,
    tax_id, locale, active, portal_enabled)
select u.id, $1, $2, $3, u.client_ref, u.name, u.email, u.phone, u.address, u.tax_id, u.locale,
    u.active, coalesce(u.portal_enabled, c.portal_enabled, false)
from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::bool[], $13::bool[]) as u(id, client_ref, name, email, phone, address, tax_id,
    locale, active, portal_enabled)
    left join customers c on c.issuer_id = $1 and c.client_ref = u.client_ref
order by u.client_ref
on conflict (issuer_id, client_ref) do update set name = excluded.name, email = excluded.email,
    phone = excluded.phone, address = excluded.address, tax_id = excluded.tax_id,
    locale = excluded.locale, active = excluded.active, portal_enabled = excluded.portal_enabled,
    version = customers.version + 1, updated_at = now()
where (customers.name, customers.email, customers.phone, customers.address, customers.tax_id,
        customers.locale, customers.active, customers.portal_enabled)
    is distinct from (excluded.name, excluded.email, excluded.phone, excluded.address,
        excluded.tax_id, excluded.locale, excluded.active, excluded.portal_enabled)
returning *"""
_CREDIT = """
select currency, sum(amount_minor)::bigint as amount_minor from customer_credits
where customer_id = $1 group by currency having sum(amount_minor) <> 0 order by currency"""


async def issuer(tx: Tx, view: View, issuer_id: str) -> asyncpg.Record | None:
    """Return an issuer."""
    return await tx.row(_ISSUER, view.client_id, view.mode, issuer_id)


async def issuer_of(tx: Tx, client_id: str | None, mode: str) -> asyncpg.Record | None:
    """Return a client's issuer in a mode; the operator's own, without a client."""
    return await tx.row(_ISSUER_OF, client_id, mode)


async def issuers(
    tx: Tx, *, client_id: str, mode: str, after: str, limit: int
) -> list[asyncpg.Record]:
    """Return issuers in id order; an empty filter takes all."""
    return await tx.fetch(_ISSUERS, client_id, mode, after, limit)


async def insert_issuer(
    tx: Tx, issuer_id: str, client_id: str | None, mode: str, fields: Row
) -> asyncpg.Record | None:
    """Write an issuer; None where the client has one in this mode."""
    values = [fields[name] for name in ISSUER_FIELDS]
    return await tx.row(_INSERT_ISSUER, issuer_id, client_id, mode, *values)


async def update_issuer(tx: Tx, issuer_id: str, version: int, fields: Row) -> asyncpg.Record | None:
    """Change an issuer that is at this version; None where it is not."""
    values = [fields[name] for name in ISSUER_FIELDS]
    return await tx.row(_UPDATE_ISSUER, issuer_id, version, *values)


async def numbered(tx: Tx, issuer_id: str, kind: str, prefix: str) -> bool:
    """Say whether a prefix has numbered an issuer's papers of this kind (invoice, credit_note)."""
    return bool(
        await tx.value(
            "select exists (select from number_series "
            "where issuer_id = $1 and kind = $2 and prefix = $3)",
            issuer_id,
            kind,
            prefix,
        )
    )


async def knows_zone(tx: Tx, time_zone: str) -> bool:
    """Say whether the database can count days in this time zone."""
    return bool(
        await tx.value("select exists (select from pg_timezone_names where name = $1)", time_zone)
    )


async def insert_customer(
    tx: Tx,
    customer_id: str,
    issuer: Row,
    fields: Row,
    recipient_client_id: str | None = None,
) -> asyncpg.Record:
    """Write a customer; asyncpg.UniqueViolationError where its reference is taken."""
    row = await tx.row(
        _INSERT_CUSTOMER,
        customer_id,
        issuer["id"],
        issuer["client_id"],
        issuer["mode"],
        recipient_client_id,
        *(fields[name] for name in CUSTOMER_FIELDS),
    )
    assert row is not None
    return row


async def update_customer(tx: Tx, customer_id: str, fields: Row) -> asyncpg.Record:
    """Change a customer that is locked."""
    row = await tx.row(_UPDATE_CUSTOMER, customer_id, *(fields[name] for name in CUSTOMER_FIELDS))
    assert row is not None
    return row


async def lock_customer(tx: Tx, view: View, customer_id: str) -> asyncpg.Record | None:
    """Return a customer and hold it."""
    return await tx.row(_CUSTOMER, view.client_id, view.mode, customer_id)


async def find_customer(tx: Tx, customer_id: str) -> asyncpg.Record | None:
    """Return a customer where `tx` sees it."""
    return await tx.row("select * from customers where id = $1", customer_id)


async def recipient(tx: Tx, issuer_id: str, client_id: str) -> asyncpg.Record | None:
    """Return the operator's customer that stands for a client."""
    return await tx.row(
        "select * from customers where issuer_id = $1 and recipient_client_id = $2",
        issuer_id,
        client_id,
    )


async def customers(
    tx: Tx,
    *,
    client_id: str = "",
    mode: str = "",
    issuer_id: str = "",
    search: str = "",
    active: bool | None = None,
    before: str = "",
    limit: int,
) -> list[asyncpg.Record]:
    """Return customers, newest first; `search` is a part of name, address, phone or reference."""
    return await tx.fetch(_CUSTOMERS, client_id, mode, issuer_id, search, active, before, limit)


async def known_references(tx: Tx, issuer_id: str, references: Sequence[str]) -> dict[str, bool]:
    """Return which of these references an issuer's customers have, held, and who is active."""
    rows = await tx.fetch(_KNOWN, issuer_id, references)
    return {row["client_ref"]: row["active"] for row in rows}


async def import_customers(
    tx: Tx, issuer: Row, ids: Sequence[str], rows: Sequence[Row]
) -> list[asyncpg.Record]:
    """Write customers by their reference; returns those that are new or not what they were."""
    keys = CUSTOMER_FIELDS
    return await tx.fetch(
        _IMPORT,
        issuer["id"],
        issuer["client_id"],
        issuer["mode"],
        list(ids),
        *([row[key] for row in rows] for key in keys),
    )


async def credit_of(tx: Tx, customer_id: str) -> list[asyncpg.Record]:
    """Return what a customer has with its issuer: (currency, amount_minor), zeros left out."""
    return await tx.fetch(_CREDIT, customer_id)


async def write_credit(
    tx: Tx,
    credit_id: str,
    invoice: Row,
    *,
    amount_minor: int,
    source: str,
    reference: str,
    at: dt.datetime,
) -> None:
    """Note what an invoice's customer has more with its issuer, or (negative) used."""
    await tx.run(
        "insert into customer_credits (id, issuer_id, client_id, mode, recipient_client_id, "
        "customer_id, currency, amount_minor, source, reference, invoice_id, at) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        credit_id,
        invoice["issuer_id"],
        invoice["client_id"],
        invoice["mode"],
        invoice["recipient_client_id"],
        invoice["customer_id"],
        invoice["currency"],
        amount_minor,
        source,
        reference,
        invoice["id"],
        at,
    )
