"""What the tests compare: stored facts, rollups, and the group-by they must equal."""

from typing import Any

from mospay_reporter.domain.facts import STATUSES
from mospay_shared.chassis.service import Service

SUMS = ("payments", *STATUSES, "volume_minor", "fees_minor", "net_minor", "refunded_minor")
_KEY = "client_id, mode, currency, service_id, service"
_ALL = f"case when $1 = '' then '' else client_id end as {_KEY}"  # all clients as one: ''
_TRUTH = f"""
select {_ALL}, date_trunc($2, accepted_at, 'UTC') as bucket_at, count(*) as payments,
    {", ".join(f"count(*) filter (where status = '{s}') as {s}" for s in STATUSES)},
    coalesce(sum(amount_minor) filter (where status = 'succeeded'), 0) as volume_minor,
    coalesce(sum(fee_minor), 0) as fees_minor, coalesce(sum(net_minor), 0) as net_minor,
    coalesce(sum(refunded_minor), 0) as refunded_minor
from payment_facts where $1 in (client_id, '') and status is not null
group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6"""
_FACT = """
select to_jsonb(f) - 'recorded_at' as fact from payment_facts f
where client_id = $1 order by payment_id"""


async def facts(service: Service, client_id: str) -> list[dict[str, Any]]:
    """Every column of a client's facts, but for when they were written."""
    async with service.database.transaction() as tx:
        return [row["fact"] for row in await tx.fetch(_FACT, client_id)]


async def fact(service: Service, client_id: str) -> dict[str, Any]:
    """The one fact of a client."""
    (only,) = await facts(service, client_id)
    return only


async def rollups(service: Service, client_id: str, grain: str) -> list[dict[str, Any]]:
    """A client's rollups of a grain that say anything."""
    table = {"hour": "payment_rollups_hourly", "day": "payment_rollups_daily"}[grain]
    names = f"{_KEY}, bucket_at, {', '.join(SUMS)}"
    async with service.database.transaction() as tx:
        rows = await tx.fetch(
            f"select {names} from {table} where client_id = $1 order by {_KEY}, bucket_at",
            client_id,
        )
    return [dict(row) for row in rows if any(row[name] for name in SUMS)]


async def truth(service: Service, client_id: str, grain: str) -> list[dict[str, Any]]:
    """What the rollups of a grain must say: the group-by of the facts."""
    async with service.database.transaction() as tx:
        return [dict(row) for row in await tx.fetch(_TRUTH, client_id, grain)]


async def assert_rollups_are_true(service: Service, client_id: str) -> None:
    """Hourly and daily rollups equal the group-by of the facts."""
    for grain in ("hour", "day"):
        assert await rollups(service, client_id, grain) == await truth(service, client_id, grain)


async def inbox(service: Service, event_id: str) -> Any:
    """An event's inbox row."""
    async with service.database.transaction() as tx:
        return await tx.row("select * from inbox where event_id = $1", event_id)


SALE_SUMS = (
    "transactions",
    "successful",
    "failed",
    "revenue_minor",
    "fees_minor",
    "refunded_minor",
)
_SALES = """
select to_jsonb(s) as sale from sales s
where client_id = $1 and outcome is not null order by name"""
_SALE_ROLLUPS = f"""
select mode, currency, bucket_at, {", ".join(SALE_SUMS)} from sale_rollups_hourly
where client_id = $1 and transactions <> 0 order by 1, 2, 3"""
_SALE_TRUTH = """
select mode, currency, date_trunc('hour', occurred_at, 'UTC') as bucket_at,
    count(*) as transactions, count(*) filter (where outcome = 'succeeded') as successful,
    count(*) filter (where outcome = 'failed') as failed,
    coalesce(sum(amount_minor) filter (where outcome = 'succeeded'), 0) as revenue_minor,
    sum(fee_minor) as fees_minor, sum(refunded_minor) as refunded_minor
from sales where client_id = $1 and outcome is not null group by 1, 2, 3 order by 1, 2, 3"""
_BY = """
select mode, currency, bucket_at, {0} as of, successful, revenue_minor from {1}
where client_id = $1 and successful <> 0 order by 1, 2, 3, 4"""
_BY_TRUTH = """
select mode, currency, date_trunc('day', occurred_at, 'UTC') as bucket_at, {0} as of,
    count(*) as successful, sum(amount_minor) as revenue_minor
from sales where client_id = $1 and outcome = 'succeeded' and {0} is not null
group by 1, 2, 3, 4 order by 1, 2, 3, 4"""
_CUSTOMERS = """
select mode, currency, customer_id, successful, spent_minor, first_at, last_at from sale_customers
where client_id = $1 and successful <> 0 order by 1, 2, 3"""
_CUSTOMERS_TRUTH = """
select mode, currency, customer_id, count(*) as successful, sum(amount_minor) as spent_minor,
    min(occurred_at) as first_at, max(occurred_at) as last_at
from sales where client_id = $1 and outcome = 'succeeded' and customer_id is not null
group by 1, 2, 3 order by 1, 2, 3"""


async def sales(service: Service, client_id: str) -> list[dict[str, Any]]:
    """What is counted of each sale of a client."""
    async with service.database.transaction() as tx:
        return [row["sale"] for row in await tx.fetch(_SALES, client_id)]


async def assert_sales_are_true(service: Service, client_id: str) -> None:
    """Every rollup of sales equals the group-by of the sales, and each payment is one sale."""
    pairs = [(_SALE_ROLLUPS, _SALE_TRUTH), (_CUSTOMERS, _CUSTOMERS_TRUTH)]
    for table, column in (("sale_methods_daily", "method"), ("sale_products_daily", "product_id")):
        pairs.append((_BY.format(column, table), _BY_TRUTH.format(column)))
    async with service.database.transaction() as tx:
        for counted, truth_of in pairs:
            told = [dict(row) for row in await tx.fetch(counted, client_id)]
            assert told == [dict(row) for row in await tx.fetch(truth_of, client_id)], counted
        lost = await tx.fetch(
            """select payment_id from payment_facts f where client_id = $1 and status is not null
               and not exists (select 1 from sales s where s.client_id = f.client_id
                   and s.payment_id = f.payment_id and s.amount_minor = f.amount_minor
                   and s.refunded_minor = f.refunded_minor)""",
            client_id,
        )
    assert [row[0] for row in lost] == []
