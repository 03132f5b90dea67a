"""Guest links, of which the token's hash alone is stored, and what a guest sees of an invoice."""

import datetime as dt

import asyncpg
from mospay_shared.chassis.database import Tx

_COLUMNS = """id, invoice_id, purpose, expires_at, revoked_at, uses, last_used_at, created_by,
    created_at"""
_INVOICE = """
select id, client_id, recipient_client_id, customer_id, mode, status, open_minor from invoices
where id = $1 and ($2 = '' or client_id = $2) and ($3 = '' or mode = $3) for share"""
_INSERT = f"""
insert into invoice_links (id, token_hash, invoice_id, client_id, recipient_client_id, customer_id,
    mode, purpose, expires_at, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning {_COLUMNS}"""
# A mail that is sent again makes a link of its own; the one nobody may have got ends with that.
_REVOKE_MAILED = """
update invoice_links set revoked_at = now()
where invoice_id = $1 and purpose = 'mailed' and uses = 0 and revoked_at is null"""
_REVOKE = f"""
update invoice_links set revoked_at = coalesce(revoked_at, now())
where id = $1 and ($2 = '' or client_id = $2) and ($3 = '' or mode = $3) returning {_COLUMNS}"""
_LIST = f"""
select {_COLUMNS} from invoice_links where invoice_id = $1 and id < $2 order by id desc limit $3"""
_GOOD = "token_hash = $1 and revoked_at is null and expires_at > now()"
_FOLLOW = f"select id, invoice_id, client_id, mode from invoice_links where {_GOOD}"
_USE = f"""
update invoice_links set uses = uses + 1, last_used_at = now() where {_GOOD}
returning id, invoice_id, client_id, mode"""
_SEEN = """
select v.id, v.number, v.currency, v.status, v.total_minor, v.tax_minor, v.discount_minor,
    v.paid_minor, v.credited_minor, v.open_minor, v.due_on, v.issued_on, v.allow_partial, v.notes,
    v.reference, v.locked_by, v.mode, v.issuer_id,
    coalesce(v.issuer_snapshot ->> 'name', i.name) as issuer_name, i.colour,
    i.email as issuer_email,
    i.phone as issuer_phone, i.time_zone,
    l.digest as logo_digest, l.width as logo_width, l.height as logo_height,
    coalesce(v.customer_snapshot ->> 'name', c.name) as customer_name,
    coalesce(v.customer_snapshot ->> 'locale', c.locale) as locale
from invoices v join issuers i on i.id = v.issuer_id join customers c on c.id = v.customer_id
    left join issuer_logos l on l.issuer_id = i.id
where v.id = $1 and v.status <> 'draft'"""
_LINES = """
select description, quantity, unit_price_minor, discount_minor, tax_rate_bps, tax_minor, total_minor
from invoice_lines where invoice_id = $1 order by line limit 500"""


async def invoice_of(tx: Tx, invoice_id: str, client_id: str, mode: str) -> asyncpg.Record | None:
    """Return whose invoice it is, for its own issuer ('' is any); None where there is none."""
    return await tx.row(_INVOICE, invoice_id, client_id, mode)


async def insert(
    tx: Tx,
    invoice: asyncpg.Record,
    *,
    link_id: str,
    token_hash: bytes,
    purpose: str,
    expires_at: dt.datetime,
    by: str | None,
) -> asyncpg.Record:
    """Write a link; a mailed one ends earlier mailed ones that were never used."""
    if purpose == "mailed":
        await tx.run(_REVOKE_MAILED, invoice["id"])
    row = await tx.row(
        _INSERT, link_id, token_hash, invoice["id"], invoice["client_id"],
        invoice["recipient_client_id"], invoice["customer_id"], invoice["mode"], purpose,
        expires_at, by,
    )  # fmt: skip
    assert row is not None, link_id
    return row


async def revoke(tx: Tx, link_id: str, client_id: str, mode: str) -> asyncpg.Record | None:
    """End a link of a tenant ('' is any) for ever; None where there is none."""
    return await tx.row(_REVOKE, link_id, client_id, mode)


async def of_invoice(tx: Tx, invoice_id: str, before: str, limit: int) -> list[asyncpg.Record]:
    """Return an invoice's links, newest first, below id `before`."""
    return await tx.fetch(_LIST, invoice_id, before, limit)


async def follow(tx: Tx, token_hash: bytes, *, count: bool) -> asyncpg.Record | None:
    """Return the link of a token that holds now, counted as used if asked; else None."""
    return await tx.row(_USE if count else _FOLLOW, token_hash)


async def seen(tx: Tx, invoice_id: str) -> asyncpg.Record | None:
    """Return what a guest sees of an issued invoice, without its lines."""
    return await tx.row(_SEEN, invoice_id)


async def lines(tx: Tx, invoice_id: str) -> list[asyncpg.Record]:
    """Return an invoice's lines in order, at most 500."""
    return await tx.fetch(_LINES, invoice_id)
