"""HTTP in: a merchant's dashboard, for the gateway that asks on the merchant's behalf.

Shapes are those of the merchant events API. Money is an exact JSON number in units of `currency`;
the tenant is the token's, whatever the query says.
"""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from mospay_reporter.domain.periods import FIRST, LAST, QueryError
from mospay_reporter.domain.sales import average, decimals, exact, growth, ratio
from mospay_reporter.routes.parts import Currency, Zone, refused, seen_by
from mospay_reporter.storage import dashboard as figures
from mospay_reporter.usecases import dashboard
from mospay_reporter.usecases.dashboard import Customers, Overview, Point, View

SCOPE = "dashboard:read"


def _in_calendar(value: dt.date) -> dt.date:
    if not FIRST.date() < value < LAST.date():
        raise ValueError("must lie between the years 2000 and 2200")
    return value


Amount = Annotated[Decimal, WithJsonSchema({"type": "number", "description": "exact"})]
Growth = Annotated[str | None, Field(description="per cent; null where there was nothing before")]
Day = Annotated[dt.date, AfterValidator(_in_calendar)]


class WhoseQuery(BaseModel):
    """In which currency, and where days begin; both are the client's where nothing is asked for."""

    currency: Currency | None = None
    time_zone: Zone | None = None


class AnalyticsQuery(WhoseQuery):
    """From the first to the last day, both included; 400 days, or 31 days by the hour."""

    start_date: Day
    end_date: Day
    granularity: Literal["daily", "hourly"] = "daily"


class DaysQuery(WhoseQuery):
    """The last UTC days, today included."""

    days: int = Field(30, ge=1, le=400)


class ProductsQuery(DaysQuery):
    """As above, and how many at most."""

    limit: int = Field(10, ge=1, le=200)


class CustomersQuery(WhoseQuery):
    """How many of the top spenders at most."""

    limit: int = Field(50, ge=1, le=200)


class Today(BaseModel):
    """Since local midnight; growth compares with the same hours of the day before."""

    transactions: int
    successful_transactions: int
    revenue: Amount
    fees: Amount
    net_revenue: Amount
    avg_transaction: Amount
    transaction_growth: Growth
    revenue_growth: Growth


class Month(BaseModel):
    """Since the local month began."""

    transactions: int
    revenue: Amount
    customers: int


class OverviewBody(BaseModel):
    """Today and this month. Net revenue is revenue without fees and refunds."""

    currency: str
    today: Today
    month: Month


class DayRow(BaseModel):
    """A local day (`YYYY-MM-DD`) or an hour (ISO 8601); `customers` are those who bought."""

    date: str
    transactions: int
    successful: int
    failed: int
    revenue: Amount
    net_revenue: Amount
    customers: int
    new_customers: int


class AnalyticsBody(BaseModel):
    """Every day or hour of the period, those with nothing too."""

    currency: str
    granularity: Literal["daily", "hourly"]
    data: list[DayRow]


class MethodRow(BaseModel):
    """Successful sales by one payment method, and their revenue."""

    method: str
    count: int
    amount: Amount


class MethodsBody(BaseModel):
    """The greatest revenue first."""

    currency: str
    period_days: int
    payment_methods: list[MethodRow]


class ProductRow(BaseModel):
    """Successful sales of one product, and their revenue."""

    product_id: str
    product_name: str | None
    transactions: int
    amount: Amount


class ProductsBody(BaseModel):
    """The greatest revenue first."""

    currency: str
    period_days: int
    products: list[ProductRow]


class CustomersSummary(BaseModel):
    """All customers who ever bought; averages per customer, with two decimals."""

    total_customers: int
    avg_transactions: str
    avg_spend: str


class CustomerRow(BaseModel):
    """One customer's successful sales."""

    customer_id: str
    transactions: int
    total_spent: Amount
    first_transaction: dt.datetime
    last_transaction: dt.datetime


class CustomersBody(BaseModel):
    """All customers in figures, and who spent most."""

    currency: str
    summary: CustomersSummary
    top_customers: list[CustomerRow]


def _answer(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _money(amount_minor: int, currency: str) -> orjson.Fragment:
    """A number with every digit: a float would round what is beyond 15 of them."""
    return orjson.Fragment(exact(amount_minor, currency).encode())


def _overview(seen: View, read: Overview) -> dict[str, Any]:
    currency, today = seen.merchant.currency, read.today
    mean = average(today.revenue_minor, today.successful, currency)
    return {
        "currency": currency,
        "today": {
            "transactions": today.transactions,
            "successful_transactions": today.successful,
            "revenue": _money(today.revenue_minor, currency),
            "fees": _money(today.fees_minor, currency),
            "net_revenue": _money(today.net_minor, currency),
            "avg_transaction": orjson.Fragment(mean.encode()),
            "transaction_growth": growth(today.transactions, read.yesterday.transactions),
            "revenue_growth": growth(today.revenue_minor, read.yesterday.revenue_minor),
        },
        "month": {
            "transactions": read.month.transactions,
            "revenue": _money(read.month.revenue_minor, currency),
            "customers": read.month_customers,
        },
    }


def _point(seen: View, point: Point, granularity: str) -> dict[str, Any]:
    currency, sums = seen.merchant.currency, point.sums
    local = point.bucket.at.astimezone(seen.zone)
    hourly = granularity == "hourly"
    return {
        "date": local.isoformat() if hourly else local.date().isoformat(),
        **{name: getattr(sums, name) for name in ("transactions", "successful", "failed")},
        "revenue": _money(sums.revenue_minor, currency),
        "net_revenue": _money(sums.net_minor, currency),
        "customers": point.customers,
        "new_customers": point.new_customers,
    }


def _customers(seen: View, read: Customers) -> dict[str, Any]:
    currency = seen.merchant.currency
    return {
        "currency": currency,
        "summary": {
            "total_customers": read.count,
            "avg_transactions": ratio(Decimal(read.successful), read.count),
            "avg_spend": ratio(read.spent_minor.scaleb(-decimals(currency)), read.count),
        },
        "top_customers": [
            {
                "customer_id": row["customer_id"],
                "transactions": row["successful"],
                "total_spent": _money(int(row["spent_minor"]), currency),
                "first_transaction": row["first_at"],
                "last_transaction": row["last_at"],
            }
            for row in read.top
        ],
    }


def _tenant(caller: Caller) -> tuple[str, str]:
    """The merchant a token speaks for; an operator has no dashboard of its own."""
    if caller.client_id is None or caller.mode not in ("live", "test"):
        raise Problem(403, "missing_tenant", "The token names no client and mode")
    return caller.client_id, caller.mode


def router(service: Service) -> APIRouter:
    """Return the routes of the dashboard."""
    routes = APIRouter(prefix="/internal/v1/dashboard", tags=["dashboard"])
    database, needs = service.database, service.verifier.needs

    def _now() -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    async def view(tx: Any, caller: Caller, query: WhoseQuery) -> View:
        client_id, mode = _tenant(caller)
        return await dashboard.view(
            tx, client_id, mode, _now(), currency=query.currency, time_zone=query.time_zone
        )

    @routes.get("/overview", response_model=OverviewBody)
    async def read_overview(
        query: Annotated[WhoseQuery, Query()], caller: Caller = Depends(needs(SCOPE))
    ) -> Response:
        """Today and this month of the token's client."""
        async with seen_by(database, caller) as tx:
            seen = await view(tx, caller, query)
            return _answer(_overview(seen, await dashboard.overview(tx, seen, _now())))

    @routes.get("/analytics", response_model=AnalyticsBody)
    async def read_analytics(
        query: Annotated[AnalyticsQuery, Query()], caller: Caller = Depends(needs(SCOPE))
    ) -> Response:
        """Every day or hour of a period."""
        grain = "hour" if query.granularity == "hourly" else "day"
        try:
            async with seen_by(database, caller) as tx:
                seen = await view(tx, caller, query)
                points = await dashboard.analytics(
                    tx, seen, query.start_date, query.end_date, grain
                )
        except QueryError as error:
            field = {"to": "end_date", "from": "start_date"}[error.field]
            raise refused(QueryError(field, error.code, str(error))) from error
        data = [_point(seen, point, query.granularity) for point in points]
        currency = seen.merchant.currency
        return _answer({"currency": currency, "granularity": query.granularity, "data": data})

    @routes.get("/payment-methods", response_model=MethodsBody)
    async def read_methods(
        query: Annotated[DaysQuery, Query()], caller: Caller = Depends(needs(SCOPE))
    ) -> Response:
        """What was paid how."""
        async with seen_by(database, caller) as tx:
            seen = await view(tx, caller, query)
            since = dashboard.first_day(_now(), query.days)
            found = await figures.methods(tx, seen.merchant, since)
        currency = seen.merchant.currency
        rows = [
            {"method": method, "count": count, "amount": _money(amount, currency)}
            for method, count, amount in found
        ]
        return _answer({"currency": currency, "period_days": query.days, "payment_methods": rows})

    @routes.get("/top-products", response_model=ProductsBody)
    async def read_products(
        query: Annotated[ProductsQuery, Query()], caller: Caller = Depends(needs(SCOPE))
    ) -> Response:
        """What sold best."""
        async with seen_by(database, caller) as tx:
            seen = await view(tx, caller, query)
            since = dashboard.first_day(_now(), query.days)
            found = await figures.products(tx, seen.merchant, since, query.limit)
        currency = seen.merchant.currency
        rows = [
            {
                "product_id": product_id,
                "product_name": name,
                "transactions": count,
                "amount": _money(amount, currency),
            }
            for product_id, name, count, amount in found
        ]
        return _answer({"currency": currency, "period_days": query.days, "products": rows})

    @routes.get("/customers", response_model=CustomersBody)
    async def read_customers(
        query: Annotated[CustomersQuery, Query()], caller: Caller = Depends(needs(SCOPE))
    ) -> Response:
        """Who bought, and who bought most."""
        async with seen_by(database, caller) as tx:
            seen = await view(tx, caller, query)
            return _answer(_customers(seen, await dashboard.customers(tx, seen, query.limit)))

    return routes
