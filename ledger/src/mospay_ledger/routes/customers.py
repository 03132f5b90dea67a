"""Issuers and customers: who sends invoices, and to whom; lists in and out as CSV."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.domain import customer_list
from mospay_ledger.domain.customer_list import EMAIL, LOCALE, PHONE, REFERENCE
from mospay_ledger.routes.billing import (
    READ,
    WRITE,
    Cursor,
    Id,
    IdFilter,
    Name,
    Ref,
    Text,
    Version,
    csv_headers,
    missing,
    refusals,
    seen_by,
    view_of,
)
from mospay_ledger.routes.common import EXAMPLE_CLIENT, EXAMPLE_TIME, AnyMode, ClientFilter, Limit
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import customers as storage
from mospay_ledger.usecases import customers as usecases

EXAMPLE_ISSUER = "iss_019aa51c000070008000000000000010"
EXAMPLE_CUSTOMER = "cus_019aa51c000070008000000000000011"
PAGE = 500  # rows an export reads at a time
Prefix = Annotated[str, Field(pattern="^[A-Z]{1,8}$")]
Email = Annotated[str, Field(max_length=254, pattern=EMAIL)]
Phone = Annotated[str, Field(pattern=PHONE)]
Search = Annotated[str, Query(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class IssuerFields(BaseModel):
    """Who an invoice is from, as its papers say. Days are counted in `time_zone` (IANA).

    `fee_tax_bps` is the tax within the fees that the operator invoices.
    """

    name: Name = Field(examples=["Kigali Books Ltd"])
    address: Text | None = Field(None, examples=["KN 4 Ave\nKigali"])
    tax_id: Annotated[str, Field(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    email: Email | None = Field(None, examples=["billing@books.example"])
    phone: Phone | None = Field(None, examples=["+250788123456"])
    colour: str = Field("#1f4b99", pattern="^#[0-9a-f]{6}$")
    time_zone: str = Field("UTC", max_length=64, pattern="^[A-Za-z0-9_+/-]+$")
    locale: str = Field("en", pattern=LOCALE)
    footer: Text | None = Field(None, examples=["Thank you"])
    payment_terms_days: int = Field(14, ge=0, le=365)
    fee_tax_bps: int = Field(0, ge=0, le=10_000)
    invoice_prefix: Prefix = Field("INV", examples=["INV"])
    credit_prefix: Prefix = Field("CRN", examples=["CRN"])


class IssuerIn(IssuerFields):
    """An issuer to make (`version` 0) or to change as it was read.

    A client has one in each mode. For the operator: without `client_id` it is the operator's own.
    """

    client_id: Ref | None = Field(None, examples=[EXAMPLE_CLIENT])
    mode: Literal["live", "test"] = Field(examples=["test"])
    version: int = Field(0, ge=0, le=2**63 - 1)


class IssuerBody(IssuerFields):
    """An issuer as it is."""

    id: str = Field(examples=[EXAMPLE_ISSUER])
    kind: Literal["operator", "client"] = Field(examples=["client"])
    client_id: str | None = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    version: int = Field(examples=[1])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class Issuers(BaseModel):
    """A page of issuers in id order; `next_cursor` is null at the end."""

    items: list[IssuerBody]
    next_cursor: str | None = Field(examples=[None])


class CustomerFields(BaseModel):
    """Whom invoices are for. `client_ref` is the issuer's own name for it, unique."""

    client_ref: Annotated[str, Field(pattern=REFERENCE)] | None = Field(None, examples=["C-17"])
    name: Name = Field(examples=["Amélie Uwase"])
    email: Email | None = Field(None, examples=["amelie@example.org"])
    phone: Phone | None = Field(None, examples=["+250788123456"])
    address: Text | None = None
    tax_id: Annotated[str, Field(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    locale: str = Field("en", pattern=LOCALE)
    active: bool = True
    portal_enabled: bool | None = Field(
        None, description="may have a login; absent: off when made, else as it is", examples=[True]
    )


class CustomerIn(CustomerFields):
    """A customer to make. The operator names an issuer, or the mode of its own."""

    issuer_id: Ref | None = Field(None, examples=[EXAMPLE_ISSUER])
    mode: Literal["live", "test"] | None = Field(None, examples=["test"])


class CustomerChange(CustomerFields):
    """A customer as it shall be; `version` as it was read."""

    version: Version


class CustomerBody(CustomerFields):
    """A customer as it is; `recipient_client_id` names the client the operator invoices."""

    portal_enabled: bool = Field(examples=[True])
    id: str = Field(examples=[EXAMPLE_CUSTOMER])
    issuer_id: str = Field(examples=[EXAMPLE_ISSUER])
    client_id: str | None = Field(examples=[EXAMPLE_CLIENT])
    recipient_client_id: str | None = Field(examples=[None])
    mode: str = Field(examples=["test"])
    version: int = Field(examples=[1])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    updated_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class CreditBody(BaseModel):
    """What a customer has with its issuer in one currency, minor units."""

    currency: str = Field(examples=["RWF"])
    amount_minor: int = Field(examples=[500])


class CustomerDetail(CustomerBody):
    """A customer with its credit."""

    credit: list[CreditBody]


class Customers(BaseModel):
    """A page of customers, newest first; `next_cursor` is null at the end."""

    items: list[CustomerBody]
    next_cursor: str | None = Field(examples=[None])


class Imported(BaseModel):
    """How many of a list's customers are new, changed, and as they were."""

    created: int = Field(examples=[12])
    updated: int = Field(examples=[3])
    unchanged: int = Field(examples=[85])


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about issuers and customers."""
    _add_issuers(routes, service)
    _add_lists(routes, service, settings)
    _add_customers(routes, service)


def _add_issuers(routes: APIRouter, service: Service) -> None:
    reader, writer = (Depends(service.verifier.needs(scope)) for scope in (READ, WRITE))

    @routes.get("/issuers")
    async def issuers(
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        cursor: Cursor = "",
        limit: Limit = 50,
        caller: Caller = reader,
    ) -> Issuers:
        """Issuers in id order; a client sees its own."""
        async with seen_by(service, caller) as tx:
            rows = await storage.issuers(
                tx, client_id=client_id, mode=mode, after=cursor, limit=limit + 1
            )
        items = [IssuerBody(**dict(row)) for row in rows[:limit]]
        return Issuers(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.put("/issuers")
    async def put_issuer(body: IssuerIn, caller: Caller = writer) -> IssuerBody:
        """Make or change an issuer; a client its own."""
        view, client_id = view_of(caller), body.client_id
        if view.client_id is not None:
            if body.client_id not in (None, view.client_id) or body.mode != view.mode:
                raise Problem(403, "own_issuer_only", "A client has its own issuer alone")
            client_id = view.client_id
        fields = body.model_dump(exclude={"client_id", "mode", "version"})
        async with refusals(), service.database.transaction() as tx:
            row = await usecases.put_issuer(tx, client_id, body.mode, body.version, fields)
        return IssuerBody(**dict(row))


def _add_lists(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    reader, writer = (Depends(service.verifier.needs(scope)) for scope in (READ, WRITE))

    @routes.post(
        "/customer-imports",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"text/csv": {"schema": {"type": "string"}}},
            }
        },
    )
    async def import_customers(
        request: Request,
        issuer_id: IdFilter = "",
        mode: AnyMode = "",
        caller: Caller = writer,
    ) -> Imported:
        """Bring in a CSV list of customers by `client_ref`: all of it, or every fault in it."""
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > settings.customer_list_bytes:
                title = f"A list has at most {settings.customer_list_bytes} bytes: send it in parts"
                raise Problem(413, "too_large", title)
        view = view_of(caller)
        async with refusals():
            rows = customer_list.read(content, row_limit=settings.customer_list_rows)
            async with service.database.transaction() as tx:
                issuer = await usecases.issuer_for(tx, view, issuer_id or None, mode or None)
                created, updated = await usecases.bring_in(tx, service.relay, issuer, rows)
        unchanged = len(rows) - created - updated
        return Imported(created=created, updated=updated, unchanged=unchanged)

    @routes.get("/customers.csv", response_class=StreamingResponse)
    async def export_customers(
        issuer_id: IdFilter = "", mode: AnyMode = "", caller: Caller = reader
    ) -> StreamingResponse:
        """All customers as CSV, newest first, in the shape an import takes."""

        async def pages() -> AsyncIterator[str]:
            before, header = "", True
            while True:
                async with seen_by(service, caller) as tx:
                    rows = await storage.customers(
                        tx, mode=mode, issuer_id=issuer_id, before=before, limit=PAGE
                    )
                yield customer_list.written(rows, header=header)
                if len(rows) < PAGE:
                    return
                before, header = rows[-1]["id"], False

        return StreamingResponse(pages(), media_type="text/csv", headers=csv_headers("customers"))


def _add_customers(routes: APIRouter, service: Service) -> None:
    reader, writer = (Depends(service.verifier.needs(scope)) for scope in (READ, WRITE))

    @routes.get("/customers")
    async def customers(
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        issuer_id: IdFilter = "",
        q: Search = "",
        active: bool | None = None,
        cursor: Cursor = "",
        limit: Limit = 50,
        caller: Caller = reader,
    ) -> Customers:
        """Customers, newest first; q: a part of name, e-mail, phone, tax id or reference."""
        async with seen_by(service, caller) as tx:
            rows = await storage.customers(
                tx,
                client_id=client_id,
                mode=mode,
                issuer_id=issuer_id,
                search=q,
                active=active,
                before=cursor,
                limit=limit + 1,
            )
        items = [CustomerBody(**dict(row)) for row in rows[:limit]]
        return Customers(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.post("/customers", status_code=201)
    async def create(body: CustomerIn, caller: Caller = writer) -> CustomerBody:
        """Make a customer."""
        view, fields = view_of(caller), _fields(body)
        async with refusals(), service.database.transaction() as tx:
            issuer = await usecases.issuer_for(tx, view, body.issuer_id, body.mode)
            row = await usecases.create(tx, service.relay, issuer, fields)
        return CustomerBody(**dict(row))

    @routes.get("/customers/{customer_id}")
    async def customer(customer_id: Id, caller: Caller = reader) -> CustomerDetail:
        """One customer with its credit."""
        async with seen_by(service, caller) as tx:
            row = await storage.find_customer(tx, customer_id)
            if row is None:
                raise missing("customer")
            credit = await storage.credit_of(tx, customer_id)
        return CustomerDetail(**dict(row), credit=[CreditBody(**dict(c)) for c in credit])

    @routes.put("/customers/{customer_id}")
    async def change(
        customer_id: Id, body: CustomerChange, caller: Caller = writer
    ) -> CustomerBody:
        """Change a customer as it was read; `active` false is how one is given up."""
        view = view_of(caller)
        async with seen_by(service, caller) as tx:  # the second wall: row-level security
            if await storage.find_customer(tx, customer_id) is None:
                raise missing("customer")
        async with refusals(), service.database.transaction() as tx:
            row = await usecases.change(
                tx, service.relay, view, customer_id, body.version, _fields(body)
            )
        return CustomerBody(**dict(row))


def _fields(body: CustomerFields) -> dict[str, Any]:
    return body.model_dump(include=set(CustomerFields.model_fields))
