"""Papers and lists of invoicing: PDF, CSV, the ageing statement, closed months of fees."""

import csv
import datetime as dt
import io
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.domain.customer_list import guarded
from mospay_ledger.domain.invoices import AGES
from mospay_ledger.routes.billing import (
    DAYS,
    READ,
    Cursor,
    DayQuery,
    Id,
    IdFilter,
    csv_headers,
    day,
    missing,
    pdf,
    refusals,
    seen_by,
)
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    AnyMode,
    ClientFilter,
    Limit,
    Mode,
    tenant_of,
)
from mospay_ledger.storage import customers, fee_invoices, logos
from mospay_ledger.storage import invoices as storage
from mospay_ledger.usecases import invoice_papers

PAGE = 500  # rows an export reads at a time
CSV_COLUMNS = (
    "number", "status", "customer_id", "customer_name", "currency", "total_minor", "tax_minor",
    "discount_minor", "paid_minor", "credited_minor", "open_minor", "issued_on", "due_on",
    "reference", "id",
)  # fmt: skip
AGEING_COLUMNS = (
    "currency", "customer_id", "customer_name", "client_ref", "invoices", *AGES, "open_minor",
)  # fmt: skip


class Ages(BaseModel):
    """What is open of `invoices` invoices by days after the due day, minor units of a currency."""

    currency: str = Field(examples=["RWF"])
    invoices: int = Field(examples=[3])
    current: int = Field(examples=[1000])
    days_1_30: int = Field(examples=[500])
    days_31_60: int = Field(examples=[0])
    days_61_90: int = Field(examples=[0])
    days_over_90: int = Field(examples=[0])
    open_minor: int = Field(examples=[1500])


class CustomerAges(Ages):
    """The ages of one customer."""

    customer_id: str = Field(examples=["cus_019aa51c000070008000000000000011"])
    customer_name: str = Field(examples=["Amélie Uwase"])
    client_ref: str | None = Field(examples=["C-17"])


class Ageing(BaseModel):
    """What was open at the end of a day of the issuer's calendar: sums, and a page of customers.

    Sums are over all customers, whatever the page.
    """

    issuer_id: str = Field(examples=["iss_019aa51c000070008000000000000010"])
    as_of: dt.date = Field(examples=["2026-11-30"])
    totals: list[Ages]
    items: list[CustomerAges]
    next_cursor: str | None = Field(examples=[None])


class FeeMonth(BaseModel):
    """A closed month of a client's fees: invoiced = taken - returned + brought - carried.

    `carried_minor` (zero or less) is what a month in which more was given back than taken leaves.
    """

    client_id: str = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    currency: str = Field(examples=["RWF"])
    month: dt.date = Field(examples=["2026-11-01"])
    taken_minor: int = Field(examples=[3600])
    returned_minor: int = Field(examples=[200])
    brought_minor: int = Field(examples=[0])
    carried_minor: int = Field(examples=[0])
    invoiced_minor: int = Field(examples=[3400])
    invoice_id: str | None = Field(examples=["inv_019aa51c000070008000000000000012"])
    number: str | None = Field(examples=["INV-2026-000001"])


class FeeMonths(BaseModel):
    """A page of closed months; `next_cursor` is null at the end."""

    items: list[FeeMonth]
    next_cursor: str | None = Field(examples=[None])


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes; before those of single invoices, whose paths would take these."""
    _add_papers(routes, service)
    _add_lists(routes, service)
    _add_ageing(routes, service)
    _add_fees(routes, service)


def _cells(values: Iterable[Any]) -> list[Any]:
    return [guarded(v) if isinstance(v, str) else "" if v is None else v for v in values]


def _csv(columns: Iterable[str], rows: Iterable[Any], *, header: bool) -> str:
    names, out = list(columns), io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    if header:
        writer.writerow(names)
    writer.writerows(_cells(row[name] for name in names) for row in rows)
    return out.getvalue()


def _add_papers(routes: APIRouter, service: Service) -> None:
    reader = Depends(service.verifier.needs(READ))

    @routes.get("/invoices/{invoice_id}.pdf", response_class=Response)
    async def invoice_pdf(invoice_id: Id, caller: Caller = reader) -> Response:
        """An invoice as PDF, as it said when it was issued; a draft says that it is one."""
        async with seen_by(service, caller) as tx:
            row = await storage.find(tx, invoice_id, *tenant_of(caller))
            if row is None:
                raise missing("invoice")
            lines = await storage.lines_of(tx, invoice_id)
            payments = await storage.payments_of(tx, invoice_id)
            notes = await storage.credit_notes_of(tx, invoice_id)
        issuer, customer = row["issuer_snapshot"], row["customer_snapshot"]
        async with service.database.transaction() as tx:  # of an issuer the caller may not see
            logo = await logos.find(tx, row["issuer_id"])
            if issuer is None or customer is None:
                issuer = await customers.issuer(tx, customers.EVERYTHING, row["issuer_id"])
                customer = await customers.find_customer(tx, row["customer_id"])
        parties = (issuer, customer, logo)
        async with refusals():
            made = await invoice_papers.invoice(row, lines, payments, notes, *parties)
        return pdf(made, row["number"] or "draft")

    @routes.get("/credit-notes/{note_id}.pdf", response_class=Response)
    async def credit_note_pdf(note_id: Id, caller: Caller = reader) -> Response:
        """A credit note as PDF."""
        async with seen_by(service, caller) as tx:
            note = await storage.credit_note(tx, note_id)
            row = await storage.find(tx, note["invoice_id"]) if note else None
        if note is None or row is None:
            raise missing("credit note")
        async with service.database.transaction() as tx:  # of an issuer the caller may not see
            logo = await logos.find(tx, row["issuer_id"])
        async with refusals():
            made = await invoice_papers.credit_note(note, row, logo)
        return pdf(made, note["number"])


def _add_lists(routes: APIRouter, service: Service) -> None:
    reader = Depends(service.verifier.needs(READ))

    @routes.get("/invoices.csv", response_class=StreamingResponse)
    async def invoices_csv(
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        issuer_id: IdFilter = "",
        customer_id: IdFilter = "",
        caller: Caller = reader,
    ) -> StreamingResponse:
        """Invoices as CSV, newest first; amounts are minor units."""

        async def pages() -> AsyncIterator[str]:
            before, header = "", True
            while True:
                async with seen_by(service, caller) as tx:
                    rows = await storage.page(
                        tx,
                        client_id=client_id,
                        mode=mode,
                        issuer_id=issuer_id,
                        customer_id=customer_id,
                        before=before,
                        limit=PAGE,
                    )
                yield _csv(CSV_COLUMNS, rows, header=header)
                if len(rows) < PAGE:
                    return
                before, header = rows[-1]["id"], False

        return StreamingResponse(pages(), media_type="text/csv", headers=csv_headers("invoices"))


async def _issuer_and_day(
    tx: Tx, caller: Caller, issuer_id: str, mode: str, as_of: dt.date | None
) -> tuple[Any, dt.date]:
    """Return the issuer a statement is of, and its day; raises Problem 404 or 422."""
    day(as_of)
    row = (
        await customers.issuer(tx, customers.EVERYTHING, issuer_id)
        if issuer_id
        else await customers.issuer_of(tx, caller.client_id, mode)
    )
    if row is None:
        raise missing("issuer")
    return row, as_of or dt.datetime.now(ZoneInfo(row["time_zone"])).date()


def _add_ageing(routes: APIRouter, service: Service) -> None:
    reader = Depends(service.verifier.needs(READ))

    @routes.get("/ageing")
    async def ageing(
        mode: Mode,
        issuer_id: IdFilter = "",
        customer_id: IdFilter = "",
        as_of: DayQuery = None,
        cursor: Cursor = "",
        limit: Limit = 50,
        caller: Caller = reader,
    ) -> Ageing:
        """What was open at the end of a day, by age and customer; of the caller's own issuer."""
        currency, _, last = cursor.partition("@")
        async with seen_by(service, caller) as tx:
            issuer, on = await _issuer_and_day(tx, caller, issuer_id, mode, as_of)
            totals = await storage.ageing_totals(tx, issuer["id"], on, customer_id)
            rows = await storage.ageing_customers(
                tx,
                issuer["id"],
                on,
                customer_id=customer_id,
                after=(currency, last),
                limit=limit + 1,
            )
        items = [CustomerAges(**dict(row)) for row in rows[:limit]]
        more = f"{items[-1].currency}@{items[-1].customer_id}" if len(rows) > limit else None
        return Ageing(
            issuer_id=issuer["id"],
            as_of=on,
            totals=[Ages(**dict(row)) for row in totals],
            items=items,
            next_cursor=more,
        )

    @routes.get("/ageing.csv", response_class=StreamingResponse)
    async def ageing_csv(
        mode: Mode, issuer_id: IdFilter = "", as_of: DayQuery = None, caller: Caller = reader
    ) -> StreamingResponse:
        """The ageing statement as CSV; amounts are minor units."""
        async with seen_by(service, caller) as tx:
            issuer, on = await _issuer_and_day(tx, caller, issuer_id, mode, as_of)

        async def pages() -> AsyncIterator[str]:
            after, header = ("", ""), True
            while True:
                async with seen_by(service, caller) as tx:
                    rows = await storage.ageing_customers(
                        tx, issuer["id"], on, after=after, limit=PAGE
                    )
                yield _csv(AGEING_COLUMNS, rows, header=header)
                if len(rows) < PAGE:
                    return
                after, header = (rows[-1]["currency"], rows[-1]["customer_id"]), False

        name = f"ageing-{on}"
        return StreamingResponse(pages(), media_type="text/csv", headers=csv_headers(name))

    @routes.get("/ageing.pdf", response_class=Response)
    async def ageing_pdf(
        mode: Mode,
        issuer_id: IdFilter = "",
        customer_id: IdFilter = "",
        as_of: DayQuery = None,
        caller: Caller = reader,
    ) -> Response:
        """The ageing statement as PDF; with a customer, that customer's statement of account."""
        limit = invoice_papers.ENTRY_LIMIT
        async with seen_by(service, caller) as tx:
            issuer, on = await _issuer_and_day(tx, caller, issuer_id, mode, as_of)
            totals = await storage.ageing_totals(tx, issuer["id"], on, customer_id)
            rows = await storage.ageing_customers(
                tx, issuer["id"], on, customer_id=customer_id, limit=limit
            )
            logo = await logos.find(tx, issuer["id"])
            one, behind = None, []
            if customer_id:
                one = await customers.find_customer(tx, customer_id)
                if one is None:
                    raise missing("customer")
                behind = await storage.ageing_invoices(tx, issuer["id"], on, customer_id, limit)
        async with refusals():
            made = await invoice_papers.ageing(issuer, on, totals, rows, one, behind, logo)
        return pdf(made, f"ageing-{on}")


def _add_fees(routes: APIRouter, service: Service) -> None:
    reader = Depends(service.verifier.needs(READ))

    @routes.get("/fee-invoices")
    async def fee_months(
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        month: Annotated[dt.date | None, Query(description="the first day of a month")] = None,
        cursor: Annotated[str, Query(max_length=120, pattern=r"^[\x21-\x7e]*$")] = "",
        limit: Limit = 50,
        caller: Caller = reader,
    ) -> FeeMonths:
        """Closed months with what the journal said and which invoice told of it."""
        parts = cursor.split("@")
        last = DAYS[0]
        if len(parts) == 4 and parts[3].isdecimal() and len(parts[3]) == 8:
            last = _read_day(parts[3])
        after = (parts[0], parts[1], parts[2], last) if len(parts) == 4 else ("", "", "", last)
        async with seen_by(service, caller) as tx:
            rows = await fee_invoices.page(
                tx,
                client_id=client_id,
                mode=mode,
                month=day(month, "month"),
                after=after,
                limit=limit + 1,
            )
        items = [FeeMonth(**dict(row)) for row in rows[:limit]]
        more = None
        if len(rows) > limit:
            end = items[-1]
            more = f"{end.client_id}@{end.mode}@{end.currency}@{end.month:%Y%m%d}"
        return FeeMonths(items=items, next_cursor=more)


def _read_day(digits: str) -> dt.date:
    try:
        return dt.datetime.strptime(digits, "%Y%m%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return DAYS[0]
