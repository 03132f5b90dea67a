"""What payers send and are shown; amounts are minor units of one currency."""

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field

from mospay_portal_api.domain.payers import PASSWORD_LEAST, PASSWORD_MOST
from mospay_portal_api.domain.people import EMAIL_PATTERN
from mospay_portal_api.routes.bodies import BIGINT, Body

EXAMPLE_CUSTOMER = "cus_019aa51c000070008000000000000011"
EXAMPLE_TOKEN = "uN5vZ0m2qFh8x1c7Jr4kT9bW3yLpE6aD"  # noqa: S105 # opens nothing


class PayerSignIn(Body):
    """A payer's login. `customer_id` chooses where one password opens several accounts."""

    email: str = Field(max_length=254, examples=["amelie@example.org"])
    password: str = Field(min_length=1, max_length=1024, examples=["a long one of yours"])
    customer_id: str | None = Field(None, max_length=80, examples=[None])


class NewPassword(Body):
    """A link's token with the password to have from now on."""

    token: str = Field(max_length=80, examples=[EXAMPLE_TOKEN])
    password: str = Field(
        max_length=1024,
        description=f"{PASSWORD_LEAST} to {PASSWORD_MOST} characters",
        examples=["a long one of yours"],
    )


class LinkToken(Body):
    """A link's token."""

    token: str = Field(max_length=80, examples=[EXAMPLE_TOKEN])


class Address(Body):
    """An e-mail address."""

    email: str = Field(max_length=254, pattern=EMAIL_PATTERN, examples=["amelie@example.org"])


class Details(Body):
    """How a payer is reached, as it shall be; `version` as it was read. The e-mail address has a
    path of its own: it moves once it is proven.
    """

    name: str = Field(min_length=1, max_length=200, examples=["Amélie Uwase"])
    phone: str | None = Field(None, max_length=32, examples=["+250788123456"])
    address: str | None = Field(None, max_length=500, examples=["KN 4 Ave\nKigali"])
    locale: str = Field("en", max_length=12, examples=["fr"])
    version: int = Field(ge=1, le=BIGINT, examples=[3])


class PayInvoice(Body):
    """A wish to pay: all that is open, or a part where the issuer takes parts."""

    phone: str = Field(max_length=32, examples=["+250780000000"])
    amount_minor: int | None = Field(None, ge=1, le=2**53, examples=[None])
    service: str | None = Field(None, max_length=40, examples=["collection"])


class PayerUser(BaseModel):
    """Who is signed in."""

    customer_id: str = Field(examples=[EXAMPLE_CUSTOMER])
    name: str = Field(examples=["Amélie Uwase"])
    email: str = Field(examples=["amelie@example.org"])
    mode: str = Field(examples=["live"])
    locale: str = Field(examples=["en"])
    issuer_name: str = Field(examples=["Akaliza Shop"])


class PayerSession(BaseModel):
    """A payer's session; changes must carry `csrf_token` in the header X-CSRF-Token."""

    user: PayerUser
    csrf_token: str = Field(examples=["p9Jd0vY2m3Qx"])
    expires_at: dt.datetime = Field(examples=["2026-11-21T10:15:00Z"])


class Brand(BaseModel):
    """Who sends the invoices."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(examples=["Akaliza Shop"])
    email: str | None = Field(None, examples=["billing@shop.example"])
    phone: str | None = Field(None, examples=[None])
    colour: str = Field(examples=["#1f4b99"])


class Credit(BaseModel):
    """What a payer has with its issuer."""

    currency: str = Field(examples=["RWF"])
    amount_minor: int = Field(examples=[500])


class Me(BaseModel):
    """A payer as the ledger has it."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(examples=[EXAMPLE_CUSTOMER])
    mode: str = Field(examples=["live"])
    name: str = Field(examples=["Amélie Uwase"])
    email: str | None = Field(None, examples=["amelie@example.org"])
    phone: str | None = Field(None, examples=["+250788123456"])
    address: str | None = Field(None, examples=["KN 4 Ave\nKigali"])
    locale: str = Field(examples=["en"])
    version: int = Field(examples=[3])
    credit: list[Credit]
    issuer: Brand


class PortalAccess(BaseModel):
    """A customer's way into the portal.

    `state`: off (switched off or given up), no_email, making (the account is not here yet), ready
    (to be invited), invited, active.
    """

    customer_id: str = Field(examples=[EXAMPLE_CUSTOMER])
    state: str = Field(examples=["invited"])
    email: str | None = Field(examples=["amelie@example.org"])
    invited_at: dt.datetime | None = Field(None, examples=["2026-11-21T08:00:00Z"])
    invite_until: dt.datetime | None = Field(None, examples=["2026-11-28T08:00:00Z"])
    last_login_at: dt.datetime | None = Field(None, examples=[None])


class Armed(BaseModel):
    """Where a mail's link leads, below the portal's address; in this answer and nowhere else."""

    path: str = Field(examples=[f"/portal/invite/{EXAMPLE_TOKEN}"])
