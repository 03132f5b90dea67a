"""Figures of one merchant's dashboard, of one currency: rollups, and indexes over its sales."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mospay_shared.chassis.database import Tx

from mospay_reporter.domain.periods import Piece, Span


@dataclass(frozen=True, slots=True)
class Merchant:
    """Whose figures, and in which currency."""

    client_id: str
    mode: str
    currency: str


@dataclass(frozen=True, slots=True)
class Home:
    """What the directory says of a client; None where it has not been heard of."""

    currency: str | None
    time_zone: str | None


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts and sums of one span, in minor units."""

    transactions: int = 0
    successful: int = 0
    failed: int = 0
    revenue_minor: int = 0
    fees_minor: int = 0
    refunded_minor: int = 0

    @property
    def net_minor(self) -> int:
        """Revenue without fees and refunds."""
        return self.revenue_minor - self.fees_minor - self.refunded_minor


_HOME = """
select body ->> 'currency' as currency, body ->> 'time_zone' as time_zone from directory_entity
where kind = 'client' and entity_id = $1 and not deleted"""
_BUSIEST = """
select currency from sale_rollups_hourly
where client_id = $1 and mode = $2 and transactions > 0
  and currency = any(array(select distinct currency from sale_rollups_hourly
      where client_id = $1 and mode = $2))
group by currency order by sum(transactions) filter (where bucket_at >= $3) desc nulls last,
    currency limit 1"""
_NAMES = (
    "transactions",
    "successful",
    "failed",
    "revenue_minor",
    "fees_minor",
    "refunded_minor",
)
_SUMS = ", ".join(f"sum({name}) as {name}" for name in _NAMES)
_OF = "r.client_id = $5 and r.mode = $6 and r.currency = $7"
_FIGURES = f"""
with spans as materialized (
    select * from unnest($1::int[], $2::text[], $3::timestamptz[], $4::timestamptz[])
        as u(span, grain, since, until)),
found as (
    select s.span, {_SUMS} from spans s join sale_rollups_hourly r
        on {_OF} and r.bucket_at >= s.since and r.bucket_at < s.until
    where s.grain = 'hour' group by 1
    union all
    select span, {_SUMS} from (
        select s.span, 1 as transactions, (r.outcome = 'succeeded')::int as successful,
            (r.outcome = 'failed')::int as failed,
            case when r.outcome = 'succeeded' then r.amount_minor else 0 end as revenue_minor,
            r.fee_minor as fees_minor, r.refunded_minor
        from spans s join sales r
            on {_OF} and r.occurred_at >= s.since and r.occurred_at < s.until
            and r.outcome is not null
        where s.grain = 'row') as rows group by 1)
select span, {_SUMS} from found group by 1"""
_SPANS = "unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) as s(span, since, until)"
_CUSTOMERS = f"""
select s.span, count(distinct r.customer_id) as count from {_SPANS} join sales r
    on r.client_id = $4 and r.mode = $5 and r.currency = $6 and r.outcome = 'succeeded'
    and r.customer_id is not null and r.occurred_at >= s.since and r.occurred_at < s.until
group by 1"""
_NEW_CUSTOMERS = f"""
select s.span, count(*) as count from {_SPANS} join sale_customers r
    on r.client_id = $4 and r.mode = $5 and r.currency = $6 and r.successful > 0
    and r.first_at >= s.since and r.first_at < s.until
group by 1"""
_METHODS = """
select method, sum(successful)::bigint as count, sum(revenue_minor) as revenue_minor
from sale_methods_daily
where client_id = $1 and mode = $2 and currency = $3 and bucket_at >= $4
group by method having sum(successful) > 0 order by 3 desc, 1"""
_PRODUCTS = """
with best as (
    select product_id, sum(successful)::bigint as count, sum(revenue_minor) as revenue_minor
    from sale_products_daily
    where client_id = $1 and mode = $2 and currency = $3 and bucket_at >= $4
    group by product_id having sum(successful) > 0 order by 3 desc, 1 limit $5)
select b.*, p.product_name from best b left join sale_products p
    on p.client_id = $1 and p.mode = $2 and p.product_id = b.product_id
order by b.revenue_minor desc, b.product_id"""
_SPENDERS = """
select customer_id, successful, spent_minor, first_at, last_at from sale_customers
where client_id = $1 and mode = $2 and currency = $3 and successful > 0
order by spent_minor desc, customer_id limit $4"""
_ALL_CUSTOMERS = """
select count(*) as customers, coalesce(sum(successful), 0)::bigint as successful,
    coalesce(sum(spent_minor), 0) as spent_minor
from sale_customers where client_id = $1 and mode = $2 and currency = $3 and successful > 0"""


async def home(tx: Tx, client_id: str) -> Home:
    """Return a client's currency and time zone as the directory has them."""
    row = await tx.row(_HOME, client_id)
    return Home(None, None) if row is None else Home(row["currency"], row["time_zone"])


async def busiest(tx: Tx, client_id: str, mode: str, since: dt.datetime) -> str | None:
    """Return the currency with the most sales since then, or any there is, or None."""
    found: str | None = await tx.value(_BUSIEST, client_id, mode, since)
    return found


async def figures(tx: Tx, merchant: Merchant, pieces: Sequence[Piece]) -> dict[int, Sums]:
    """Return the sums of every span that has any sale; pieces of hours and rows."""
    rows = await tx.fetch(
        _FIGURES,
        [p.span for p in pieces],
        [p.grain for p in pieces],
        [p.since for p in pieces],
        [p.until for p in pieces],
        merchant.client_id,
        merchant.mode,
        merchant.currency,
    )
    return {row["span"]: Sums(*(int(row[name]) for name in _NAMES)) for row in rows}


async def customers(tx: Tx, merchant: Merchant, spans: Sequence[Span]) -> dict[int, int]:
    """Return how many different customers bought in each span that had any."""
    return await _by_span(tx, _CUSTOMERS, merchant, spans)


async def new_customers(tx: Tx, merchant: Merchant, spans: Sequence[Span]) -> dict[int, int]:
    """Return how many customers bought for the first time in each span that had any."""
    return await _by_span(tx, _NEW_CUSTOMERS, merchant, spans)


async def _by_span(
    tx: Tx, statement: str, merchant: Merchant, spans: Sequence[Span]
) -> dict[int, int]:
    rows = await tx.fetch(
        statement,
        list(range(len(spans))),
        [since for since, _ in spans],
        [until for _, until in spans],
        merchant.client_id,
        merchant.mode,
        merchant.currency,
    )
    return {row["span"]: row["count"] for row in rows}


async def methods(tx: Tx, merchant: Merchant, since: dt.datetime) -> list[tuple[str, int, int]]:
    """Return method, successful sales and revenue since a UTC midnight, the greatest first."""
    rows = await tx.fetch(_METHODS, *_whose(merchant), since)
    return [(row["method"], row["count"], int(row["revenue_minor"])) for row in rows]


async def products(
    tx: Tx, merchant: Merchant, since: dt.datetime, limit: int
) -> list[tuple[str, str | None, int, int]]:
    """Return product, its name, successful sales and revenue since a UTC midnight."""
    rows = await tx.fetch(_PRODUCTS, *_whose(merchant), since, limit)
    return [
        (row["product_id"], row["product_name"], row["count"], int(row["revenue_minor"]))
        for row in rows
    ]


async def spenders(tx: Tx, merchant: Merchant, limit: int) -> list[dict[str, Any]]:
    """Return those who spent most, with their first and last sale."""
    return [dict(row) for row in await tx.fetch(_SPENDERS, *_whose(merchant), limit)]


async def all_customers(tx: Tx, merchant: Merchant) -> tuple[int, int, Decimal]:
    """Return how many customers there are, their successful sales, and what they spent (minor)."""
    row = await tx.row(_ALL_CUSTOMERS, *_whose(merchant))
    assert row is not None, "an aggregate has a row"
    return row["customers"], row["successful"], row["spent_minor"]


def _whose(merchant: Merchant) -> tuple[str, str, str]:
    return merchant.client_id, merchant.mode, merchant.currency
