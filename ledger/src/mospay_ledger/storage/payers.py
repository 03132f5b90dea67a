"""What a payer sees of its own: issued invoices, newest first. Drafts are the issuer's alone."""

import asyncpg
from mospay_shared.chassis.database import Tx

_STATES = """
($3 = '' or ($3 = 'open' and open_minor > 0) or ($3 = 'overdue' and status = 'overdue')
    or ($3 = 'paid' and status = 'paid'))"""
_PAGE = f"""
select id, number, status, currency, total_minor, paid_minor, credited_minor, open_minor, issued_on,
    due_on, locked_by is not null as locked
from invoices
where customer_id = $1 and mode = $2 and status <> 'draft' and {_STATES} and ($4 = '' or id < $4)
order by id desc limit $5"""


async def page(
    tx: Tx, customer_id: str, mode: str, *, state: str = "", before: str = "", limit: int
) -> list[asyncpg.Record]:
    """Return a customer's invoices; `state`: open, overdue, paid, or '' for all."""
    return await tx.fetch(_PAGE, customer_id, mode, state, before, limit)
