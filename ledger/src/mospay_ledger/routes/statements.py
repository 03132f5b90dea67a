"""A client's statement of account a page at a time, as CSV and as PDF."""

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.domain import ClientBooks
from mospay_ledger.domain.settling import MIDNIGHT, day_end
from mospay_ledger.papers.languages import Language
from mospay_ledger.routes import files
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    PRINTABLE,
    Limit,
    Mode,
    fault,
    place,
    refusals,
    seen_by,
    tenant_of,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import settlements
from mospay_ledger.usecases import letter_heads, settling, statements

DAYS_LIMIT = 366
FIRST, LAST = dt.date(2000, 1, 1), dt.date(2100, 12, 31)
AMOUNTS = (*statements.COLUMNS, "balance_minor")
COLUMNS = (
    "posted_at", "kind", "reference", "entry_id", "pending", "available", "held", "debt",
    "balance", "currency",
)  # fmt: skip
ClientId = Annotated[str, Query(max_length=80, pattern=PRINTABLE)]
Currency = Annotated[str, Query(pattern="^[A-Z]{3}$")]
From = Annotated[dt.date, Query(alias="from", description="first local day")]
To = Annotated[dt.date, Query(alias="to", description="last local day")]


class StatementBalances(BaseModel):
    """What a client has, minor units: what is its own is positive, its debt negative.

    Held is reserved by refunds and payouts under way, or kept back of settlements for a time;
    `balance_minor` is the sum.
    """

    pending_minor: int = Field(examples=[1470])
    available_minor: int = Field(examples=[0])
    held_minor: int = Field(examples=[0])
    debt_minor: int = Field(examples=[0])
    balance_minor: int = Field(examples=[1470])


class StatementEntry(BaseModel):
    """What one journal entry of `amount_minor` changed, and the balance after it; minor units.

    `reference` names a refund or a payment, else the settlement or payout it is of.
    """

    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    posted_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    kind: str = Field(examples=["capture"])
    payment_id: str | None = Field(examples=[EXAMPLE_PAYMENT])
    refund_id: str | None = Field(examples=[None])
    reference: str = Field(examples=[EXAMPLE_PAYMENT])
    amount_minor: int = Field(examples=[1500])
    pending_minor: int = Field(examples=[1470])
    available_minor: int = Field(examples=[0])
    held_minor: int = Field(examples=[0])
    debt_minor: int = Field(examples=[0])
    change_minor: int = Field(examples=[1470])
    balance_minor: int = Field(examples=[1470])


class StatementBody(BaseModel):
    """A client's account from the first to the last local day, and a page of its entries."""

    client_id: str = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    currency: str = Field(examples=["RWF"])
    first_day: dt.date = Field(examples=["2026-11-01"])
    last_day: dt.date = Field(examples=["2026-11-30"])
    time_zone: str = Field(examples=["Africa/Kigali"])
    opening: StatementBalances
    closing: StatementBalances
    items: list[StatementEntry]
    next_cursor: str | None = Field(examples=[None])


@dataclass(frozen=True, slots=True)
class Period:
    """Whose statement over which of the client's days, and what it says."""

    client_id: str
    name: str
    mode: str
    currency: str
    first: dt.date
    last: dt.date
    zone_name: str
    zone: ZoneInfo
    found: statements.Statement

    @property
    def file_name(self) -> str:
        """The file's name, without its ending."""
        return f"statement-{self.first}-{self.last}-{self.currency}"


def _check(first: dt.date, last: dt.date) -> None:
    for field, day in (("from", first), ("to", last)):
        if not FIRST <= day <= LAST:
            raise fault(field, f"must be between {FIRST} and {LAST}")
    if last < first:
        raise fault("to", "must not be before from")
    if (last - first).days >= DAYS_LIMIT:
        raise fault("to", f"a statement covers at most {DAYS_LIMIT} days")


def _insist(caller: Caller, client_id: str, mode: str) -> None:
    """Raise 404 for an account that is not the tenant's."""
    own, own_mode = tenant_of(caller)
    if own not in ("", client_id) or own_mode not in ("", mode):
        raise Problem(404, "client_missing", "There is no such client")


def _instants(first: dt.date, last: dt.date, zone: ZoneInfo) -> tuple[dt.datetime, dt.datetime]:
    """Return when the first local day begins and the last one ends."""
    since = day_end(first - dt.timedelta(days=1), zone, MIDNIGHT)
    return since, day_end(last, zone, MIDNIGHT)


def reference(line: Any) -> str:
    """Return what a line is about: a refund, a payment, or the settlement or payout by its id."""
    return str(line["refund_id"] or line["payment_id"] or line["effect_key"].partition(":")[0])


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes of statements."""
    reader = service.verifier.needs("ledger:read")

    async def read(
        caller: Caller, client_id: str, mode: str, currency: str, first: dt.date, last: dt.date,
        limit: int,
    ) -> Period:  # fmt: skip
        _check(first, last)
        _insist(caller, client_id, mode)
        async with refusals(), seen_by(service, caller) as tx:
            client = await settlements.client(tx, client_id)
            zone_name, zone = settling.zone_of(client)
            books = ClientBooks(client_id, currency, mode)
            found = await statements.account_statement(
                tx, books, *_instants(first, last, zone), limit
            )
        name = (client and client["name"]) or client_id
        return Period(client_id, name, mode, currency, first, last, zone_name, zone, found)

    _add_page(routes, service)

    @routes.get("/statements.csv", response_class=Response)
    async def statement_csv(
        client_id: ClientId,
        mode: Mode,
        currency: Currency,
        first: From,
        last: To,
        caller: Caller = Depends(reader),
    ) -> Response:
        """A client's account between two of its days: opening balance, entries, closing balance."""
        period = await read(
            caller, client_id, mode, currency, first, last, settings.statement_lines
        )
        return files.csv_file(period.file_name, csv_lines(period))

    @routes.get("/statements.pdf", response_class=Response)
    async def statement_pdf(
        client_id: ClientId,
        mode: Mode,
        currency: Currency,
        first: From,
        last: To,
        caller: Caller = Depends(reader),
    ) -> Response:
        """The same as a paper."""
        period = await read(caller, client_id, mode, currency, first, last, settings.paper_lines)
        async with service.database.transaction() as tx:  # the operator's own, whoever asks
            head, language = await letter_heads.of_operator(tx, mode, settings)
        data = {"issuer": head, **paper_of(period, language)}
        return await files.pdf_file(period.file_name, "statement", data, language)


def _add_page(routes: APIRouter, service: Service) -> None:
    @routes.get("/statements")
    async def statement_page(
        client_id: ClientId,
        mode: Mode,
        currency: Currency,
        first: From,
        last: To,
        cursor: Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)] = "",
        limit: Limit = 50,
        caller: Caller = Depends(service.verifier.needs("ledger:read")),
    ) -> StatementBody:
        """The same a page at a time, oldest first; each page tells the whole period's balances."""
        _check(first, last)
        _insist(caller, client_id, mode)
        async with seen_by(service, caller) as tx:
            zone_name, zone = settling.zone_of(await settlements.client(tx, client_id))
            since, until = _instants(first, last, zone)
            after = await place(tx, cursor, client_id, mode)
            if after is not None and not since <= after[0] < until:
                raise fault("cursor", "is not a cursor of this list")
            books = ClientBooks(client_id, currency, mode)
            found = await statements.statement_page(
                tx, books, since, until, after=after, limit=limit + 1
            )
        items = [
            StatementEntry(**dict(line), reference=reference(line), balance_minor=balance)
            for line, balance in statements.running(found.before, found.lines[:limit])
        ]
        return StatementBody(
            client_id=client_id, mode=mode, currency=currency, first_day=first, last_day=last,
            time_zone=zone_name, opening=StatementBalances(**found.opening),
            closing=StatementBalances(**found.closing), items=items,
            next_cursor=items[-1].entry_id if len(found.lines) > limit else None,
        )  # fmt: skip


async def csv_lines(period: Period) -> AsyncIterator[bytes]:
    """Yield the CSV of a statement, a thousand lines at a time."""
    currency, found = period.currency, period.found

    def balances(kind: str, of: dict[str, int]) -> list[Any]:
        return ["", kind, "", "", *(files.amount(of[n], currency) for n in AMOUNTS), currency]

    yield files.rows_of([COLUMNS, balances("opening_balance", found.opening)])
    batch: list[list[Any]] = []
    for line, balance in statements.running(found.opening["balance_minor"], found.lines):
        batch.append(
            [
                line["posted_at"].isoformat(), line["kind"], reference(line), line["entry_id"],
                *(files.amount(line[name], currency) for name in statements.COLUMNS),
                files.amount(balance, currency), currency,
            ]
        )  # fmt: skip
        if len(batch) == 1000:
            yield files.rows_of(batch)
            batch = []
    yield files.rows_of([*batch, balances("closing_balance", found.closing)])


def paper_of(period: Period, language: Language) -> dict[str, Any]:
    """Return what the paper of a statement shows, every amount a text."""
    currency, found = period.currency, period.found

    def amounts(of: Any, *more: int) -> list[str]:
        minors = [*(of[name] for name in statements.COLUMNS), *more]
        return [language.amount(minor, currency) for minor in minors]

    return {
        "client": {"name": period.name, "id": period.client_id},
        "since": language.day(period.first),
        "until": language.day(period.last),
        "mode": period.mode,
        "currency": currency,
        "time_zone": period.zone_name,
        "opening": amounts(found.opening, found.opening["balance_minor"]),
        "closing": amounts(found.closing, found.closing["balance_minor"]),
        "lines": [
            [
                language.minute(line["posted_at"].astimezone(period.zone)),
                language.known("kinds", line["kind"]),
                reference(line),
                *amounts(line, balance),
            ]
            for line, balance in statements.running(found.opening["balance_minor"], found.lines)
        ],
    }
