"""Invoices: drafts, the steps of issued ones, credit notes; what the workers do, by hand."""

import datetime as dt
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.contracts import InvoiceStatus
from pydantic import BaseModel, Field, field_serializer

from mospay_ledger.domain.invoices import LINE_LIMIT, QUANTITY_LIMIT, Line
from mospay_ledger.routes.billing import (
    BIGINT,
    READ,
    WRITE,
    Cursor,
    Day,
    Id,
    IdFilter,
    Minor,
    Ref,
    Text,
    Version,
    decimal_text,
    missing,
    must_see,
    refusals,
    seen_by,
    view_of,
)
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_PAYMENT,
    EXAMPLE_TIME,
    NO_CONTROLS,
    AnyMode,
    ClientFilter,
    Limit,
    operators_only,
    tenant_of,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import invoices as storage
from mospay_ledger.usecases import fee_invoices
from mospay_ledger.usecases import invoices as usecases
from mospay_ledger.usecases.invoices import Draft

EXAMPLE_INVOICE = "inv_019aa51c000070008000000000000012"
EXAMPLE_CUSTOMER = "cus_019aa51c000070008000000000000011"
EXAMPLE_ISSUER = "iss_019aa51c000070008000000000000010"
EXAMPLE_NOTE = "crn_019aa51c000070008000000000000013"
STATUSES = "|".join(InvoiceStatus)
Points = Annotated[int, Field(ge=0, le=10_000)]
Reason = Annotated[str, Field(min_length=3, max_length=300, pattern=NO_CONTROLS)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]


class LineIn(BaseModel):
    """A line to invoice. A discount is a share or an amount; `tax_inclusive`: tax is in the price.

    Each amount of a line is rounded once, half to even; totals are sums of lines.
    """

    description: str = Field(
        min_length=1, max_length=300, pattern=NO_CONTROLS, examples=["School books"]
    )
    quantity: Decimal = Field(
        Decimal(1), gt=0, le=QUANTITY_LIMIT, max_digits=16, decimal_places=6, examples=["2.5"]
    )
    unit_price_minor: Minor = Field(examples=[1500])
    discount_bps: Points | None = Field(None, examples=[1000])
    discount_minor: Minor | None = Field(None, examples=[None])
    tax_rate_bps: Points = Field(0, examples=[1800])
    tax_inclusive: bool = False

    def line(self) -> Line:
        """Return the domain's line."""
        return Line(**self.model_dump())


class DraftFields(BaseModel):
    """What a draft says. Without `due_on` the issuer's payment terms decide at issue."""

    customer_id: Ref = Field(examples=[EXAMPLE_CUSTOMER])
    currency: Currency = Field(examples=["RWF"])
    lines: list[LineIn] = Field(default_factory=list, max_length=LINE_LIMIT)
    due_on: Day | None = Field(None, examples=["2026-12-15"])
    allow_partial: bool = False
    notes: Text | None = None
    reference: Annotated[str, Field(max_length=80, pattern=NO_CONTROLS)] | None = None

    def draft(self) -> Draft:
        """Return the use case's draft."""
        values = self.model_dump(include=set(DraftFields.model_fields) - {"lines"})
        return Draft(lines=tuple(line.line() for line in self.lines), **values)


class DraftChange(DraftFields):
    """A draft as it shall be; `version` as it was read."""

    version: Version


class Step(BaseModel):
    """A step of an invoice; with `version` it is refused if somebody changed it since."""

    version: Version | None = None


class Void(Step):
    """Why an invoice does not stand; its number stays taken."""

    reason: Reason = Field(examples=["Sent to the wrong customer"])


class NewCredit(Step):
    """How much is credited, tax included, and why."""

    amount_minor: Annotated[int, Field(ge=1, le=2**53)] = Field(examples=[500])
    reason: Reason = Field(examples=["Two books came back"])


class UseCredit(BaseModel):
    """How much of the customer's credit pays this invoice; null: as far as it goes."""

    amount_minor: Annotated[int, Field(ge=1, le=2**53)] | None = None


class InvoiceBody(BaseModel):
    """An invoice. `open_minor` = total - paid - credited, 0 for drafts and void ones.

    `locked_by` names the payment intent under way. `due_on` and `issued_on` are days of the
    issuer's calendar.
    """

    id: str = Field(examples=[EXAMPLE_INVOICE])
    issuer_id: str = Field(examples=[EXAMPLE_ISSUER])
    client_id: str | None = Field(examples=[EXAMPLE_CLIENT])
    recipient_client_id: str | None = Field(examples=[None])
    mode: str = Field(examples=["test"])
    customer_id: str = Field(examples=[EXAMPLE_CUSTOMER])
    customer_name: str = Field(examples=["Amélie Uwase"])
    number: str | None = Field(examples=["INV-2026-000001"])
    status: InvoiceStatus = Field(examples=["issued"])
    currency: str = Field(examples=["RWF"])
    total_minor: int = Field(examples=[3983])
    tax_minor: int = Field(examples=[608])
    discount_minor: int = Field(examples=[375])
    paid_minor: int = Field(examples=[0])
    credited_minor: int = Field(examples=[0])
    open_minor: int = Field(examples=[3983])
    allow_partial: bool = Field(examples=[False])
    locked_by: str | None = Field(examples=[None])
    due_on: dt.date | None = Field(examples=["2026-12-15"])
    issued_on: dt.date | None = Field(examples=["2026-12-01"])
    issued_at: dt.datetime | None = Field(examples=[EXAMPLE_TIME])
    voided_at: dt.datetime | None = Field(examples=[None])
    void_reason: str | None = Field(examples=[None])
    notes: str | None = Field(examples=[None])
    reference: str | None = Field(examples=["PO-4"])
    version: int = Field(examples=[2])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    updated_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class LineBody(BaseModel):
    """A line with what it comes to: total = net + tax."""

    line: int = Field(examples=[1])
    description: str = Field(examples=["School books"])
    quantity: Decimal = Field(examples=["2.5"])
    unit_price_minor: int = Field(examples=[1500])
    discount_bps: int | None = Field(examples=[1000])
    discount_minor: int = Field(examples=[375])
    tax_rate_bps: int = Field(examples=[1800])
    tax_inclusive: bool = Field(examples=[False])
    service_id: str | None = Field(examples=[None])
    net_minor: int = Field(examples=[3375])
    tax_minor: int = Field(examples=[608])
    total_minor: int = Field(examples=[3983])

    @field_serializer("quantity")
    def _quantity(self, value: Decimal) -> str:
        return decimal_text(value)


class PaymentBody(BaseModel):
    """A payment of an invoice; `source`: payment, netted (from settlement) or credit.

    `applied_minor` is what of it was still open; the rest is the customer's credit.
    """

    payment_id: str = Field(examples=[EXAMPLE_PAYMENT])
    source: Literal["payment", "netted", "credit"] = Field(examples=["payment"])
    amount_minor: int = Field(examples=[3983])
    applied_minor: int = Field(examples=[3983])
    at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class CreditNoteBody(BaseModel):
    """A credit note; `applied_minor` lowered what was open, the rest is the customer's credit."""

    id: str = Field(examples=[EXAMPLE_NOTE])
    invoice_id: str = Field(examples=[EXAMPLE_INVOICE])
    number: str = Field(examples=["CRN-2026-000001"])
    currency: str = Field(examples=["RWF"])
    total_minor: int = Field(examples=[500])
    tax_minor: int = Field(examples=[76])
    applied_minor: int = Field(examples=[500])
    reason: str = Field(examples=["Two books came back"])
    issued_on: dt.date = Field(examples=["2026-12-02"])
    issued_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    created_by: str | None = Field(examples=["usr_a"])


class InvoiceDetail(InvoiceBody):
    """An invoice with its lines, payments and credit notes."""

    lines: list[LineBody]
    payments: list[PaymentBody]
    credit_notes: list[CreditNoteBody]


class Invoices(BaseModel):
    """A page of invoices, newest first; `next_cursor` is null at the end."""

    items: list[InvoiceBody]
    next_cursor: str | None = Field(examples=[None])


class RunIn(BaseModel):
    """A mode to run; `as_of` stands for today in test mode, so that a month can be rehearsed."""

    mode: Literal["live", "test"] = Field(examples=["test"])
    as_of: Day | None = Field(None, examples=["2026-12-01"])


class RunBody(BaseModel):
    """How many invoices became overdue, how many months of clients were closed."""

    overdue: int = Field(examples=[2])
    fee_invoices: int = Field(examples=[1])


async def detail(tx: Tx, invoice_id: str, client_id: str = "", mode: str = "") -> InvoiceDetail:
    """Return an invoice with all that belongs to it; raises Problem 404."""
    row = await storage.find(tx, invoice_id, client_id, mode)
    if row is None:
        raise missing("invoice")
    lines = await storage.lines_of(tx, invoice_id)
    payments = await storage.payments_of(tx, invoice_id)
    notes = await storage.credit_notes_of(tx, invoice_id)
    return InvoiceDetail(
        **dict(row),
        lines=[LineBody(**dict(line)) for line in lines],
        payments=[PaymentBody(**dict(payment)) for payment in payments],
        credit_notes=[CreditNoteBody(**dict(note)) for note in notes],
    )


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about invoices."""
    _add_reads(routes, service)
    _add_drafts(routes, service)
    _add_steps(routes, service)
    _add_run(routes, service, settings)


def _add_reads(routes: APIRouter, service: Service) -> None:
    reader = Depends(service.verifier.needs(READ))

    @routes.get("/invoices")
    async def invoices(
        client_id: ClientFilter = "",
        recipient_client_id: ClientFilter = "",
        mode: AnyMode = "",
        issuer_id: IdFilter = "",
        customer_id: IdFilter = "",
        status: Annotated[str, Query(pattern=f"^({STATUSES}|)$")] = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        number: Annotated[str, Query(max_length=40, pattern="^[A-Z0-9-]*$")] = "",
        cursor: Cursor = "",
        limit: Limit = 50,
        caller: Caller = reader,
    ) -> Invoices:
        """Invoices, newest first; a client sees its own and those the operator sent it."""
        async with seen_by(service, caller) as tx:
            rows = await storage.page(
                tx,
                client_id=client_id,
                recipient_client_id=recipient_client_id,
                mode=mode,
                issuer_id=issuer_id,
                customer_id=customer_id,
                status=status,
                currency=currency,
                number=number,
                before=cursor,
                limit=limit + 1,
            )
        items = [InvoiceBody(**dict(row)) for row in rows[:limit]]
        return Invoices(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.get("/invoices/{invoice_id}")
    async def invoice(invoice_id: Id, caller: Caller = reader) -> InvoiceDetail:
        """One invoice with its lines, payments and credit notes."""
        async with seen_by(service, caller) as tx:
            return await detail(tx, invoice_id, *tenant_of(caller))

    @routes.get("/credit-notes/{note_id}")
    async def credit_note(note_id: Id, caller: Caller = reader) -> CreditNoteBody:
        """One credit note."""
        async with seen_by(service, caller) as tx:
            row = await storage.credit_note(tx, note_id)
        if row is None:
            raise missing("credit note")
        return CreditNoteBody(**dict(row))


def _add_drafts(routes: APIRouter, service: Service) -> None:
    writer = Depends(service.verifier.needs(WRITE))

    @routes.post("/invoices", status_code=201)
    async def create(body: DraftFields, caller: Caller = writer) -> InvoiceDetail:
        """Make a draft for a customer."""
        view = view_of(caller)
        async with refusals(), service.database.transaction() as tx:
            row = await usecases.create(tx, view, body.draft(), caller.actor)
            return await detail(tx, row["id"])

    @routes.put("/invoices/{invoice_id}")
    async def change(invoice_id: Id, body: DraftChange, caller: Caller = writer) -> InvoiceDetail:
        """Change a draft as it was read; its lines are replaced."""
        view = view_of(caller)
        await must_see(service, caller, invoice_id)
        async with refusals(), service.database.transaction() as tx:
            await usecases.change(tx, view, invoice_id, body.version, body.draft())
            return await detail(tx, invoice_id)

    @routes.delete("/invoices/{invoice_id}", status_code=204, response_class=Response)
    async def drop(
        invoice_id: Id,
        version: Annotated[int, Query(ge=1, le=BIGINT)],
        caller: Caller = writer,
    ) -> Response:
        """Delete a draft as it was read; an issued invoice is voided or credited instead."""
        view = view_of(caller)
        await must_see(service, caller, invoice_id)
        async with refusals(), service.database.transaction() as tx:
            await usecases.drop(tx, view, invoice_id, version)
        return Response(status_code=204)


def _add_steps(routes: APIRouter, service: Service) -> None:
    writer, relay = Depends(service.verifier.needs(WRITE)), service.relay

    async def step(
        caller: Caller, invoice_id: str, act: Callable[[Tx], Awaitable[Any]]
    ) -> InvoiceDetail:
        """Take a step, and show the invoice after it."""
        await must_see(service, caller, invoice_id)
        async with refusals(), service.database.transaction() as tx:
            await act(tx)
            return await detail(tx, invoice_id)

    @routes.post("/invoices/{invoice_id}/issue")
    async def issue(invoice_id: Id, body: Step, caller: Caller = writer) -> InvoiceDetail:
        """Issue a draft: it gets the next number of its series and is never changed again."""
        view = view_of(caller)
        return await step(
            caller,
            invoice_id,
            lambda tx: usecases.issue(tx, relay, view, invoice_id, version=body.version),
        )

    @routes.post("/invoices/{invoice_id}/void")
    async def void(invoice_id: Id, body: Void, caller: Caller = writer) -> InvoiceDetail:
        """Void an issued invoice nothing was paid or credited of."""
        view = view_of(caller)
        return await step(
            caller,
            invoice_id,
            lambda tx: usecases.void(tx, relay, view, invoice_id, body.reason, body.version),
        )

    @routes.post("/invoices/{invoice_id}/credit-notes", status_code=201)
    async def credit(invoice_id: Id, body: NewCredit, caller: Caller = writer) -> InvoiceDetail:
        """Write a credit note; what is beyond the open balance is the customer's credit."""
        view = view_of(caller)
        return await step(
            caller,
            invoice_id,
            lambda tx: usecases.credit(
                tx,
                relay,
                view,
                invoice_id,
                amount_minor=body.amount_minor,
                reason=body.reason,
                version=body.version,
                by=caller.actor,
            ),
        )

    @routes.post("/invoices/{invoice_id}/use-credit")
    async def use_credit(invoice_id: Id, body: UseCredit, caller: Caller = writer) -> InvoiceDetail:
        """Pay what is open from the customer's credit."""
        view = view_of(caller)
        return await step(
            caller,
            invoice_id,
            lambda tx: usecases.use_credit(tx, relay, view, invoice_id, body.amount_minor),
        )


def _add_run(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    writer = Depends(service.verifier.needs(WRITE))

    @routes.post("/invoices/run")
    async def run(body: RunIn, caller: Caller = writer) -> RunBody:
        """Mark overdue invoices and close months of fees now; again until both are 0."""
        operators_only(caller, "Running the invoices")
        if body.as_of is not None and body.mode != "test":
            raise Problem(422, "test_only", "Only test mode may look ahead")
        async with refusals():
            done = await fee_invoices.run(
                service.database,
                service.relay,
                body.mode,
                body.as_of,
                limit=settings.invoice_batch,
                months=settings.fee_months,
            )
        return RunBody(overdue=done.overdue, fee_invoices=done.fee_invoices)
