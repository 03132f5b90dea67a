"""`/v1/settlements`, `/v1/payouts`, `/v1/reconciliation-exceptions`: how money gets to a client."""

import datetime as dt
from enum import Enum
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from mospay_shared.ids import is_id
from pydantic import BaseModel, ConfigDict, Field

from mospay_gateway.domain.errors import Fault, InvalidRequest
from mospay_gateway.domain.times import Day
from mospay_gateway.routes.books import (
    CURRENCY,
    FileQuery,
    PageQuery,
    check_cursor,
    filters,
    identify,
    pass_on,
    path_id,
    show,
)
from mospay_gateway.routes.parts import Parts

TAGS: list[str | Enum] = ["settlements"]
PayoutStatus = Literal["created", "approved", "rejected", "paid", "failed", "returned"]
ExceptionKind = Literal[
    "missing_here", "missing_there", "amount_differs", "currency_differs", "duplicate"
]


class SettlementsQuery(PageQuery):
    """What a list of settlements is narrowed to."""

    currency: str | None = Field(None, pattern=CURRENCY)
    since: Day | None = Field(None, alias="from", description="first local day")
    until: Day | None = Field(None, alias="to", description="last local day")


class LinesQuery(BaseModel):
    """Which page of a settlement's lines."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(50, ge=1, le=200)
    cursor: int = Field(0, ge=0, le=2**31 - 1, description="`next_cursor` of the page before")


class PayoutsQuery(PageQuery):
    """What a list of payouts is narrowed to."""

    currency: str | None = Field(None, pattern=CURRENCY)
    status: PayoutStatus | None = None


class ExceptionsQuery(PageQuery):
    """What a list of exceptions is narrowed to."""

    state: Literal["open", "resolved"] | None = None
    kind: ExceptionKind | None = None
    currency: str | None = Field(None, pattern=CURRENCY)
    payment_id: str | None = None


class Settlement(BaseModel):
    """A local day of yours, settled: net = gross - fee + refund + adjustment, minor units.

    Refund and adjustment (chargebacks, corrections, debts paid off) are signed. Of net,
    `reserve_minor` is kept back until `reserve_due_at`; the rest is available.
    """

    id: str
    mode: str
    currency: str
    local_day: dt.date
    part: int
    time_zone: str
    cut_off_at: dt.datetime
    entry_id: str
    line_count: int
    gross_minor: int
    fee_minor: int
    refund_minor: int
    adjustment_minor: int
    net_minor: int
    reserve_minor: int
    reserve_due_at: dt.datetime | None
    reserve_released_at: dt.datetime | None
    settled_at: dt.datetime


class OneSettlement(Settlement):
    """A settlement with the journal entry that took it back, if any."""

    reversed_by: str | None


class Settlements(BaseModel):
    """Settlements, newest first. `next_cursor` is null on the last page."""

    items: list[Settlement]
    next_cursor: str | None


class SettlementLine(BaseModel):
    """A journal entry that a settlement settles; minor units."""

    number: int
    entry_id: str
    kind: str
    payment_id: str | None
    refund_id: str | None
    occurred_at: dt.datetime
    gross_minor: int
    fee_minor: int
    refund_minor: int
    adjustment_minor: int
    net_minor: int


class SettlementLines(BaseModel):
    """Lines by number. `next_cursor` is null on the last page."""

    items: list[SettlementLine]
    next_cursor: int | None


class Payout(BaseModel):
    """A transfer of what was available to your account, minor units; `version` rises by step.

    `reference` is the bank's.
    """

    id: str
    mode: str
    currency: str
    amount_minor: int
    destination: str
    status: PayoutStatus
    version: int
    reference: str | None
    reason: str | None
    created_at: dt.datetime
    changed_at: dt.datetime


class PayoutStep(BaseModel):
    """One step of a payout, and the journal entry it posted, if any."""

    version: int
    status: PayoutStatus
    reason: str | None
    reference: str | None
    entry_id: str | None
    at: dt.datetime


class OnePayout(Payout):
    """A payout with its steps, oldest first."""

    steps: list[PayoutStep]


class Payouts(BaseModel):
    """Payouts, newest first. `next_cursor` is null on the last page."""

    items: list[Payout]
    next_cursor: str | None


class ReconciliationException(BaseModel):
    """What the provider's statement and the books say differently of a payment of yours.

    Minor units; money in is positive. `stated_minor` of `currency` is what the provider says (0:
    nothing), `expected_minor` what the books say, of `expected_currency` where that is another.
    """

    id: str
    kind: ExceptionKind
    microservice: str
    mode: str
    currency: str
    stated_minor: int
    expected_currency: str | None
    expected_minor: int
    payment_id: str | None
    refund_id: str | None
    entry_id: str | None
    state: Literal["open", "resolved"]
    occurred_at: dt.datetime
    opened_at: dt.datetime
    resolved_at: dt.datetime | None


class ReconciliationExceptions(BaseModel):
    """Exceptions, newest first. `next_cursor` is null on the last page."""

    items: list[ReconciliationException]
    next_cursor: str | None


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""
    _add_settlements(routes, parts)
    _add_payouts(routes, parts)

    @routes.get("/v1/reconciliation-exceptions", tags=TAGS, response_model=ReconciliationExceptions)
    async def get_exceptions(
        query: Annotated[ExceptionsQuery, Query()], request: Request
    ) -> Response:
        """Where a provider's statement and the books differ about your payments, newest first."""
        caller, _ = identify(parts, request)
        check_cursor(query, "exc")
        if query.payment_id is not None and not is_id(query.payment_id, "pay"):
            raise InvalidRequest([Fault("payment_id", "invalid_id", "is not a payment's id")])
        path = "/client-exceptions"
        return await show(parts, caller, path, filters(query), ReconciliationExceptions)


def _add_settlements(routes: APIRouter, parts: Parts) -> None:
    @routes.get("/v1/settlements", tags=TAGS, response_model=Settlements)
    async def get_settlements(
        query: Annotated[SettlementsQuery, Query()], request: Request
    ) -> Response:
        """Your settlements, newest first."""
        caller, tenant = identify(parts, request)
        check_cursor(query, "set")
        return await show(parts, caller, "/settlements", {**filters(query), **tenant}, Settlements)

    @routes.get("/v1/settlements/{settlement_id}", tags=TAGS, response_model=OneSettlement)
    async def get_settlement(settlement_id: str, request: Request) -> Response:
        """One settlement."""
        caller, _ = identify(parts, request)
        path = f"/settlements/{path_id(settlement_id, 'set')}"
        return await show(parts, caller, path, {}, OneSettlement)

    @routes.get("/v1/settlements/{settlement_id}/lines", tags=TAGS, response_model=SettlementLines)
    async def get_settlement_lines(
        settlement_id: str, query: Annotated[LinesQuery, Query()], request: Request
    ) -> Response:
        """The journal entries a settlement settles, by number."""
        caller, _ = identify(parts, request)
        path = f"/settlements/{path_id(settlement_id, 'set')}/lines"
        return await show(parts, caller, path, filters(query), SettlementLines)

    @routes.get("/v1/settlements/{settlement_id}/statement", tags=TAGS, response_class=Response)
    async def get_settlement_statement(
        settlement_id: str, query: Annotated[FileQuery, Query()], request: Request
    ) -> Response:
        """A settlement as PDF or CSV; amounts in them are decimals of its currency."""
        caller, _ = identify(parts, request)
        path = f"/settlements/{path_id(settlement_id, 'set')}/statement.{query.format}"
        return await pass_on(parts, caller, path, {})


def _add_payouts(routes: APIRouter, parts: Parts) -> None:
    @routes.get("/v1/payouts", tags=TAGS, response_model=Payouts)
    async def get_payouts(query: Annotated[PayoutsQuery, Query()], request: Request) -> Response:
        """Your payouts, newest first."""
        caller, tenant = identify(parts, request)
        check_cursor(query, "po")
        return await show(parts, caller, "/payouts", {**filters(query), **tenant}, Payouts)

    @routes.get("/v1/payouts/{payout_id}", tags=TAGS, response_model=OnePayout)
    async def get_payout(payout_id: str, request: Request) -> Response:
        """One payout with its steps."""
        caller, _ = identify(parts, request)
        return await show(parts, caller, f"/payouts/{path_id(payout_id, 'po')}", {}, OnePayout)
