"""What a guest with a link sees and does, for portal-api's pages.

Portal-api hashes the token it got and asks with the hash: the token itself is in no path, log or
trace of the house, and what is stored here opens nothing at the portal's door.
"""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from mospay_shared.money import MAX_MINOR
from pydantic import BaseModel, ConfigDict, Field

from mospay_ledger.domain.paying import Tenant, Wish
from mospay_ledger.routes.billing import decimal_text, pdf, refusals
from mospay_ledger.routes.common import EXAMPLE_TIME
from mospay_ledger.routes.logos import image
from mospay_ledger.routes.paying import (
    EXAMPLE_INTENT,
    EXAMPLE_INVOICE,
    Name,
    Phone,
    paying_refusals,
)
from mospay_ledger.usecases import invoice_papers, links
from mospay_ledger.usecases.links import Seen
from mospay_ledger.usecases.paying import Till

Digest = Annotated[
    str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the token, hexadecimal")
]


class GuestLine(BaseModel):
    """A line of the invoice; amounts in minor units of its currency."""

    description: str = Field(examples=["Tea, 1 kg"])
    quantity: str = Field(examples=["2"])
    unit_price_minor: int = Field(examples=[2500])
    discount_minor: int = Field(examples=[0])
    tax_minor: int = Field(examples=[0])
    total_minor: int = Field(examples=[5000])


class GuestMethod(BaseModel):
    """A way to pay."""

    service: str = Field(examples=["collection"])
    label: str = Field(examples=["Mobile money"])


class GuestPayment(BaseModel):
    """The latest payment that was started; ids stay inside."""

    id: str = Field(examples=[EXAMPLE_INTENT])
    state: str = Field(examples=["posted"])
    payment_status: str | None = Field(None, examples=["processing"])
    amount_minor: int = Field(examples=[5000])
    phone_masked: str = Field(examples=["**********000"])
    reason_code: str | None = Field(None, examples=[None])
    reason_message: str | None = Field(None, examples=[None])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    ended_at: dt.datetime | None = Field(None, examples=[None])


class GuestLogo(BaseModel):
    """The issuer's logo; another image has another digest. Width and height in pixels."""

    digest: str = Field(
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
    )
    width: int = Field(examples=[640])
    height: int = Field(examples=[160])


class GuestStatus(BaseModel):
    """How an invoice stands; `locked` while a payment is under way. `locale`: the customer's."""

    number: str = Field(examples=["INV-2026-000042"])
    status: str = Field(examples=["issued"])
    mode: str = Field(examples=["test"])
    currency: str = Field(examples=["RWF"])
    total_minor: int = Field(examples=[5000])
    paid_minor: int = Field(examples=[0])
    open_minor: int = Field(examples=[5000])
    due_on: dt.date = Field(examples=["2026-12-05"])
    locked: bool = Field(examples=[False])
    issuer_name: str = Field(examples=["Akaliza Shop"])
    colour: str = Field(examples=["#1f4b99"])
    locale: str = Field(examples=["en"])
    logo: GuestLogo | None = None
    payment: GuestPayment | None = None


class GuestInvoice(GuestStatus):
    """An invoice as its guest sees it."""

    invoice_id: str = Field(examples=[EXAMPLE_INVOICE])
    tax_minor: int = Field(examples=[0])
    discount_minor: int = Field(examples=[0])
    credited_minor: int = Field(examples=[0])
    issued_on: dt.date = Field(examples=["2026-11-21"])
    allow_partial: bool = Field(examples=[False])
    notes: str | None = Field(None, examples=[None])
    reference: str | None = Field(None, examples=[None])
    issuer_email: str | None = Field(None, examples=["billing@shop.example"])
    issuer_phone: str | None = Field(None, examples=[None])
    customer_name: str = Field(examples=["Keza Uwase"])
    lines: list[GuestLine]
    methods: list[GuestMethod]


class GuestPay(BaseModel):
    """A guest's wish to pay: one of the listed methods, all that is open unless parts are taken."""

    model_config = ConfigDict(extra="forbid")

    phone: Phone = Field(examples=["+250780000000"])
    amount_minor: int | None = Field(None, gt=0, le=MAX_MINOR, examples=[None])
    service: Name | None = Field(None, examples=["collection"])


def status_of(seen: Seen) -> dict[str, Any]:
    """Return how an invoice stands, the fields of GuestStatus."""
    row, intent = seen.invoice, seen.latest
    same = GuestStatus.model_fields.keys() - {"locked", "payment", "logo"}
    payment = logo = None
    if row["logo_digest"] is not None:
        logo = GuestLogo(**{name: row[f"logo_{name}"] for name in GuestLogo.model_fields})
    if intent is not None:
        payment = GuestPayment(
            **{name: getattr(intent, name) for name in GuestPayment.model_fields}
        )
    return {
        **{name: row[name] for name in same},
        "locked": row["locked_by"] is not None,
        "logo": logo,
        "payment": payment,
    }


def invoice_of(seen: Seen) -> GuestInvoice:
    """Return an invoice as whoever pays it sees it."""
    row = seen.invoice
    own = set(GuestInvoice.model_fields) - set(GuestStatus.model_fields)
    own -= {"invoice_id", "lines", "methods"}
    return GuestInvoice(
        **status_of(seen),
        **{name: row[name] for name in own},
        invoice_id=row["id"],
        lines=[
            GuestLine(
                quantity=decimal_text(line["quantity"]),
                **{n: line[n] for n in GuestLine.model_fields if n != "quantity"},
            )
            for line in seen.lines
        ],
        methods=[GuestMethod(service=m.service, label=m.label) for m in seen.methods],
    )


def add(routes: APIRouter, service: Service, till: Till) -> None:
    """Add the routes."""
    needs = service.verifier.needs("invoices:guest")
    database = service.database

    def portal(caller: Caller = Depends(needs)) -> None:
        if caller.issuer != "portal-api" or not caller.operator:
            raise Problem(403, "not_allowed", "Only portal-api speaks for guests")

    @routes.get("/guest/{digest}", dependencies=[Depends(portal)])
    async def view(digest: Digest) -> GuestInvoice:
        """The invoice behind a link, counted as a use; 404 for one that does not hold."""
        async with paying_refusals():
            return invoice_of(await links.see(database, bytes.fromhex(digest), count=True))

    @routes.get("/guest/{digest}/status", dependencies=[Depends(portal)])
    async def status(digest: Digest) -> GuestStatus:
        """How the invoice stands and how its latest payment goes."""
        async with paying_refusals():
            seen = await links.see(database, bytes.fromhex(digest), count=False, lines=False)
        return GuestStatus(**status_of(seen))

    @routes.post("/guest/{digest}/pay", status_code=202, dependencies=[Depends(portal)])
    async def pay(digest: Digest, body: GuestPay) -> GuestStatus:
        """Start paying the invoice; 409 (`intent_id`) while another payment of it is under way."""
        token_hash = bytes.fromhex(digest)
        async with paying_refusals():
            link = await links.follow(database, token_hash)
            wish = Wish(
                phone=body.phone,
                amount_minor=body.amount_minor,
                service=body.service,
                listed=True,
                link_id=link["id"],
            )
            await till.pay(link["invoice_id"], wish, Tenant(), by=link["id"])
            seen = await links.see(database, token_hash, count=False, lines=False)
        return GuestStatus(**status_of(seen))

    @routes.get("/guest/{digest}/pdf", response_class=Response, dependencies=[Depends(portal)])
    async def paper(digest: Digest) -> Response:
        """The invoice as PDF, as it said when it was issued."""
        async with paying_refusals():
            found = await links.paper(database, bytes.fromhex(digest))
        async with refusals():
            made = await invoice_papers.invoice(
                found.invoice,
                found.lines,
                found.payments,
                found.notes,
                found.invoice["issuer_snapshot"],
                found.invoice["customer_snapshot"],
                found.logo,
            )
        return pdf(made, found.invoice["number"])

    @routes.get("/guest/{digest}/logo", response_class=Response, dependencies=[Depends(portal)])
    async def logo(digest: Digest, request: Request) -> Response:
        """The logo of the invoice's issuer, the image itself; 404 where it has none."""
        async with paying_refusals():
            return image(await links.logo(database, bytes.fromhex(digest)), request)
