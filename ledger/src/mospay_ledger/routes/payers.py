"""What a payer with a login sees and does, for portal-api: itself, its invoices, its statement.

A token names one customer. It bounds every statement, row-level security bounds it again, and a
customer whose portal is off is refused here too, however old the session at the portal's door.
"""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, ConfigDict, Field

from mospay_ledger.domain.customer_list import LOCALE
from mospay_ledger.domain.invoices import Row
from mospay_ledger.domain.paying import Tenant, Wish
from mospay_ledger.routes.billing import (
    Cursor,
    Id,
    Name,
    Text,
    Version,
    missing,
    pdf,
    refusals,
    seen_by,
)
from mospay_ledger.routes.common import Limit
from mospay_ledger.routes.customers import EXAMPLE_CUSTOMER, CreditBody, Email, Phone
from mospay_ledger.routes.guest import (
    GuestInvoice,
    GuestLogo,
    GuestPay,
    GuestStatus,
    invoice_of,
    status_of,
)
from mospay_ledger.routes.invoice_papers import Ages
from mospay_ledger.routes.logos import image
from mospay_ledger.routes.paying import EXAMPLE_INVOICE, paying_refusals
from mospay_ledger.storage import customers, invoices, logos, payers
from mospay_ledger.storage.customers import EVERYTHING, View
from mospay_ledger.usecases import customers as usecases
from mospay_ledger.usecases import invoice_papers, links
from mospay_ledger.usecases.paying import Till

SCOPE = "invoices:payer"
STATEMENT_LIMIT = 500  # invoices of a statement; its sums are over all
State = Annotated[Literal["open", "overdue", "paid", ""], Query(description="empty: all")]


class IssuerBrief(BaseModel):
    """Who sends the invoices, as pages and mails show it."""

    name: str = Field(examples=["Akaliza Shop"])
    email: str | None = Field(examples=["billing@shop.example"])
    phone: str | None = Field(examples=[None])
    colour: str = Field(examples=["#1f4b99"])
    logo: GuestLogo | None = None


class Contact(BaseModel):
    """What a payer may change of itself; the e-mail address is verified by the portal."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(examples=["Amélie Uwase"])
    email: Email | None = Field(None, examples=["amelie@example.org"])
    phone: Phone | None = Field(None, examples=["+250788123456"])
    address: Text | None = Field(None, examples=["KN 4 Ave\nKigali"])
    locale: str = Field("en", pattern=LOCALE)


class ContactChange(Contact):
    """A payer as it shall be; `version` as it was read."""

    version: Version


class Payer(Contact):
    """A payer as it is, with its credit and who invoices it."""

    id: str = Field(examples=[EXAMPLE_CUSTOMER])
    mode: str = Field(examples=["test"])
    version: int = Field(examples=[1])
    tax_id: str | None = Field(examples=[None])
    credit: list[CreditBody]
    issuer: IssuerBrief


class PayerInvoice(BaseModel):
    """An issued invoice in a list; `locked` while a payment of it is under way."""

    id: str = Field(examples=[EXAMPLE_INVOICE])
    number: str = Field(examples=["INV-2026-000042"])
    status: str = Field(examples=["issued"])
    currency: str = Field(examples=["RWF"])
    total_minor: int = Field(examples=[5000])
    paid_minor: int = Field(examples=[0])
    credited_minor: int = Field(examples=[0])
    open_minor: int = Field(examples=[5000])
    issued_on: dt.date = Field(examples=["2026-11-21"])
    due_on: dt.date = Field(examples=["2026-12-05"])
    locked: bool = Field(examples=[False])


class PayerInvoices(BaseModel):
    """A page of invoices, newest first; `next_cursor` is null at the end."""

    items: list[PayerInvoice]
    next_cursor: str | None = Field(examples=[None])


class OpenInvoice(BaseModel):
    """An invoice behind a statement; `days` after its due day, negative before it."""

    id: str = Field(examples=[EXAMPLE_INVOICE])
    number: str = Field(examples=["INV-2026-000042"])
    currency: str = Field(examples=["RWF"])
    due_on: dt.date = Field(examples=["2026-12-05"])
    days: int = Field(examples=[-14])
    total_minor: int = Field(examples=[5000])
    open_minor: int = Field(examples=[5000])


class PayerStatement(BaseModel):
    """What is open today, by the issuer's calendar: sums by age, and the invoices behind them."""

    as_of: dt.date = Field(examples=["2026-11-21"])
    totals: list[Ages]
    invoices: list[OpenInvoice]
    credit: list[CreditBody]


@asynccontextmanager
async def _own(service: Service, caller: Caller) -> AsyncIterator[tuple[Tx, Row]]:
    """A transaction that sees one payer's rows, and its customer; raises Problem 403."""
    async with seen_by(service, caller) as tx:
        row = await customers.find_customer(tx, caller.customer_id or "")
        if row is None or not (row["active"] and row["portal_enabled"]):
            raise Problem(403, "portal_off", "This customer has no portal")
        yield tx, row


async def _payer(tx: Tx, row: Row) -> Payer:
    issuer = await customers.issuer(tx, EVERYTHING, row["issuer_id"])
    assert issuer is not None, row["issuer_id"]
    logo = await logos.find(tx, issuer["id"])
    shown = None if logo is None else GuestLogo(**{n: logo[n] for n in GuestLogo.model_fields})
    brief = IssuerBrief(
        **{name: issuer[name] for name in ("name", "email", "phone", "colour")}, logo=shown
    )
    own = (*Contact.model_fields, "id", "mode", "version", "tax_id")
    return Payer(**{name: row[name] for name in own}, credit=await _credit(tx, row), issuer=brief)


async def _credit(tx: Tx, row: Row) -> list[CreditBody]:
    return [CreditBody(**dict(one)) for one in await customers.credit_of(tx, row["id"])]


def add(routes: APIRouter, service: Service, till: Till) -> None:
    """Add the routes."""
    needs = service.verifier.needs(SCOPE)

    def payer(caller: Caller = Depends(needs)) -> Caller:
        named = caller.customer_id and caller.mode in ("live", "test")
        if caller.issuer != "portal-api" or not named:
            raise Problem(403, "not_allowed", "The token must name a customer and a mode")
        return caller

    _add_self(routes, service, payer)
    _add_invoices(routes, service, payer, till)
    _add_statement(routes, service, payer)


def _add_self(routes: APIRouter, service: Service, payer: Any) -> None:
    @routes.get("/payer")
    async def me(caller: Caller = Depends(payer)) -> Payer:
        """The payer itself, and who invoices it."""
        async with _own(service, caller) as (tx, row):
            return await _payer(tx, row)

    @routes.put("/payer")
    async def change(body: ContactChange, caller: Caller = Depends(payer)) -> Payer:
        """Change how the payer is reached, as it was read: never what it owes or is."""
        fields, view = body.model_dump(exclude={"version"}), View(caller.client_id, caller.mode)
        async with _own(service, caller) as (_, row):
            customer_id = row["id"]
        async with refusals(), service.database.transaction() as tx:
            await usecases.change(tx, service.relay, view, customer_id, body.version, fields)
        async with _own(service, caller) as (tx, row):
            return await _payer(tx, row)

    @routes.get("/payer/logo", response_class=Response)
    async def logo(request: Request, caller: Caller = Depends(payer)) -> Response:
        """The logo of the payer's issuer, the image itself; 404 where it has none."""
        async with _own(service, caller) as (tx, row):
            found = await logos.find(tx, row["issuer_id"])
        if found is None:
            raise missing("logo")
        return image(found, request)


def _add_invoices(routes: APIRouter, service: Service, payer: Any, till: Till) -> None:
    @routes.get("/payer/invoices")
    async def page(
        state: State = "",
        cursor: Cursor = "",
        limit: Limit = 50,
        caller: Caller = Depends(payer),
    ) -> PayerInvoices:
        """The payer's invoices, newest first, drafts left out."""
        async with _own(service, caller) as (tx, row):
            rows = await payers.page(
                tx, row["id"], row["mode"], state=state, before=cursor, limit=limit + 1
            )
        items = [PayerInvoice(**dict(one)) for one in rows[:limit]]
        return PayerInvoices(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    async def look(caller: Caller, invoice_id: str, *, lines: bool) -> links.Seen:
        async with _own(service, caller) as (tx, _):
            found = await links.look(tx, invoice_id, lines=lines)
        if found is None:
            raise missing("invoice")
        return found

    @routes.get("/payer/invoices/{invoice_id}")
    async def one(invoice_id: Id, caller: Caller = Depends(payer)) -> GuestInvoice:
        """One invoice with its lines, ways to pay and latest payment."""
        return invoice_of(await look(caller, invoice_id, lines=True))

    @routes.get("/payer/invoices/{invoice_id}/status")
    async def status(invoice_id: Id, caller: Caller = Depends(payer)) -> GuestStatus:
        """How an invoice stands and how its latest payment goes."""
        return GuestStatus(**status_of(await look(caller, invoice_id, lines=False)))

    @routes.post("/payer/invoices/{invoice_id}/pay", status_code=202)
    async def pay(invoice_id: Id, body: GuestPay, caller: Caller = Depends(payer)) -> GuestStatus:
        """Start paying an invoice; 409 (`intent_id`) while another payment of it is under way."""
        await look(caller, invoice_id, lines=False)  # the second wall: row-level security
        wish = Wish(**body.model_dump(), listed=True)
        whose = Tenant(caller.client_id or "", caller.mode or "", caller.customer_id or "")
        async with paying_refusals():
            await till.pay(invoice_id, wish, whose, by=caller.actor)
        return GuestStatus(**status_of(await look(caller, invoice_id, lines=False)))

    @routes.get("/payer/invoices/{invoice_id}/pdf", response_class=Response)
    async def paper(invoice_id: Id, caller: Caller = Depends(payer)) -> Response:
        """An invoice as PDF, as it said when it was issued."""
        async with _own(service, caller) as (tx, _):
            found = await links.paper_of(tx, invoice_id)
        if found is None:
            raise missing("invoice")
        row = found.invoice
        parties = (row["issuer_snapshot"], row["customer_snapshot"], found.logo)
        async with refusals():
            made = await invoice_papers.invoice(
                row, found.lines, found.payments, found.notes, *parties
            )
        return pdf(made, row["number"])


def _add_statement(routes: APIRouter, service: Service, payer: Any) -> None:
    async def gathered(tx: Tx, row: Row) -> tuple[Row, dt.date, list[Any], list[Any]]:
        issuer = await customers.issuer(tx, EVERYTHING, row["issuer_id"])
        assert issuer is not None, row["issuer_id"]
        today = dt.datetime.now(ZoneInfo(issuer["time_zone"])).date()
        totals = await invoices.ageing_totals(tx, issuer["id"], today, row["id"])
        behind = await invoices.ageing_invoices(tx, issuer["id"], today, row["id"], STATEMENT_LIMIT)
        return issuer, today, totals, behind

    @routes.get("/payer/statement")
    async def statement(caller: Caller = Depends(payer)) -> PayerStatement:
        """What is open today, by age; the longest due first, at most 500 invoices."""
        async with _own(service, caller) as (tx, row):
            _, today, totals, behind = await gathered(tx, row)
            credit = await _credit(tx, row)
        return PayerStatement(
            as_of=today,
            totals=[Ages(**dict(one)) for one in totals],
            invoices=[OpenInvoice(**dict(one)) for one in behind],
            credit=credit,
        )

    @routes.get("/payer/statement.pdf", response_class=Response)
    async def paper(caller: Caller = Depends(payer)) -> Response:
        """The statement of account as PDF."""
        async with _own(service, caller) as (tx, row):
            issuer, today, totals, behind = await gathered(tx, row)
            rows = await invoices.ageing_customers(
                tx, issuer["id"], today, customer_id=row["id"], limit=STATEMENT_LIMIT
            )
            logo = await logos.find(tx, issuer["id"])
        async with refusals():
            made = await invoice_papers.ageing(issuer, today, totals, rows, row, behind, logo)
        return pdf(made, f"statement-{today}")
