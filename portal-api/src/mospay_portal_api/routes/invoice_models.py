"""Invoices and customers as browsers send them; what the ledger answers is passed on as it is."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mospay_portal_api.routes.bodies import BIGINT, Body

Version = Annotated[int, Field(ge=1, le=BIGINT)]
Minor = Annotated[int, Field(ge=0, le=2**53)]
Points = Annotated[int, Field(ge=0, le=10_000)]


class IssuerIn(Body):
    """Who invoices are from; `version` as it was read, 0: none yet."""

    name: str = Field(max_length=200, examples=["Kigali Books Ltd"])
    address: str | None = Field(None, max_length=500)
    tax_id: str | None = Field(None, max_length=60)
    email: str | None = Field(None, max_length=254)
    phone: str | None = Field(None, max_length=32)
    colour: str = Field("#1f4b99", max_length=7)
    time_zone: str = Field("UTC", max_length=64)
    locale: str = Field("en", max_length=12)
    footer: str | None = Field(None, max_length=500)
    payment_terms_days: int = Field(14, ge=0, le=365)
    fee_tax_bps: Points = 0
    invoice_prefix: str = Field("INV", max_length=8)
    credit_prefix: str = Field("CRN", max_length=8)
    version: int = Field(0, ge=0, le=BIGINT)


class CustomerIn(Body):
    """Whom invoices are for; `version` as it was read when it is changed."""

    client_ref: str | None = Field(None, max_length=80, examples=["C-17"])
    name: str = Field(max_length=200, examples=["Amélie Uwase"])
    email: str | None = Field(None, max_length=254)
    phone: str | None = Field(None, max_length=32, examples=["+250788123456"])
    address: str | None = Field(None, max_length=500)
    tax_id: str | None = Field(None, max_length=60)
    locale: str = Field("en", max_length=12)
    active: bool = True
    portal_enabled: bool | None = Field(
        None, description="may have a login; absent: off when made, else as it is", examples=[True]
    )
    version: Version | None = None


class InvoiceLineIn(Body):
    """A line: quantity is a decimal, amounts are minor units, shares basis points."""

    description: str = Field(max_length=300, examples=["School books"])
    quantity: str = Field("1", max_length=20, examples=["2.5"])
    unit_price_minor: Minor = Field(examples=[1500])
    discount_bps: Points | None = None
    discount_minor: Minor | None = None
    tax_rate_bps: Points = 0
    tax_inclusive: bool = False


class InvoiceIn(Body):
    """A draft; `version` as it was read when it is changed."""

    customer_id: str = Field(max_length=80)
    currency: str = Field(pattern="^[A-Z]{3}$", examples=["RWF"])
    lines: list[InvoiceLineIn] = Field(default_factory=list, max_length=500)
    due_on: str | None = Field(None, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    allow_partial: bool = False
    notes: str | None = Field(None, max_length=500)
    reference: str | None = Field(None, max_length=80)
    version: Version | None = None


class InvoiceStep(Body):
    """A step; with `version` it is refused if somebody changed the invoice since."""

    version: Version | None = None


class InvoiceVoid(InvoiceStep):
    """Why it does not stand."""

    reason: str = Field(min_length=3, max_length=300)


class InvoiceCredit(InvoiceStep):
    """How much is credited, tax included, and why."""

    amount_minor: int = Field(ge=1, le=2**53)
    reason: str = Field(min_length=3, max_length=300)


class CreditUse(Body):
    """How much of the customer's credit is used; null: as far as it goes."""

    amount_minor: int | None = Field(None, ge=1, le=2**53)


class Passed(BaseModel):
    """What the ledger answered: its openapi.json has the shape."""

    model_config = ConfigDict(extra="allow")


class PassedPage(BaseModel):
    """A page of what the ledger has; `next_cursor` is null at the end."""

    model_config = ConfigDict(extra="allow")

    items: list[dict[str, Any]]
    next_cursor: str | None
