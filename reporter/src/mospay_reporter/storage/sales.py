"""Sales: what each one counts, worked out from its payment and its events, and their rollups.

A sale's row is a function of what is stored about it, so news may come in any order and any number
of times. Order of locks, after those of the facts: sales by their key, then hourly rollups, then
methods, products and customers, each by its key. Whoever tells of a sale writes first and locks
then, so the one who comes second sees what the first has written.
"""

from collections.abc import Sequence

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import SaleEventV1

from mospay_reporter.domain.facts import month_of, storable
from mospay_reporter.domain.sales import Key, Place
from mospay_reporter.storage.facts import storing

# Payments share it, sale events that name a payment by its id have it alone: so neither overlooks
# the other while both are uncommitted.
_BY_ID_LOCK = 7226101

_INSERT_EVENTS = """
insert into sale_events (client_id, mode, dedupe_key, sale_event_id, name, transaction_id, kind,
    currency, amount_minor, fee_minor, customer_id, payment_method, product_id, product_name,
    occurred_at, received_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[],
    $14::text[], $15::timestamptz[], $16::timestamptz[])
on conflict do nothing returning client_id, mode, name"""

# Sales that merchants' events have opened under the id of a payment nobody had told of yet.
_ABSORB = """
with waiting as materialized (
    select s.client_id, s.mode, s.name, u.reference
    from unnest($1::text[], $2::text[], $3::text[], $4::text[])
        as u(client_id, mode, payment_id, reference)
    join sales s on s.client_id = u.client_id and s.mode = u.mode and s.name = u.payment_id
        and s.payment_id is null
    where u.reference <> u.payment_id
    order by 1, 2, 3 for update of s)
update sale_events e set name = w.reference from waiting w
where (e.client_id, e.mode, e.name) = (w.client_id, w.mode, w.name)
returning w.client_id, w.mode, w.name"""

_LOCK = """
insert into sales (client_id, mode, name, payment_id, accepted_month)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::date[])
    as u(client_id, mode, name, payment_id, accepted_month) order by client_id, mode, name
on conflict (client_id, mode, name) do update
    set payment_id = excluded.payment_id, accepted_month = excluded.accepted_month
    where sales.payment_id is null and excluded.payment_id is not null"""


def _latest(column: str, condition: str = "true") -> str:
    """The newest value of a column that is there; the id settles a tie the same way every time."""
    return (
        f"(array_agg({column} order by occurred_at desc, sale_event_id desc)"
        f" filter (where {column} is not null and {condition}))[1]"
    )


_VALUES = (
    "currency, occurred_at, outcome, amount_minor, fee_minor, refunded_minor, method, product_id, "
    "product_name, customer_id"
)
_NAMES = _VALUES.split(", ")

# A sale of ours is what its payment says; events fill in what the payment leaves open. Another's
# is what its events say; amounts in a currency other than the first event's are left out.
# Joined one sale at a time, by index: the planner takes a batch for a few rows, and would compare
# each of its rows with each.
_FRESH = f"""
old as materialized (
    select s.* from sales s join unnest($1::text[], $2::text[], $3::text[])
        as u(client_id, mode, name) using (client_id, mode, name)),
joined as materialized (
    select o.client_id, o.mode, o.name, {", ".join(f"o.{name} as was_{name}" for name in _NAMES)},
        f.payment_id is not null as ours, f.currency as paid_in, f.accepted_at, f.status,
        f.amount_minor, f.fee_minor, f.refunded_minor, f.service, f.product_id, f.product_name,
        f.customer_id, e.lead, e.told_at, e.succeeded, e.failed, e.paid_minor, e.asked_minor,
        e.fee_minor as told_fee_minor, e.refunded_minor as told_refunded_minor, e.whole_refunds,
        e.method as told_method, e.product_id as told_product_id,
        e.product_name as told_product_name, e.customer_id as told_customer_id
    from old o
    left join lateral (select * from payment_facts f
        where f.accepted_month = o.accepted_month and f.payment_id = o.payment_id
            and f.status is not null) f on true
    left join lateral (
        select min(lead) as lead, min(occurred_at) as told_at,
            bool_or(kind = 'payment_succeeded') as succeeded,
            bool_or(kind = 'payment_failed') as failed,
            {_latest("amount_minor", "same and kind = 'payment_succeeded'")} as paid_minor,
            {_latest("amount_minor", "same and kind in ('payment_created', 'payment_failed')")}
                as asked_minor,
            {_latest("fee_minor", "same and kind = 'payment_succeeded'")} as fee_minor,
            sum(amount_minor) filter (where same and kind = 'payment_refunded') as refunded_minor,
            count(*) filter (where kind = 'payment_refunded' and amount_minor is null)
                as whole_refunds,
            {_latest("payment_method")} as method, {_latest("product_id")} as product_id,
            {_latest("product_name")} as product_name, {_latest("customer_id")} as customer_id
        from (select *, (currency = lead) as same from (
            select *, first_value(currency) over (order by occurred_at, sale_event_id) as lead
            from sale_events e
            where (e.client_id, e.mode, e.name) = (o.client_id, o.mode, o.name)) led) told
        having count(*) > 0) e on true),
fresh as materialized (
    select client_id, mode, name, {", ".join(f"was_{name}" for name in _NAMES)},
        paid_in as currency, accepted_at as occurred_at,
        case when status = 'succeeded' then 'succeeded'
             when status in ('failed', 'cancelled', 'expired') then 'failed'
             else 'open' end as outcome,
        amount_minor,
        case when status = 'succeeded' then coalesce(fee_minor,
            case when lead = paid_in then told_fee_minor end, 0) else 0 end as fee_minor,
        refunded_minor, coalesce(told_method, service) as method,
        coalesce(product_id, told_product_id, product_name, told_product_name) as product_id,
        coalesce(product_name, told_product_name) as product_name,
        coalesce(customer_id, told_customer_id) as customer_id
    from joined where ours
    union all
    select client_id, mode, name, {", ".join(f"was_{name}" for name in _NAMES)},
        lead, told_at,
        case when succeeded then 'succeeded' when failed then 'failed'
             when lead is not null then 'open' end,
        coalesce(paid_minor, asked_minor, 0),
        case when succeeded then coalesce(told_fee_minor, 0) else 0 end,
        coalesce(told_refunded_minor, 0)
            + coalesce(whole_refunds, 0) * coalesce(paid_minor, asked_minor, 0)::numeric,
        told_method, coalesce(told_product_id, told_product_name), told_product_name,
        told_customer_id
    from joined where not ours)"""


def _daily(table: str, column: str) -> str:
    return f"""
insert into {table} as r (client_id, mode, currency, bucket_at, {column}, successful, revenue_minor)
select client_id, mode, currency, date_trunc('day', occurred_at, 'UTC'), {column},
       sum(sign), sum(sign * amount_minor::numeric)
from moves where outcome = 'succeeded' and {column} is not null group by 1, 2, 3, 4, 5
having sum(sign) <> 0 or sum(sign * amount_minor::numeric) <> 0 order by 1, 2, 3, 4, 5
on conflict (client_id, mode, currency, bucket_at, {column}) do update
    set successful = r.successful + excluded.successful,
        revenue_minor = r.revenue_minor + excluded.revenue_minor"""


_REFRESH = f"""
with {_FRESH},
changed as (
    update sales s set {", ".join(f"{name} = f.{name}" for name in _NAMES)} from fresh f
    where (s.client_id, s.mode, s.name) = (f.client_id, f.mode, f.name)
      and row({", ".join(f"s.{name}" for name in _NAMES)})
          is distinct from row({", ".join(f"f.{name}" for name in _NAMES)})
    returning s.client_id, s.mode, {", ".join(f"s.{name}, f.was_{name}" for name in _NAMES)}),
moves as materialized (
    select -1 as sign, client_id, mode, {", ".join(f"was_{n} as {n}" for n in _NAMES)}
    from changed where was_outcome is not null
    union all
    select 1, client_id, mode, {_VALUES} from changed where outcome is not null),
hourly as (
    insert into sale_rollups_hourly as r (client_id, mode, currency, bucket_at, transactions,
        successful, failed, revenue_minor, fees_minor, refunded_minor)
    select client_id, mode, currency, date_trunc('hour', occurred_at, 'UTC'), sum(sign),
        coalesce(sum(sign) filter (where outcome = 'succeeded'), 0),
        coalesce(sum(sign) filter (where outcome = 'failed'), 0),
        coalesce(sum(sign * amount_minor::numeric) filter (where outcome = 'succeeded'), 0),
        sum(sign * fee_minor::numeric), sum(sign * refunded_minor)
    from moves group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (client_id, mode, currency, bucket_at) do update set
        transactions = r.transactions + excluded.transactions,
        successful = r.successful + excluded.successful, failed = r.failed + excluded.failed,
        revenue_minor = r.revenue_minor + excluded.revenue_minor,
        fees_minor = r.fees_minor + excluded.fees_minor,
        refunded_minor = r.refunded_minor + excluded.refunded_minor),
methods as ({_daily("sale_methods_daily", "method")}),
products as ({_daily("sale_products_daily", "product_id")}),
product_names as (
    insert into sale_products as p (client_id, mode, product_id, product_name, told_at)
    select distinct on (client_id, mode, product_id) client_id, mode, product_id, product_name,
        occurred_at
    from changed where product_id is not null and product_name is not null
    order by client_id, mode, product_id, occurred_at desc, product_name
    on conflict (client_id, mode, product_id) do update
        set product_name = excluded.product_name, told_at = excluded.told_at
        where (p.told_at, p.product_name) < (excluded.told_at, excluded.product_name))
select client_id, mode, currency, customer_id, sum(sign)::bigint as successful,
       sum(sign * amount_minor::numeric) as spent_minor
from moves where outcome = 'succeeded' and customer_id is not null
group by 1, 2, 3, 4 order by 1, 2, 3, 4"""

_LOCK_CUSTOMERS = """
insert into sale_customers (client_id, mode, currency, customer_id)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as u(a, b, c, d)
order by 1, 2, 3, 4
on conflict (client_id, mode, currency, customer_id) do update set successful = 0 where false"""

# First and last come from the sales themselves, so a sale that is taken back leaves no trace.
_COUNT_CUSTOMERS = """
update sale_customers c set successful = c.successful + u.successful,
    spent_minor = c.spent_minor + u.spent_minor,
    first_at = (select occurred_at from sales s where outcome = 'succeeded'
        and (s.client_id, s.mode, s.currency, s.customer_id)
          = (c.client_id, c.mode, c.currency, c.customer_id) order by occurred_at limit 1),
    last_at = (select occurred_at from sales s where outcome = 'succeeded'
        and (s.client_id, s.mode, s.currency, s.customer_id)
          = (c.client_id, c.mode, c.currency, c.customer_id) order by occurred_at desc limit 1)
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::numeric[])
    as u(client_id, mode, currency, customer_id, successful, spent_minor)
where (c.client_id, c.mode, c.currency, c.customer_id)
    = (u.client_id, u.mode, u.currency, u.customer_id)"""


async def share_names(tx: Tx) -> None:
    """Keep those out, until the end, who tell of a sale by the id of a payment."""
    await tx.run("select pg_advisory_xact_lock_shared($1)", _BY_ID_LOCK)


async def own_names(tx: Tx) -> None:
    """Wait for whoever tells of payments, and keep them out until the end."""
    await tx.run("select pg_advisory_xact_lock($1)", _BY_ID_LOCK)


async def insert_events(tx: Tx, events: Sequence[tuple[SaleEventV1, str]]) -> list[Place]:
    """Store events, each with the name of its sale; return the sales of those that are new."""
    rows = [
        (
            e.client_id,
            e.mode,
            storable(e.dedupe_key),
            e.sale_event_id,
            name,
            storable(e.transaction_id),
            e.kind,
            e.currency,
            e.amount_minor,
            e.fee_minor,
            storable(e.customer_id),
            storable(e.payment_method),
            storable(e.product_id),
            storable(e.product_name),
            e.occurred_at,
            e.received_at,
        )
        for e, name in events
    ]
    async with storing():
        found = await tx.fetch(
            _INSERT_EVENTS, *(list(column) for column in zip(*rows, strict=True))
        )
    return [Place(row["client_id"], row["mode"], row["name"]) for row in found]


async def absorb(tx: Tx, payments: Sequence[Place]) -> list[Place]:
    """Give events that name payments by their id to the payments' sales; return the old sales."""
    found = await tx.fetch(
        _ABSORB,
        [p.client_id for p in payments],
        [p.mode for p in payments],
        [p.payment_id for p in payments],
        [p.name for p in payments],
    )
    keys = sorted({(row["client_id"], row["mode"], row["name"]) for row in found})
    return [Place(*key) for key in keys]


async def refresh(tx: Tx, places: Sequence[Place]) -> None:
    """Work out what these sales count now, and move the rollups by the difference."""
    by_key: dict[Key, Place] = {}
    for place in places:
        if place.payment_id is not None or place.key not in by_key:
            by_key[place.key] = place
    wanted = [by_key[key] for key in sorted(by_key)]
    keys = [[p.client_id for p in wanted], [p.mode for p in wanted], [p.name for p in wanted]]
    async with storing():
        await tx.run(
            _LOCK,
            *keys,
            [p.payment_id for p in wanted],
            [None if p.payment_id is None else month_of(p.payment_id) for p in wanted],
        )
        customers = await tx.fetch(_REFRESH, *keys)
        if customers:
            await _count_customers(tx, customers)


async def _count_customers(tx: Tx, rows: Sequence[asyncpg.Record]) -> None:
    columns = ("client_id", "mode", "currency", "customer_id", "successful", "spent_minor")
    arrays = [[row[column] for row in rows] for column in columns]
    await tx.run(_LOCK_CUSTOMERS, *arrays[:4])
    await tx.run(_COUNT_CUSTOMERS, *arrays)
