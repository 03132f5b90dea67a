"""`/v1/invoices`, `/v1/customers`: what a client invoices, and what it is invoiced for."""

import datetime as dt
from enum import Enum
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from mospay_shared.contracts import InvoiceStatus
from mospay_shared.ids import is_id
from pydantic import BaseModel, Field

from mospay_gateway.domain.errors import Fault, InvalidRequest
from mospay_gateway.routes.books import (
    CURRENCY,
    INVOICES,
    PageQuery,
    check_cursor,
    filters,
    identify,
    pass_on,
    path_id,
    show,
)
from mospay_gateway.routes.parts import Parts

TAGS: list[str | Enum] = ["invoices"]


class InvoicesQuery(PageQuery):
    """What a list of invoices is narrowed to. `received` ones are the operator's, of your fees."""

    direction: Literal["sent", "received"] = "sent"
    status: InvoiceStatus | None = None
    currency: str | None = Field(None, pattern=CURRENCY)
    customer_id: str | None = None
    number: str | None = Field(None, pattern=r"^[A-Z0-9-]{1,40}$", examples=["INV-2026-000042"])


class CustomersQuery(PageQuery):
    """What a list of customers is narrowed to."""

    q: str | None = Field(
        None, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$",
        description="a part of name, e-mail, phone, tax id or reference",
    )  # fmt: skip
    active: bool | None = None


class Invoice(BaseModel):
    """An invoice, minor units. `open_minor` = total - paid - credited, 0 for drafts and void ones.

    `locked_by` names the payment intent under way. Days are of the issuer's calendar.
    """

    id: str
    issuer_id: str
    mode: str
    customer_id: str
    customer_name: str
    number: str | None
    status: InvoiceStatus
    currency: str
    total_minor: int
    tax_minor: int
    discount_minor: int
    paid_minor: int
    credited_minor: int
    open_minor: int
    allow_partial: bool
    locked_by: str | None
    due_on: dt.date | None
    issued_on: dt.date | None
    issued_at: dt.datetime | None
    voided_at: dt.datetime | None
    void_reason: str | None
    notes: str | None
    reference: str | None
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


class InvoiceLine(BaseModel):
    """A line with what it comes to: total = net + tax. `quantity` is an exact decimal."""

    line: int
    description: str
    quantity: str
    unit_price_minor: int
    discount_bps: int | None
    discount_minor: int
    tax_rate_bps: int
    tax_inclusive: bool
    service_id: str | None
    net_minor: int
    tax_minor: int
    total_minor: int


class InvoicePayment(BaseModel):
    """A payment of an invoice; `applied_minor` of it was still open, the rest is credit."""

    payment_id: str
    source: Literal["payment", "netted", "credit"]
    amount_minor: int
    applied_minor: int
    at: dt.datetime


class CreditNote(BaseModel):
    """A credit note; `applied_minor` lowered what was open, the rest is the customer's credit."""

    id: str
    invoice_id: str
    number: str
    currency: str
    total_minor: int
    tax_minor: int
    applied_minor: int
    reason: str
    issued_on: dt.date
    issued_at: dt.datetime


class OneInvoice(Invoice):
    """An invoice with its lines, payments and credit notes."""

    lines: list[InvoiceLine]
    payments: list[InvoicePayment]
    credit_notes: list[CreditNote]


class Invoices(BaseModel):
    """Invoices, newest first. `next_cursor` is null on the last page."""

    items: list[Invoice]
    next_cursor: str | None


class Customer(BaseModel):
    """Whom you invoice; `client_ref` is your own name for them."""

    id: str
    mode: str
    client_ref: str | None
    name: str
    email: str | None
    phone: str | None
    address: str | None
    tax_id: str | None
    locale: str
    active: bool
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


class InvoiceCustomers(BaseModel):
    """Customers, newest first. `next_cursor` is null on the last page."""

    items: list[Customer]
    next_cursor: str | None


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    @routes.get("/v1/invoices", tags=TAGS, response_model=Invoices)
    async def get_invoices(query: Annotated[InvoicesQuery, Query()], request: Request) -> Response:
        """Invoices you sent, or received, newest first."""
        caller, tenant = identify(parts, request)
        check_cursor(query, "inv")
        if query.customer_id is not None and not is_id(query.customer_id, "cus"):
            raise InvalidRequest([Fault("customer_id", "invalid_id", "is not a customer's id")])
        asked = {**filters(query), **tenant}
        if asked.pop("direction") == "received":
            asked["recipient_client_id"] = asked.pop("client_id")
        return await show(parts, caller, "/invoices", asked, Invoices, INVOICES)

    # before the path below, which would take its ending for a part of the id
    @routes.get("/v1/invoices/{invoice_id}.pdf", tags=TAGS, response_class=Response)
    async def get_invoice_pdf(invoice_id: str, request: Request) -> Response:
        """An invoice as PDF, as it said when it was issued; a draft says that it is one."""
        caller, _ = identify(parts, request)
        path = f"/invoices/{path_id(invoice_id, 'inv')}.pdf"
        return await pass_on(parts, caller, path, {}, INVOICES)

    @routes.get("/v1/invoices/{invoice_id}", tags=TAGS, response_model=OneInvoice)
    async def get_invoice(invoice_id: str, request: Request) -> Response:
        """One invoice with its lines, payments and credit notes."""
        caller, _ = identify(parts, request)
        path = f"/invoices/{path_id(invoice_id, 'inv')}"
        return await show(parts, caller, path, {}, OneInvoice, INVOICES)

    @routes.get("/v1/customers", tags=TAGS, response_model=InvoiceCustomers)
    async def get_customers(
        query: Annotated[CustomersQuery, Query()], request: Request
    ) -> Response:
        """The customers you invoice, newest first."""
        caller, tenant = identify(parts, request)
        check_cursor(query, "cus")
        asked = {**filters(query), **tenant}
        return await show(parts, caller, "/customers", asked, InvoiceCustomers, INVOICES)
