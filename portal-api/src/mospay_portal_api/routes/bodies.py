"""Request bodies of the directory. Unknown fields are refused by name, every limit is stated."""

import math
import zoneinfo
from collections.abc import Collection
from typing import Annotated, Any

from mospay_shared.contracts import FieldDefinitionV1, LimitsV1
from mospay_shared.money import MoneyError, exponent
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from mospay_portal_api.domain.errors import Fault, Invalid
from mospay_portal_api.domain.people import EMAIL_PATTERN

BIGINT = 2**63 - 1
VALUES_LIMIT = 20_000  # keys and values of one body


def storable_faults(body: Any) -> list[Fault]:
    """Return what of a JSON body no database or message can hold, place by place.

    PostgreSQL's text has no NUL, UTF-8 has no lone surrogates, JSON has no NaN and an integer
    column 64 bits; the first two can hide in any string and in any key.
    """
    faults: list[Fault] = []
    waiting: list[tuple[str, Any]] = [("", body)]
    seen = 0
    while waiting and len(faults) < 20 and seen < VALUES_LIMIT:
        place, value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += [(f"{place}.{_printable(k)}".lstrip("."), v) for k, v in value.items()]
            waiting += [(f"{place}.{_printable(k)}".lstrip("."), k) for k in value]
        elif isinstance(value, list):
            waiting += [(f"{place}.{n}".lstrip("."), one) for n, one in enumerate(value)]
        elif isinstance(value, str) and ("\x00" in value or not _encodable(value)):
            faults.append(Fault(place or "body", "invalid_text", "has characters that are no text"))
        elif isinstance(value, float) and not math.isfinite(value):
            faults.append(Fault(place or "body", "finite_number", "must be a finite number"))
        elif isinstance(value, int) and abs(value) > BIGINT:
            faults.append(Fault(place or "body", "out_of_range", "has more than 64 bits"))
    if seen >= VALUES_LIMIT:
        faults.append(Fault("body", "too_many_values", f"has more than {VALUES_LIMIT} values"))
    return faults


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(key: str) -> str:
    return key.encode("ascii", "backslashreplace").decode().replace("\x00", "\\x00")[:80]


def _currency(value: str) -> str:
    try:
        exponent(value)
    except MoneyError as error:
        raise ValueError(str(error)) from error
    return value


def _time_zone(value: str) -> str:
    if value not in zoneinfo.available_timezones():
        raise ValueError("is not an IANA time zone such as Africa/Kigali")
    return value


Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["RWF"]), AfterValidator(_currency)]
TimeZone = Annotated[
    str, Field(max_length=64, examples=["Africa/Kigali"]), AfterValidator(_time_zone)
]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), Field()
]
Mode = Annotated[str, Field(pattern="^(live|test)$")]
AppId = Annotated[str, Field(pattern="^[A-Za-z0-9_]{3,40}$")]
Word = Annotated[str, Field(pattern="^[A-Za-z0-9_]{1,40}$")]
Urls = Annotated[dict[str, Annotated[str, Field(max_length=500)]], Field(max_length=2)]
RatePerMinute = Annotated[int, Field(ge=1, le=10_000_000, description="calls a minute")]
Version = Annotated[int, Field(ge=1, le=BIGINT, description="the version that was read")]


class Body(BaseModel):
    """A request body: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, body: Any) -> Any:
        if faults := storable_faults(body):
            raise Invalid(faults)
        return body


def changed_values(body: Body, *, may_be_null: Collection[str]) -> dict[str, Any]:
    """Return what a change names, as JSON; null changes nothing but what may be null."""
    given = body.model_dump(mode="json", include=body.model_fields_set - {"version"})
    return {key: value for key, value in given.items() if value is not None or key in may_be_null}


class SignIn(Body):
    """A login; client users and the operator's admins are separate audiences."""

    email: str = Field(max_length=254, examples=["owner@akaliza.example"])
    password: str = Field(min_length=1, max_length=1024, examples=["a long one"])
    audience: str = Field(pattern="^(client|admin)$", examples=["client"])


class NewCompany(Body):
    """A legal owner of clients."""

    name: Name


class AppIds(Body):
    """App IDs wished for; generated where left out."""

    live: AppId | None = None
    test: AppId | None = None


class NewClient(Body):
    """A client of a company, with an App ID for each mode."""

    company_id: str = Field(max_length=80)
    name: Name
    currency: Currency
    time_zone: TimeZone = "UTC"
    answer_wait_seconds: int = Field(30, ge=1, le=120)
    rate_per_minute: RatePerMinute | None = None
    app_ids: AppIds = Field(default_factory=AppIds)


class ClientChange(Body):
    """What to change, and the version that was read; a rate of null is the gateway's own."""

    name: Name | None = None
    active: bool | None = None
    answer_wait_seconds: int | None = Field(None, ge=1, le=120)
    rate_per_minute: RatePerMinute | None = None
    version: Version


class NewService(Body):
    """A service of a microservice; `urls` maps a mode to its connector's base address."""

    microservice: Word = Field(examples=["mtnmomorwa"])
    name: Word = Field(examples=["collection"])
    title: Name
    currency: Currency
    urls: Urls
    routes: list[Word] = Field(min_length=1, max_length=20)
    fields: list[FieldDefinitionV1] = Field(default_factory=list, max_length=60)
    limits: LimitsV1 = Field(default_factory=LimitsV1)
    payer_window_seconds: int = Field(900, ge=10, le=7 * 86_400)
    provider_timeout_seconds: float = Field(10, gt=0, le=120)
    connector: dict[str, Any] = Field(default_factory=dict, max_length=50)
    rate_per_minute: RatePerMinute | None = Field(None, description="payments, of all clients")


class ServiceChange(Body):
    """What to change of a service, and the version that was read."""

    title: Name | None = None
    urls: Urls | None = None
    routes: list[Word] | None = Field(None, min_length=1, max_length=20)
    limits: LimitsV1 | None = None
    fields: list[FieldDefinitionV1] | None = Field(None, max_length=60)
    payer_window_seconds: int | None = Field(None, ge=10, le=7 * 86_400)
    provider_timeout_seconds: float | None = Field(None, gt=0, le=120)
    connector: dict[str, Any] | None = Field(None, max_length=50)
    rate_per_minute: RatePerMinute | None = Field(None, description="null takes the limit away")
    active: bool | None = None
    version: Version


class NewAssignment(Body):
    """Let a client use a service; its own limits are at most as wide as the service's."""

    client_id: str = Field(max_length=80)
    service_id: str = Field(max_length=80)
    limits: LimitsV1 = Field(default_factory=LimitsV1)
    answer_wait_seconds: int | None = Field(None, ge=1, le=120)


class AssignmentChange(Body):
    """What to change, and the version that was read; an answer wait of null is the client's."""

    active: bool = True
    limits: LimitsV1 = Field(default_factory=LimitsV1, description="replaces all of them")
    answer_wait_seconds: int | None = Field(None, ge=1, le=120)
    version: Version


class NewCredential(Body):
    """An API password or an API key for a mode."""

    mode: Mode
    kind: str = Field(pattern="^(api_password|api_key)$")
    rate_per_minute: RatePerMinute | None = None


class CredentialChange(Body):
    """The rate of a credential (null: none of its own), and the version that was read."""

    rate_per_minute: RatePerMinute | None
    version: Version


class NewEndpoint(Body):
    """A webhook endpoint; without event types it gets every end of a payment."""

    mode: Mode
    url: str = Field(max_length=2000)
    event_types: list[Annotated[str, Field(max_length=80)]] = Field(
        default_factory=list, max_length=50
    )


class NewUser(Body):
    """A person; a password is generated where none is given."""

    company_id: str | None = Field(None, max_length=80)
    audience: str = Field(pattern="^(client|admin)$")
    name: Name
    email: str = Field(pattern=EMAIL_PATTERN, max_length=254)
    role: str = Field("owner", max_length=20)
    password: str | None = Field(None, min_length=12, max_length=1024)
