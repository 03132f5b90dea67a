"""Invoices, their lines, payments and credit notes; due ones, ageing."""

import datetime as dt
from collections.abc import Sequence

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.invoices import Line, Row, Totals
from mospay_ledger.storage.customers import View

_VIEWED = "($1::text is null or client_id = $1) and ($2::text is null or mode = $2)"
_LOCK = f"select * from invoices where {_VIEWED} and id = $3 for update"
_INSERT = """
insert into invoices (id, issuer_id, client_id, mode, recipient_client_id, customer_id, currency,
    total_minor, tax_minor, discount_minor, allow_partial, due_on, notes, reference, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) returning *"""
_UPDATE_DRAFT = """
update invoices set customer_id = $2, currency = $3, total_minor = $4, tax_minor = $5,
    discount_minor = $6, allow_partial = $7, due_on = $8, notes = $9, reference = $10,
    version = version + 1, updated_at = now()
where id = $1 returning *"""
_LINES = """
insert into invoice_lines (invoice_id, line, client_id, mode, recipient_client_id, customer_id,
    description, quantity, unit_price_minor, discount_bps, discount_minor, tax_rate_bps,
    tax_inclusive, service_id, net_minor, tax_minor, total_minor)
select $1, u.n, $2, $3, $4, $5, u.description, u.quantity, u.unit_price, u.discount_bps,
    u.discount, u.tax_rate, u.inclusive, u.service_id, u.net, u.tax, u.total
from unnest($6::text[], $7::numeric[], $8::bigint[], $9::int[], $10::bigint[], $11::int[],
    $12::bool[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[]) with ordinality
    as u(description, quantity, unit_price, discount_bps, discount, tax_rate, inclusive,
        service_id, net, tax, total, n)"""
_ISSUE = """
update invoices set status = 'issued', issued_on = $2, issued_at = $3, due_on = $4,
    issuer_snapshot = $5, customer_snapshot = $6, version = version + 1, updated_at = now()
where id = $1 returning *"""
_VOID = """
update invoices set status = 'void', void_reason = $2, voided_at = $3, closed_at = $3,
    version = version + 1, updated_at = now()
where id = $1 returning *"""
_SETTLE = """
update invoices set status = $2, paid_minor = $3, credited_minor = $4, version = version + 1,
    closed_at = case when $2 = 'paid' then coalesce(closed_at, greatest($5::timestamptz, (
        select max(at) from invoice_payments where invoice_id = $1))) end, updated_at = now()
where id = $1 returning *"""
_PAYMENT = """
insert into invoice_payments (payment_id, invoice_id, client_id, mode, recipient_client_id,
    customer_id, source, amount_minor, applied_minor, at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
_CREDIT_NOTE = """
insert into credit_notes (id, invoice_id, issuer_id, client_id, mode, recipient_client_id,
    customer_id, number, currency, total_minor, tax_minor, applied_minor, reason, issued_on,
    issued_at, created_by)
values ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, $12, $13, $14, $15) returning *"""
_LIST = """
select i.*, c.name as customer_name from invoices i join customers c on c.id = i.customer_id
where ($1 = '' or i.client_id = $1) and ($2 = '' or i.mode = $2) and ($3 = '' or i.issuer_id = $3)
    and ($4 = '' or i.customer_id = $4) and ($5 = '' or i.status = $5)
    and ($6 = '' or i.currency = $6) and ($7 = '' or i.recipient_client_id = $7)
    and ($8 = '' or i.number = $8) and ($9 = '' or i.id < $9)
order by i.id desc limit $10"""
_FIND = """
select i.*, c.name as customer_name from invoices i join customers c on c.id = i.customer_id
where i.id = $1 and ($2 = '' or $2 in (i.client_id, i.recipient_client_id))
    and ($3 = '' or i.mode = $3)"""
_OVERDUE = """
with due as (
    select i.id from invoices i join issuers s on s.id = i.issuer_id
    where i.status in ('issued', 'part_paid') and ($2 = '' or i.mode = $2)
        and i.due_on < coalesce($1::date, current_date + 1)
        and i.due_on < coalesce($1::date, (now() at time zone s.time_zone)::date)
    order by i.due_on, i.id limit $3 for update of i skip locked)
update invoices i set status = 'overdue', version = version + 1, updated_at = now()
from due where i.id = due.id returning i.*"""
# What was open at the end of a day of the issuer's calendar: payments and credit notes of later
# days do not count yet. Looks at what is open now or was closed after that day, not at the rest.
_AGEING = """
with issuer as (select id, ($2::date + 1)::timestamp at time zone time_zone as until
    from issuers where id = $1),
open as (
    select i.id, i.number, i.customer_id, i.currency, i.due_on, i.issued_on, i.total_minor,
        i.total_minor
        - (select coalesce(sum(p.applied_minor), 0) from invoice_payments p
            where p.invoice_id = i.id and p.at < s.until)
        - (select coalesce(sum(n.applied_minor), 0) from credit_notes n
            where n.invoice_id = i.id and n.issued_at < s.until) as open_minor
    from issuer s join invoices i on i.issuer_id = s.id
    where i.issued_on <= $2 and i.status <> 'draft' and ($3 = '' or i.customer_id = $3)
        and (i.open_minor > 0 or i.closed_at >= s.until)),
aged as (
    select *, $2::date - due_on as days from open where open_minor > 0)"""
_AGEING_CUSTOMERS = f"""{_AGEING},
sums as (
    select customer_id, currency, count(*)::int as invoices, sum(open_minor)::bigint as open_minor,
        coalesce(sum(open_minor) filter (where days <= 0), 0)::bigint as current,
        coalesce(sum(open_minor) filter (where days between 1 and 30), 0)::bigint as days_1_30,
        coalesce(sum(open_minor) filter (where days between 31 and 60), 0)::bigint as days_31_60,
        coalesce(sum(open_minor) filter (where days between 61 and 90), 0)::bigint as days_61_90,
        coalesce(sum(open_minor) filter (where days > 90), 0)::bigint as days_over_90
    from aged group by customer_id, currency)
select s.*, c.name as customer_name, c.client_ref from sums s join customers c
    on c.id = s.customer_id
where (s.currency, s.customer_id) > ($4, $5) order by s.currency, s.customer_id limit $6"""
_AGEING_TOTALS = f"""{_AGEING}
select currency, count(*)::int as invoices, count(distinct customer_id)::int as customers,
    sum(open_minor)::bigint as open_minor,
    coalesce(sum(open_minor) filter (where days <= 0), 0)::bigint as current,
    coalesce(sum(open_minor) filter (where days between 1 and 30), 0)::bigint as days_1_30,
    coalesce(sum(open_minor) filter (where days between 31 and 60), 0)::bigint as days_31_60,
    coalesce(sum(open_minor) filter (where days between 61 and 90), 0)::bigint as days_61_90,
    coalesce(sum(open_minor) filter (where days > 90), 0)::bigint as days_over_90
from aged group by currency order by currency"""
_AGEING_INVOICES = f"""{_AGEING}
select * from aged order by currency, due_on, id limit $4"""


async def lock(tx: Tx, view: View, invoice_id: str) -> asyncpg.Record | None:
    """Return an invoice and hold it until the transaction ends."""
    return await tx.row(_LOCK, view.client_id, view.mode, invoice_id)


async def insert(
    tx: Tx,
    invoice_id: str,
    customer: Row,
    totals: Totals,
    terms: Row,
    created_by: str | None,
) -> asyncpg.Record:
    """Write a draft; `terms` are currency, allow_partial, due_on, notes and reference."""
    row = await tx.row(
        _INSERT,
        invoice_id,
        customer["issuer_id"],
        customer["client_id"],
        customer["mode"],
        customer["recipient_client_id"],
        customer["id"],
        terms["currency"],
        totals.total_minor,
        totals.tax_minor,
        totals.discount_minor,
        terms["allow_partial"],
        terms["due_on"],
        terms["notes"],
        terms["reference"],
        created_by,
    )
    assert row is not None
    return row


async def update_draft(
    tx: Tx, invoice_id: str, customer_id: str, totals: Totals, terms: Row
) -> asyncpg.Record:
    """Change a draft that is locked."""
    row = await tx.row(
        _UPDATE_DRAFT,
        invoice_id,
        customer_id,
        terms["currency"],
        totals.total_minor,
        totals.tax_minor,
        totals.discount_minor,
        terms["allow_partial"],
        terms["due_on"],
        terms["notes"],
        terms["reference"],
    )
    assert row is not None
    return row


async def write_lines(tx: Tx, invoice: Row, lines: Sequence[Line]) -> None:
    """Put these lines in the place of a draft's."""
    await tx.run("delete from invoice_lines where invoice_id = $1", invoice["id"])
    amounts = [line.amounts() for line in lines]
    await tx.run(
        _LINES,
        invoice["id"],
        invoice["client_id"],
        invoice["mode"],
        invoice["recipient_client_id"],
        invoice["customer_id"],
        [line.description for line in lines],
        [line.quantity for line in lines],
        [line.unit_price_minor for line in lines],
        [line.discount_bps for line in lines],
        [a.discount_minor for a in amounts],
        [line.tax_rate_bps for line in lines],
        [line.tax_inclusive for line in lines],
        [line.service_id for line in lines],
        [a.net_minor for a in amounts],
        [a.tax_minor for a in amounts],
        [a.total_minor for a in amounts],
    )


async def delete_draft(tx: Tx, invoice_id: str) -> None:
    """Delete a draft and its lines; the database refuses anything else."""
    await tx.run("delete from invoice_lines where invoice_id = $1", invoice_id)
    await tx.run("delete from invoices where id = $1", invoice_id)


async def issue(
    tx: Tx,
    invoice_id: str,
    *,
    issued_on: dt.date,
    issued_at: dt.datetime,
    due_on: dt.date,
    issuer: Row,
    customer: Row,
) -> asyncpg.Record:
    """Issue a locked draft with copies of its parties; the database gives it its number."""
    row = await tx.row(_ISSUE, invoice_id, issued_on, issued_at, due_on, issuer, customer)
    assert row is not None
    return row


async def void(tx: Tx, invoice_id: str, reason: str, at: dt.datetime) -> asyncpg.Record:
    """Void a locked invoice."""
    row = await tx.row(_VOID, invoice_id, reason, at)
    assert row is not None
    return row


async def settle(
    tx: Tx,
    invoice_id: str,
    *,
    status: str,
    paid_minor: int,
    credited_minor: int,
    at: dt.datetime,
) -> asyncpg.Record:
    """Note what is paid and credited of a locked invoice by now."""
    row = await tx.row(_SETTLE, invoice_id, status, paid_minor, credited_minor, at)
    assert row is not None
    return row


async def has_payment(tx: Tx, payment_id: str) -> bool:
    """Say whether a payment is noted on an invoice."""
    return bool(
        await tx.value(
            "select exists (select from invoice_payments where payment_id = $1)", payment_id
        )
    )


async def write_payment(
    tx: Tx,
    invoice: Row,
    *,
    payment_id: str,
    source: str,
    amount_minor: int,
    applied_minor: int,
    at: dt.datetime,
) -> None:
    """Note a payment of an invoice, and what of it was still open."""
    await tx.run(
        _PAYMENT,
        payment_id,
        invoice["id"],
        invoice["client_id"],
        invoice["mode"],
        invoice["recipient_client_id"],
        invoice["customer_id"],
        source,
        amount_minor,
        applied_minor,
        at,
    )


async def write_credit_note(
    tx: Tx,
    note_id: str,
    invoice: Row,
    *,
    total_minor: int,
    tax_minor: int,
    applied_minor: int,
    reason: str,
    issued_on: dt.date,
    issued_at: dt.datetime,
    created_by: str | None,
) -> asyncpg.Record:
    """Write a credit note; the database gives it its number."""
    row = await tx.row(
        _CREDIT_NOTE,
        note_id,
        invoice["id"],
        invoice["issuer_id"],
        invoice["client_id"],
        invoice["mode"],
        invoice["recipient_client_id"],
        invoice["customer_id"],
        invoice["currency"],
        total_minor,
        tax_minor,
        applied_minor,
        reason,
        issued_on,
        issued_at,
        created_by,
    )
    assert row is not None
    return row


async def credited_tax(tx: Tx, invoice_id: str) -> int:
    """Return the tax in an invoice's credit notes so far."""
    return int(
        await tx.value(
            "select coalesce(sum(tax_minor), 0) from credit_notes where invoice_id = $1",
            invoice_id,
        )
    )


async def mark_overdue(
    tx: Tx, as_of: dt.date | None, mode: str, limit: int
) -> list[asyncpg.Record]:
    """Mark what was due before today, by the issuer's calendar (or before `as_of`)."""
    return await tx.fetch(_OVERDUE, as_of, mode, limit)


async def find(
    tx: Tx, invoice_id: str, client_id: str = "", mode: str = ""
) -> asyncpg.Record | None:
    """Return an invoice where `tx` sees it; of a client, what it sends or is sent."""
    return await tx.row(_FIND, invoice_id, client_id, mode)


async def lines_of(tx: Tx, invoice_id: str) -> list[asyncpg.Record]:
    """Return an invoice's lines (at most domain.LINE_LIMIT)."""
    return await tx.fetch("select * from invoice_lines where invoice_id = $1 order by line",
                          invoice_id)  # fmt: skip


async def payments_of(tx: Tx, invoice_id: str) -> list[asyncpg.Record]:
    """Return what was paid on an invoice, oldest first."""
    return await tx.fetch(
        "select * from invoice_payments where invoice_id = $1 order by at, payment_id limit 200",
        invoice_id,
    )


async def credit_notes_of(tx: Tx, invoice_id: str) -> list[asyncpg.Record]:
    """Return an invoice's credit notes, oldest first."""
    return await tx.fetch(
        "select * from credit_notes where invoice_id = $1 order by id limit 200", invoice_id
    )


async def credit_note(tx: Tx, note_id: str) -> asyncpg.Record | None:
    """Return a credit note where `tx` sees it."""
    return await tx.row("select * from credit_notes where id = $1", note_id)


async def page(
    tx: Tx,
    *,
    client_id: str = "",
    mode: str = "",
    issuer_id: str = "",
    customer_id: str = "",
    status: str = "",
    currency: str = "",
    recipient_client_id: str = "",
    number: str = "",
    before: str = "",
    limit: int,
) -> list[asyncpg.Record]:
    """Return invoices, newest first; an empty filter takes all."""
    return await tx.fetch(
        _LIST, client_id, mode, issuer_id, customer_id, status, currency, recipient_client_id,
        number, before, limit,
    )  # fmt: skip


async def ageing_customers(
    tx: Tx,
    issuer_id: str,
    as_of: dt.date,
    *,
    customer_id: str = "",
    after: tuple[str, str] = ("", ""),
    limit: int,
) -> list[asyncpg.Record]:
    """Return what customers owed at the end of a day by age, in (currency, customer) order."""
    return await tx.fetch(_AGEING_CUSTOMERS, issuer_id, as_of, customer_id, *after, limit)


async def ageing_totals(
    tx: Tx, issuer_id: str, as_of: dt.date, customer_id: str = ""
) -> list[asyncpg.Record]:
    """Return the sums of an ageing statement, one row a currency."""
    return await tx.fetch(_AGEING_TOTALS, issuer_id, as_of, customer_id)


async def ageing_invoices(
    tx: Tx, issuer_id: str, as_of: dt.date, customer_id: str, limit: int
) -> list[asyncpg.Record]:
    """Return the invoices behind a customer's ageing, the longest due first."""
    return await tx.fetch(_AGEING_INVOICES, issuer_id, as_of, customer_id, limit)
