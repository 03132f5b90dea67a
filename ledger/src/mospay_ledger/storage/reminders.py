"""Reminders: which mails are due, each noted in the statement that finds it, so once for ever."""

import asyncpg
from mospay_shared.chassis.database import Tx

# The newest kind that applies wins, so an invoice that was not looked at for a while gets one mail
# and not three. Days are the issuer's. `issued` is for fresh ones: switching this on mails no past.
_DUE = """
with open as (
    select v.id, v.client_id, v.recipient_client_id, v.customer_id, v.mode, v.issuer_id, v.due_on,
        v.issued_on, v.issued_at, (now() at time zone i.time_zone)::date as today
    from invoices v join issuers i on i.id = v.issuer_id
    join customers c on c.id = v.customer_id
    where v.open_minor > 0 and v.locked_by is null and c.email is not null and c.active
        and (v.mode = 'live' or $3)),
wanted as (
    select *, case
        when today >= due_on + $2::int and today < due_on + $2::int + 30 then 'overdue'
        when today >= due_on and today < due_on + $2::int then 'due'
        when today >= due_on - $1::int and today < due_on and today > issued_on then 'before_due'
        when issued_at > now() - interval '1 day' then 'issued' end as kind
    from open),
noted as (
    insert into invoice_reminders (invoice_id, kind, client_id, recipient_client_id, customer_id,
        mode)
    select id, kind, client_id, recipient_client_id, customer_id, mode from wanted w
    where kind is not null and not exists (
        select from invoice_reminders r where r.invoice_id = w.id and r.kind = w.kind)
    order by id limit $4 on conflict do nothing returning invoice_id, kind)
select n.kind, v.id as invoice_id, v.client_id, v.recipient_client_id, v.mode, v.customer_id,
    v.number, v.currency, v.total_minor, v.open_minor, v.due_on, c.name as customer_name,
    c.email as customer_email, i.name as issuer_name, i.email as issuer_email, i.colour
from noted n join invoices v on v.id = n.invoice_id join issuers i on i.id = v.issuer_id
join customers c on c.id = v.customer_id"""


async def note_due(
    tx: Tx, *, before_days: int, overdue_days: int, in_test: bool, limit: int
) -> list[asyncpg.Record]:
    """Note which mails are due now, at most `limit`, and return what they say."""
    return await tx.fetch(_DUE, before_days, overdue_days, in_test, limit)
