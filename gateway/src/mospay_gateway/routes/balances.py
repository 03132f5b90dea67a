"""`/v1/balances`, `/v1/journal-entries`, `/v1/statements`: a client's own books, double-entry."""

import datetime as dt
from enum import Enum
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from mospay_shared.ids import is_id
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from mospay_gateway.domain.errors import Fault, InvalidRequest
from mospay_gateway.domain.times import Day, Instant
from mospay_gateway.routes.books import (
    CURRENCY,
    PageQuery,
    check_cursor,
    filters,
    identify,
    pass_on,
    path_id,
    show,
)
from mospay_gateway.routes.parts import Parts

TAGS: list[str | Enum] = ["books"]
FIRST_DAY, LAST_DAY = dt.date(2000, 1, 1), dt.date(2100, 12, 31)
STATEMENT_DAYS = 366  # of one statement


class BalancesQuery(BaseModel):
    """When."""

    model_config = ConfigDict(extra="forbid")
    at: Instant | None = Field(None, description="As of this instant; now, when absent")


class EntriesQuery(PageQuery):
    """What a list of entries is narrowed to."""

    payment_id: str | None = None
    kind: str | None = Field(None, pattern=r"^[a-z_]{1,40}$", examples=["capture"])
    currency: str | None = Field(None, pattern=CURRENCY)
    since: Instant | None = Field(None, alias="from", description="posted at or after")
    until: Instant | None = Field(None, alias="to", description="posted before")


class StatementQuery(PageQuery):
    """Whole days of the client's own time zone, both ends included; pages are of JSON alone."""

    first: Day = Field(alias="from", description="first local day")
    last: Day = Field(alias="to", description="last local day, at most 366 days in all")
    currency: str | None = Field(None, pattern=CURRENCY, description="default: your own currency")
    format: Literal["json", "csv", "pdf"] = "json"


class Holdings(BaseModel):
    """What you have in one currency, minor units: your own is positive, a debt negative.

    Pending is captured and not settled; available may be paid out; held is reserved by refunds and
    payouts under way, or kept back of settlements for a time. `balance_minor` is the sum of the
    four; `refund_due_minor` beside it was taken twice and is owed back to payers.
    """

    currency: str
    pending_minor: int
    available_minor: int
    held_minor: int
    debt_minor: int
    balance_minor: int
    refund_due_minor: int


class Balances(BaseModel):
    """Balances by currency."""

    as_of: dt.datetime
    items: list[Holdings] = Field(validation_alias=AliasChoices("items", "holdings"))


class Side(BaseModel):
    """What an entry did to one account of yours: what you have is a credit, so negative."""

    account: str
    amount_minor: int
    previous_minor: int
    balance_minor: int


class JournalEntry(BaseModel):
    """An entry of the books with its sides on your own accounts; it is never changed.

    `late`: proven after the payment or refund had ended otherwise. `reverses` names the entry this
    one takes back.
    """

    id: str = Field(validation_alias=AliasChoices("id", "entry_id"))
    kind: str
    mode: str
    currency: str
    amount_minor: int
    fee_minor: int
    fee_returned_minor: int
    late: bool
    payment_id: str | None
    refund_id: str | None
    provider_reference: str | None
    reverses: str | None
    occurred_at: dt.datetime
    posted_at: dt.datetime
    postings: list[Side]


class OneJournalEntry(JournalEntry):
    """An entry with the one that took it back, if any."""

    reversed_by: str | None


class JournalEntries(BaseModel):
    """Entries, newest first. `next_cursor` is null on the last page."""

    items: list[JournalEntry]
    next_cursor: str | None


class StatementBalances(BaseModel):
    """What you had, minor units; as in `/v1/balances`."""

    pending_minor: int
    available_minor: int
    held_minor: int
    debt_minor: int
    balance_minor: int


class StatementEntry(BaseModel):
    """What one journal entry changed of your balances, and the balance after it; minor units.

    `reference` names a refund or a payment, else the settlement or payout it is of.
    """

    entry_id: str
    posted_at: dt.datetime
    kind: str
    payment_id: str | None
    refund_id: str | None
    reference: str
    amount_minor: int
    pending_minor: int
    available_minor: int
    held_minor: int
    debt_minor: int
    change_minor: int
    balance_minor: int


class Statement(BaseModel):
    """Your account over whole days: every page has the period's balances, `items` go on.

    Opening and closing are of the period; entries are oldest first. `next_cursor` is null on the
    last page.
    """

    mode: str
    currency: str
    first_day: dt.date
    last_day: dt.date
    time_zone: str
    opening: StatementBalances
    closing: StatementBalances
    items: list[StatementEntry]
    next_cursor: str | None


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    @routes.get("/v1/balances", tags=TAGS, response_model=Balances)
    async def get_balances(query: Annotated[BalancesQuery, Query()], request: Request) -> Response:
        """What you have, by currency, now or as of an instant."""
        caller, tenant = identify(parts, request)
        return await show(parts, caller, "/balances", {**filters(query), **tenant}, Balances)

    @routes.get("/v1/journal-entries", tags=TAGS, response_model=JournalEntries)
    async def get_entries(query: Annotated[EntriesQuery, Query()], request: Request) -> Response:
        """The journal entries on your accounts, newest first."""
        caller, tenant = identify(parts, request)
        check_cursor(query, "ent")
        if query.payment_id is not None and not is_id(query.payment_id, "pay"):
            raise InvalidRequest([Fault("payment_id", "invalid_id", "is not a payment's id")])
        asked = {**filters(query), **tenant}
        return await show(parts, caller, "/entries", asked, JournalEntries)

    @routes.get("/v1/journal-entries/{entry_id}", tags=TAGS, response_model=OneJournalEntry)
    async def get_entry(entry_id: str, request: Request) -> Response:
        """One journal entry."""
        caller, _ = identify(parts, request)
        path = f"/entries/{path_id(entry_id, 'ent')}"
        return await show(parts, caller, path, {}, OneJournalEntry)

    @routes.get("/v1/statements", tags=TAGS, response_model=Statement)
    async def get_statement(
        query: Annotated[StatementQuery, Query()], request: Request
    ) -> Response:
        """Your statement of account: balances, every entry, balances; as JSON pages, CSV or PDF."""
        caller, tenant = identify(parts, request)
        check_cursor(query, "ent")
        _check_period(query)
        asked = {"currency": caller.client.currency, **filters(query), **tenant}
        kind = asked.pop("format")
        if kind == "json":
            return await show(parts, caller, "/statements", asked, Statement)
        if query.cursor is not None:
            raise InvalidRequest([Fault("cursor", "not_here", "is for format=json alone")])
        asked.pop("limit")
        return await pass_on(parts, caller, f"/statements.{kind}", asked)


def _check_period(query: StatementQuery) -> None:
    """Raise InvalidRequest for days no statement covers."""
    for field, day in (("from", query.first), ("to", query.last)):
        if not FIRST_DAY <= day <= LAST_DAY:
            message = f"must lie between {FIRST_DAY} and {LAST_DAY}"
            raise InvalidRequest([Fault(field, "out_of_range", message)])
    if not 1 <= (query.last - query.first).days + 1 <= STATEMENT_DAYS:
        message = f"must not be before from, and at most {STATEMENT_DAYS} days in all"
        raise InvalidRequest([Fault("to", "out_of_range", message)])
