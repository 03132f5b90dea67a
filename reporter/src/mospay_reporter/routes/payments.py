"""HTTP in: overviews, pages of payments, one payment with its refunds."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.contracts import PaymentStatus
from pydantic import BaseModel, BeforeValidator, Field

from mospay_reporter.domain.facts import STATUSES
from mospay_reporter.domain.pages import SORTS, Filters, decode_cursor, encode_cursor
from mospay_reporter.domain.periods import QueryError
from mospay_reporter.routes.parts import (
    Currency,
    Id,
    Instant,
    Minor,
    Mode,
    Plain,
    Zone,
    refused,
    seen_by,
)
from mospay_reporter.storage import pages, refunds
from mospay_reporter.storage.figures import Figures
from mospay_reporter.usecases.reading import Ask, Overview, overview, summarise


def _parts(value: object) -> object:
    """Split comma lists; a parameter may also be repeated."""
    texts = value if isinstance(value, list) else [value]
    return [part.strip() for text in texts for part in str(text).split(",") if part.strip()]


Sort = Literal[
    "-accepted_at", "accepted_at", "-amount", "amount", "-status", "status", "-service", "service"
]
assert set(get_args(Sort)) == set(SORTS)


_MONEY = ("volume_minor", "fees_minor", "net_minor", "refunded_minor")


class OverviewQuery(BaseModel):
    """A period, at most 31 days by the hour or 400 by the day, and whose figures."""

    mode: Mode
    since: Instant = Field(alias="from", description="inclusive")
    until: Instant = Field(alias="to", description="exclusive")
    granularity: Literal["hour", "day"] = "hour"
    client_id: Id | None = None
    currency: Currency | None = Field(
        None, description="without it, the one with the most payments in the period"
    )
    time_zone: Zone = Field("UTC", description="where days begin: those of the series, and today")


class PaymentsQuery(BaseModel):
    """Filters, order and place of a page; what is left out filters nothing."""

    mode: Mode
    client_id: Id | None = None
    currency: Currency | None = None
    status: Annotated[list[PaymentStatus], BeforeValidator(_parts)] = Field(
        default_factory=list, max_length=len(STATUSES), description="comma list"
    )
    service: Annotated[list[Annotated[Plain, Field(max_length=63)]], BeforeValidator(_parts)] = (
        Field(default_factory=list, max_length=50, description="comma list of service names")
    )
    since: Instant | None = Field(None, alias="from", description="inclusive")
    until: Instant | None = Field(None, alias="to", description="exclusive")
    min_minor: Minor | None = None
    max_minor: Minor | None = None
    q: Annotated[Plain, Field(max_length=255)] | None = Field(
        None, description="a payment's id, or how its reference or its customer's id begins"
    )
    sort: Sort = "-accepted_at"
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=1000)


class Totals(BaseModel):
    """Counts by status, which add up to `payments`, and sums in minor units.

    `volume_minor` is what succeeded; fees and net are what the ledger has posted for it, and
    `refunded_minor` is what of these payments has been given back with proof.
    """

    payments: int
    succeeded: int
    failed: int
    unknown: int
    processing: int
    held: int
    requires_customer_action: int
    cancelled: int
    expired: int
    conflicted: int
    volume_minor: int
    fees_minor: int
    net_minor: int
    refunded_minor: int


class Previous(BaseModel):
    """The period of the same length just before."""

    payments: int
    succeeded: int
    volume_minor: int


class Today(BaseModel):
    """Since midnight in the asked-for time zone."""

    payments: int
    api_calls: int


class Point(BaseModel):
    """One bucket, named by its beginning; the first and the last may be partly in the period."""

    at: dt.datetime
    payments: int
    succeeded: int
    failed: int
    unknown: int
    volume_minor: int


class OverviewBody(BaseModel):
    """All figures are of `currency`; `currencies` lists those there are.

    `currency` is null when there is neither a payment nor a choice.
    """

    as_of: dt.datetime
    currency: str | None
    currencies: list[str]
    totals: Totals
    previous: Previous
    today: Today
    series: list[Point]


class PaymentRow(BaseModel):
    """A payment as it stands; amounts in minor units, fee and net once the ledger posted it."""

    id: str
    client_id: str
    app_id: str
    mode: Mode
    service: str
    route: str
    status: str
    amount_minor: int
    currency: str
    fee_minor: int | None
    net_minor: int | None
    refunded_minor: int
    refunds_open_minor: int
    retry_of: str | None
    reference: str
    provider_reference: str | None
    customer_id: str | None
    product_name: str | None
    reason_code: str | None
    reason_message: str | None
    late: bool
    accepted_at: dt.datetime
    updated_at: dt.datetime
    version: int


class RefundRow(BaseModel):
    """A refund as it stands; `late`: it had failed before, `over_refund`: more than was left."""

    id: str
    amount_minor: int
    currency: str
    status: str
    version: int
    provider_reference: str | None
    reason: str | None
    reason_code: str | None
    reason_message: str | None
    late: bool
    over_refund: bool
    requested_at: dt.datetime
    updated_at: dt.datetime


class PaymentDetail(PaymentRow):
    """A payment with what its client attached to it, and its refunds."""

    metadata: dict[str, str]
    refunds: list[RefundRow]


class SummaryBody(BaseModel):
    """The whole filtered set. `volume_minor` is what succeeded, 0 where `currency` is null.

    Figures are exact, unless an amount or a text is filtered by and more than 10,000 payments
    pass: then `count_is_exact` is false and all of them are estimates.
    """

    count: int
    count_is_exact: bool
    succeeded: int
    volume_minor: int
    currency: str | None


class PaymentsBody(BaseModel):
    """A page, where the next one starts (null at the end), and the set's summary."""

    items: list[PaymentRow]
    next_cursor: str | None
    summary: SummaryBody


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"id": row["payment_id"], "updated_at": row["changed_at"]}


def _overview_body(read: Overview) -> OverviewBody:
    def total(name: str) -> int:
        return sum(figures.counts[name] for _, figures in read.points)

    def money(name: str) -> int:
        return sum(getattr(figures, name) for _, figures in read.points)

    def point(at: dt.datetime, figures: Figures) -> Point:
        return Point(at=at, volume_minor=figures.volume_minor, **_picked(figures, Point))

    return OverviewBody(
        as_of=read.as_of,
        currency=read.currency,
        currencies=read.currencies,
        totals=Totals(
            **{name: total(name) for name in ("payments", *STATUSES)},
            **{name: money(name) for name in _MONEY},
        ),
        previous=Previous(
            volume_minor=read.previous.volume_minor, **_picked(read.previous, Previous)
        ),
        today=Today(payments=read.payments_today, api_calls=read.calls_today),
        series=[point(bucket.at, figures) for bucket, figures in read.points],
    )


def _picked(figures: Figures, model: type[BaseModel]) -> dict[str, Any]:
    return {n: count for n, count in figures.counts.items() if n in model.model_fields}


def _filters(query: PaymentsQuery) -> Filters:
    for low, high, field in (
        (query.since, query.until, "to"),
        (query.min_minor, query.max_minor, "max_minor"),
    ):
        if low is not None and high is not None and high < low:  # type: ignore[operator]
            raise QueryError(field, "empty_range", "must not be less than where the range begins")
    return Filters(
        mode=query.mode,
        client_id=query.client_id,
        currency=query.currency,
        statuses=tuple(dict.fromkeys(status.value for status in query.status)),
        services=tuple(dict.fromkeys(query.service)),
        since=query.since,
        until=query.until,
        min_minor=query.min_minor,
        max_minor=query.max_minor,
        text=query.q,
    )


async def _page(tx: Tx, query: PaymentsQuery, filters: Filters) -> PaymentsBody:
    after: Sequence[Any] | None = decode_cursor(query.sort, query.cursor) if query.cursor else None
    rows = await pages.page(tx, filters, sort=query.sort, after=after, limit=query.limit + 1)
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    summary = await summarise(tx, filters)
    return PaymentsBody(
        items=[PaymentRow.model_validate(_row(row)) for row in shown],
        next_cursor=encode_cursor(query.sort, shown[-1]) if more else None,
        summary=SummaryBody.model_validate(summary, from_attributes=True),
    )


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    database, needs = service.database, service.verifier.needs

    @routes.get("/overview")
    async def read_overview(
        query: Annotated[OverviewQuery, Query()], caller: Caller = Depends(needs("reports:read"))
    ) -> OverviewBody:
        """Counts and sums of a period, of the one before and of today, with a series."""
        ask = Ask(
            mode=query.mode,
            since=query.since,
            until=query.until,
            granularity=query.granularity,
            zone=ZoneInfo(query.time_zone),
            client_id=query.client_id or caller.client_id,
            currency=query.currency,
        )
        try:
            async with seen_by(database, caller) as tx:
                return _overview_body(await overview(tx, ask, dt.datetime.now(dt.UTC)))
        except QueryError as error:
            raise refused(error) from error

    @routes.get("/payments")
    async def read_payments(
        query: Annotated[PaymentsQuery, Query()], caller: Caller = Depends(needs("payments:read"))
    ) -> PaymentsBody:
        """A page of payments under the filters, and the summary of all of them."""
        query.client_id = query.client_id or caller.client_id
        try:
            filters = _filters(query)
            async with seen_by(database, caller) as tx:
                return await _page(tx, query, filters)
        except QueryError as error:
            raise refused(error) from error

    @routes.get("/payments/{payment_id}")
    async def read_payment(
        payment_id: str, caller: Caller = Depends(needs("payments:read"))
    ) -> PaymentDetail:
        """One payment; 404 for another tenant's as for one that does not exist."""
        row, given = None, []
        if "\0" not in payment_id and len(payment_id) <= 80:
            async with seen_by(database, caller) as tx:
                row = await pages.payment(tx, payment_id)
                given = await refunds.of_payment(tx, payment_id) if row else []
        if row is None:
            raise Problem(404, "not_found", "There is no such payment")
        found = [one | {"id": one["refund_id"], "updated_at": one["changed_at"]} for one in given]
        return PaymentDetail.model_validate(_row(row) | {"refunds": found})

    return routes
