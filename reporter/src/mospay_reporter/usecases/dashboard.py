"""The merchant's dashboard: today and this month, analytics, methods, products, customers."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from mospay_shared.chassis.database import Tx

from mospay_reporter.domain.periods import Bucket, buckets, local_midnight, pieces
from mospay_reporter.storage import dashboard
from mospay_reporter.storage.dashboard import Merchant, Sums

DAY = dt.timedelta(days=1)
BUSIEST_DAYS = 31  # how far back the currency is looked for that a client sells most in
NO_CURRENCY = "XXX"  # ISO 4217's code for none: a client nobody knows and that never sold anything


@dataclass(frozen=True, slots=True)
class View:
    """Whose dashboard, and where its days begin."""

    merchant: Merchant
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Overview:
    """Today so far, the same hours of yesterday, and this month so far."""

    today: Sums
    yesterday: Sums
    month: Sums
    month_customers: int


@dataclass(frozen=True, slots=True)
class Point:
    """One day or hour."""

    bucket: Bucket
    sums: Sums
    customers: int
    new_customers: int


@dataclass(frozen=True, slots=True)
class Customers:
    """All customers in three figures, and those who spent most."""

    count: int
    successful: int
    spent_minor: Decimal
    top: list[dict[str, Any]]


async def view(
    tx: Tx,
    client_id: str,
    mode: str,
    now: dt.datetime,
    *,
    currency: str | None,
    time_zone: str | None,
) -> View:
    """Return whose figures are shown: as asked for, else as the directory says of the client.

    Where the directory says nothing, the currency sold in most, and UTC.
    """
    home = await dashboard.home(tx, client_id)
    chosen = currency or home.currency
    if chosen is None:
        since = now - BUSIEST_DAYS * DAY
        chosen = await dashboard.busiest(tx, client_id, mode, since) or NO_CURRENCY
    return View(Merchant(client_id, mode, chosen), ZoneInfo(time_zone or home.time_zone or "UTC"))


async def overview(tx: Tx, seen: View, now: dt.datetime) -> Overview:
    """Read today, the same hours of the day before, and the month, all exactly."""
    midnight = local_midnight(now, seen.zone)
    before = local_midnight(midnight - dt.timedelta(hours=12), seen.zone)
    first = local_midnight(midnight.astimezone(seen.zone).replace(day=1, hour=12), seen.zone)
    spans = [(midnight, now), (before, before + (now - midnight)), (first, now)]
    found = await dashboard.figures(tx, seen.merchant, pieces(spans, days=False))
    customers = await dashboard.customers(tx, seen.merchant, [spans[2]])
    today, yesterday, month = (found.get(span, Sums()) for span in range(3))
    return Overview(today, yesterday, month, customers.get(0, 0))


async def analytics(
    tx: Tx, seen: View, first: dt.date, last: dt.date, granularity: str
) -> list[Point]:
    """Read every local day, or every UTC hour, from the first to the last day; raises QueryError.

    Days with nothing are there too.
    """
    since = dt.datetime(first.year, first.month, first.day, tzinfo=seen.zone)
    after = last + DAY
    until = dt.datetime(after.year, after.month, after.day, tzinfo=seen.zone)
    found = buckets(since.astimezone(dt.UTC), until.astimezone(dt.UTC), granularity, seen.zone)
    spans = [(bucket.since, bucket.until) for bucket in found]
    sums = await dashboard.figures(tx, seen.merchant, pieces(spans, days=False))
    customers = await dashboard.customers(tx, seen.merchant, spans)
    new = await dashboard.new_customers(tx, seen.merchant, spans)
    return [
        Point(bucket, sums.get(n, Sums()), customers.get(n, 0), new.get(n, 0))
        for n, bucket in enumerate(found)
    ]


def first_day(now: dt.datetime, days: int) -> dt.datetime:
    """Return the UTC midnight at which the last `days` UTC days begin, today included."""
    midnight = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - (days - 1) * DAY


async def customers(tx: Tx, seen: View, limit: int) -> Customers:
    """Read all customers' figures and those who spent most."""
    count, successful, spent = await dashboard.all_customers(tx, seen.merchant)
    return Customers(count, successful, spent, await dashboard.spenders(tx, seen.merchant, limit))
