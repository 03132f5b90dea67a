"""Payments from before there were sales: where the worker that counts them has got to."""

from mospay_shared.chassis.database import Tx

_NEXT = """
with place as (select * from sales_backlog where not done for update skip locked),
part as materialized (
    select f.accepted_month, f.payment_id from payment_facts f, place p
    where (f.accepted_month, f.payment_id) > (p.accepted_month, p.payment_id)
    order by f.accepted_month, f.payment_id limit $1),
moved as (
    update sales_backlog b set
        accepted_month = coalesce((select max(accepted_month) from part), b.accepted_month),
        payment_id = coalesce((select payment_id from part
            order by accepted_month desc, payment_id desc limit 1), b.payment_id),
        done = not exists (select 1 from part)
    from place p where b.id = p.id)
select payment_id from part"""


async def take(tx: Tx, limit: int) -> list[str]:
    """Return the next payments that may not be counted yet, and move on behind them."""
    return [row["payment_id"] for row in await tx.fetch(_NEXT, limit)]
