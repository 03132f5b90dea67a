"""`/api/dashboard/…`: a client's figures, authenticated here and answered by reporter."""

import datetime as dt
from enum import Enum
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem
from pydantic import BaseModel, ConfigDict, Field

from mospay_gateway.domain.errors import Fault, InvalidRequest
from mospay_gateway.domain.times import Day
from mospay_gateway.routes.parts import Parts

TAGS: list[str | Enum] = ["dashboard"]
# What reporter's calendar holds, with room for a range and a time zone.
FIRST_DAY, LAST_DAY = dt.date(2000, 1, 2), dt.date(2198, 12, 31)
RANGE_DAYS = {"daily": 366, "hourly": 31}  # of one analytics request


class DashboardQuery(BaseModel):
    """What every dashboard endpoint takes: figures are of one currency alone."""

    model_config = ConfigDict(extra="forbid")
    currency: str | None = Field(
        None, pattern=r"^[A-Z]{3}$", description="ISO 4217; default: your own currency"
    )


class AnalyticsQuery(DashboardQuery):
    """Whole days of the client's own time zone, both ends included."""

    start_date: Day
    end_date: Day
    granularity: Literal["daily", "hourly"] = "daily"


class DaysQuery(DashboardQuery):
    """How far to look back."""

    days: int = Field(30, ge=1, le=366)


class ProductsQuery(DaysQuery):
    """How far to look back, and how many to show."""

    limit: int = Field(10, ge=1, le=100)


class CustomersQuery(DashboardQuery):
    """How many to show."""

    limit: int = Field(50, ge=1, le=200)


# On the wire an exact JSON decimal of the currency, passed on byte for byte.
Money = Annotated[float, Field(examples=[48500.00])]
Growth = Annotated[str | None, Field(description="Percent; null where there was nothing before")]


class DashboardToday(BaseModel):
    """Today so far; growth compares with the same hours of yesterday."""

    transactions: int
    successful_transactions: int
    revenue: Money
    fees: Money
    net_revenue: Money
    avg_transaction: Money
    transaction_growth: Growth
    revenue_growth: Growth


class DashboardMonth(BaseModel):
    """This month so far."""

    transactions: int
    revenue: Money
    customers: int


class Overview(BaseModel):
    """High-level figures."""

    currency: str
    today: DashboardToday
    month: DashboardMonth


class AnalyticsPoint(BaseModel):
    """One day or hour."""

    date: str
    transactions: int
    successful: int
    failed: int
    revenue: Money
    net_revenue: Money
    customers: int
    new_customers: int


class Analytics(BaseModel):
    """Figures over time."""

    currency: str
    granularity: str
    data: list[AnalyticsPoint]


class MethodFigures(BaseModel):
    """One way to pay."""

    method: str
    count: int
    amount: Money


class PaymentMethods(BaseModel):
    """How customers paid."""

    currency: str
    period_days: int
    payment_methods: list[MethodFigures]


class ProductFigures(BaseModel):
    """One product."""

    product_id: str
    product_name: str | None
    transactions: int
    amount: Money


class TopProducts(BaseModel):
    """What sold best."""

    currency: str
    period_days: int
    products: list[ProductFigures]


class CustomerFigures(BaseModel):
    """One customer."""

    customer_id: str
    transactions: int
    total_spent: Money
    first_transaction: dt.datetime
    last_transaction: dt.datetime


class CustomerSummary(BaseModel):
    """All customers; averages are decimal strings."""

    total_customers: int
    avg_transactions: str
    avg_spend: str


class Customers(BaseModel):
    """Who bought most."""

    currency: str
    summary: CustomerSummary
    top_customers: list[CustomerFigures]


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    async def ask(request: Request, name: str, query: DashboardQuery) -> Response:
        caller = parts.identify(request)
        wanted = query.model_dump(mode="json", exclude_none=True)
        wanted.setdefault("currency", caller.client.currency)
        found = await parts.reporter.dashboard(
            name, wanted, caller.client_id, caller.mode, caller.client.time_zone
        )
        if found is None:
            title = "Figures are not available right now; try again shortly"
            raise Problem(503, "reporter_unavailable", title, headers={"Retry-After": "5"})
        return Response(found, headers={"Cache-Control": "private, no-store"},
                        media_type="application/json")  # fmt: skip

    @routes.get("/api/dashboard/overview", tags=TAGS, response_model=Overview)
    async def overview(query: Annotated[DashboardQuery, Query()], request: Request) -> Response:
        """Today and this month, in your own time zone."""
        return await ask(request, "overview", query)

    @routes.get("/api/dashboard/analytics", tags=TAGS, response_model=Analytics)
    async def analytics(query: Annotated[AnalyticsQuery, Query()], request: Request) -> Response:
        """Figures by day or hour between two dates."""
        if not FIRST_DAY <= query.start_date <= LAST_DAY:
            message = f"must lie between {FIRST_DAY} and {LAST_DAY}"
            raise InvalidRequest([Fault("start_date", "out_of_range", message)])
        days = (query.end_date - query.start_date).days + 1
        most = RANGE_DAYS[query.granularity]
        if not 1 <= days <= most:
            message = f"must not be before start_date, and at most {most} days after it"
            raise InvalidRequest([Fault("end_date", "out_of_range", message)])
        return await ask(request, "analytics", query)

    @routes.get("/api/dashboard/payment-methods", tags=TAGS, response_model=PaymentMethods)
    async def payment_methods(query: Annotated[DaysQuery, Query()], request: Request) -> Response:
        """How customers paid."""
        return await ask(request, "payment-methods", query)

    @routes.get("/api/dashboard/top-products", tags=TAGS, response_model=TopProducts)
    async def top_products(query: Annotated[ProductsQuery, Query()], request: Request) -> Response:
        """What sold best."""
        return await ask(request, "top-products", query)

    @routes.get("/api/dashboard/customers", tags=TAGS, response_model=Customers)
    async def customers(query: Annotated[CustomersQuery, Query()], request: Request) -> Response:
        """Who bought most."""
        return await ask(request, "customers", query)
