"""Bodies of the directory's routes: what is sent, what comes back, what is refused by name."""

import datetime as dt
import zoneinfo
from typing import Annotated, Any

from mospay_shared.contracts import AppV1, FieldDefinitionV1, LimitsV1, ServiceV1
from mospay_shared.money import MoneyError, exponent
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mospay_portal_api.domain import EMAIL_PATTERN, ROLES


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


def _base_url(value: dict[str, str]) -> dict[str, str]:
    for mode, url in value.items():
        if mode not in ("live", "test"):
            raise ValueError("keys are live and test")
        if not url.startswith(("https://", "http://")) or len(url) > 500:
            raise ValueError("must be absolute http(s) addresses")
    return value


Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["RWF"]), AfterValidator(_currency)]
TimeZone = Annotated[str, Field(examples=["Africa/Kigali"]), AfterValidator(_time_zone)]
Urls = Annotated[dict[str, str], AfterValidator(_base_url)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class Body(BaseModel):
    """A request body: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class NewCompany(Body):
    """A legal owner of clients."""

    name: Name


class Company(BaseModel):
    """A company."""

    id: str
    name: str
    version: int
    created_at: dt.datetime


class AppIds(Body):
    """App IDs wished for; generated where left out."""

    live: str | None = Field(None, pattern="^[A-Za-z0-9_]{3,40}$")
    test: str | None = Field(None, pattern="^[A-Za-z0-9_]{3,40}$")


class NewClient(Body):
    """A client of a company, with an App ID for each mode."""

    company_id: str = Field(max_length=80)
    name: Name
    currency: Currency
    time_zone: TimeZone = "UTC"
    answer_wait_seconds: int = Field(30, ge=1, le=120)
    app_ids: AppIds = Field(default_factory=AppIds)


class Client(BaseModel):
    """A client."""

    id: str
    company_id: str
    company_name: str
    name: str
    currency: str
    time_zone: str
    apps: list[AppV1]
    active: bool
    version: int
    created_at: dt.datetime


class ClientChange(Body):
    """What to change, and the version that was read."""

    name: Name | None = None
    active: bool | None = None
    version: int


class NewService(Body):
    """A service of a microservice."""

    microservice: str = Field(pattern="^[A-Za-z0-9_]{1,40}$", examples=["mtnmomorwa"])
    name: str = Field(pattern="^[A-Za-z0-9_]{1,40}$", examples=["collection"])
    title: Name
    currency: Currency
    urls: Urls
    routes: list[Annotated[str, Field(pattern="^[A-Za-z0-9_]{1,40}$")]] = Field(
        min_length=1, max_length=20
    )
    fields: list[FieldDefinitionV1] = Field(default_factory=list, max_length=60)
    limits: LimitsV1 = Field(default_factory=LimitsV1)
    payer_window_seconds: int = Field(900, ge=10, le=7 * 86_400)
    provider_timeout_seconds: float = Field(10, gt=0, le=120)
    connector: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _limits_in_order(self) -> "NewService":
        low, high = self.limits.min_minor, self.limits.max_minor
        if low is not None and high is not None and low > high:
            raise ValueError("limits.min_minor is larger than limits.max_minor")
        return self


class ServiceChange(Body):
    """What to change of a service, and the version that was read."""

    title: Name | None = None
    urls: Urls | None = None
    limits: LimitsV1 | None = None
    fields: list[FieldDefinitionV1] | None = None
    payer_window_seconds: int | None = Field(None, ge=10, le=7 * 86_400)
    provider_timeout_seconds: float | None = Field(None, gt=0, le=120)
    connector: dict[str, Any] | None = None
    active: bool | None = None
    version: int


class ServiceOut(ServiceV1):
    """A service as it is."""

    id: str


class NewAssignment(Body):
    """Let a client use a service."""

    client_id: str = Field(max_length=80)
    service_id: str = Field(max_length=80)


class Assignment(BaseModel):
    """An assignment."""

    id: str
    client_id: str
    service_id: str
    active: bool
    version: int


class Switch(Body):
    """On or off, and the version that was read."""

    active: bool
    version: int


class NewCredential(Body):
    """An API password or an API key for a mode."""

    mode: str = Field(pattern="^(live|test)$")
    kind: str = Field(pattern="^(api_password|api_key)$")


class CreatedCredential(BaseModel):
    """The secret is shown this once and can't be read again."""

    credential_id: str
    kind: str
    mode: str
    app_id: str
    username: str | None = None
    password: str | None = None
    api_key: str | None = None


class Credential(BaseModel):
    """A credential as it may be seen: its user name or prefix, never its secret."""

    id: str
    kind: str
    mode: str
    app_id: str
    lookup: str
    revoked: bool
    expires_at: dt.datetime | None
    created_at: dt.datetime


class NewEndpoint(Body):
    """A webhook endpoint."""

    mode: str = Field(pattern="^(live|test)$")
    url: str = Field(max_length=2000)
    event_types: list[str] = Field(default_factory=list, max_length=50)


class CreatedEndpoint(BaseModel):
    """The secret is shown this once."""

    endpoint_id: str
    secret: str


class NewUser(Body):
    """A person; a password is generated where none is given."""

    company_id: str | None = None
    audience: str = Field(pattern="^(client|admin)$")
    name: Name
    email: str = Field(pattern=EMAIL_PATTERN, max_length=254)
    role: str = Field("owner", max_length=20)
    password: str | None = Field(None, min_length=12, max_length=1024)

    @model_validator(mode="after")
    def _belongs(self) -> "NewUser":
        if (self.audience == "client") != (self.company_id is not None):
            raise ValueError("a client user has a company_id, an admin has none")
        if self.role not in ROLES[self.audience]:
            raise ValueError(f"role must be one of {', '.join(ROLES[self.audience])}")
        return self


class CreatedUser(BaseModel):
    """The generated password is shown this once."""

    id: str
    password: str | None
