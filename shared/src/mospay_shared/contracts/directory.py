"""The directory on the wire: companies, clients, services, assignments, gateway credentials.

Each entity carries a `version` that rises with every change, guards the upsert of every replica,
and `deleted` as a tombstone: deletions are never silent, so nothing is resurrected by a snapshot.
"""

import datetime as dt
from typing import Annotated, Any

from pydantic import Field

from mospay_shared.contracts.envelope import Contract
from mospay_shared.contracts.payments import Currency, Id, Minor, Mode

Version = Annotated[int, Field(ge=1, le=2**63 - 1)]
RatePerMinute = Annotated[int, Field(ge=1, le=10_000_000)]


class CompanyV1(Contract):
    """`directory.company_changed.v1`."""

    company_id: Id
    name: str = Field(max_length=200)
    version: Version
    deleted: bool = False


class AppV1(Contract):
    """An App ID of a client; a mode has exactly one."""

    app_id: str = Field(pattern=r"^[A-Za-z0-9_]{3,40}$")
    mode: Mode


class ClientV1(Contract):
    """`directory.client_changed.v1`."""

    client_id: Id
    company_id: Id
    name: str = Field(max_length=200)
    apps: list[AppV1] = Field(max_length=2)
    currency: Currency
    time_zone: str = Field(max_length=64)
    answer_wait_seconds: int = Field(30, ge=1, le=120)
    rate_per_minute: RatePerMinute | None = None
    active: bool
    version: Version
    deleted: bool = False


class FieldDefinitionV1(Contract):
    """What a service wants in one field (f000…, f011… are client-defined)."""

    code: str = Field(pattern=r"^f[0-9]{3}$")
    label: str = Field(max_length=100)
    type: str = Field("text", pattern=r"^(text|number|phone|amount|email|date|secret)$")
    required: bool = True
    regex: str | None = Field(None, max_length=300)
    min_length: int | None = Field(None, ge=0)
    max_length: int | None = Field(None, ge=0, le=10_000)
    min_value: str | None = Field(None, max_length=40)
    max_value: str | None = Field(None, max_length=40)
    enum: list[str] | None = Field(None, max_length=200)
    mask: bool = False
    order: int = 0
    example: str | None = Field(None, max_length=200)


class LimitsV1(Contract):
    """Limits of a service, minor units of its currency; null means none.

    `daily_minor` is what one client may take in one of its days, `daily_phone_minor` what one phone
    number may pay to one client in one of the client's days.
    """

    min_minor: Minor | None = None
    max_minor: Minor | None = None
    daily_minor: Minor | None = None
    daily_phone_minor: Minor | None = None


class ServiceV1(Contract):
    """`directory.service_changed.v1`: a sellable service of one microservice.

    `urls` maps mode to the connector's base URL; a mode that is missing can't be used.
    """

    service_id: Id
    microservice: str = Field(pattern=r"^[A-Za-z0-9_]{1,40}$")
    name: str = Field(pattern=r"^[A-Za-z0-9_]{1,40}$")
    title: str = Field(max_length=200)
    currency: Currency
    urls: dict[str, str]
    routes: list[str] = Field(max_length=20)
    fields: list[FieldDefinitionV1] = Field(default_factory=list, max_length=60)
    limits: LimitsV1 = Field(default_factory=LimitsV1)
    payer_window_seconds: int = Field(900, ge=10, le=7 * 86_400)
    provider_timeout_seconds: float = Field(10, gt=0, le=120)
    connector: dict[str, Any] = Field(default_factory=dict)
    rate_per_minute: RatePerMinute | None = None
    active: bool
    version: Version
    deleted: bool = False


class AssignmentV1(Contract):
    """`directory.assignment_changed.v1`: a client may use a service.

    `limits` are the client's own: of each limit the stricter one of service and assignment holds.
    """

    assignment_id: Id
    client_id: Id
    service_id: Id
    limits: LimitsV1 = Field(default_factory=LimitsV1)
    answer_wait_seconds: int | None = Field(None, ge=1, le=120)
    active: bool
    version: Version
    deleted: bool = False


class CredentialV1(Contract):
    """`directory.credential_changed.v1`: travels on `mospay.commands` to the gateway alone.

    `kind` is `api_password` (lookup = user name, hash = HMAC-SHA256 with the shared pepper, hex) or
    `api_key` (lookup = its prefix, hash = SHA-256 of the secret part, hex). Never the secret.
    """

    credential_id: Id
    client_id: Id
    app_id: str = Field(max_length=40)
    mode: Mode
    kind: str = Field(pattern=r"^(api_password|api_key)$")
    lookup: str = Field(max_length=80)
    secret_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    expires_at: dt.datetime | None = None
    revoked: bool = False
    rate_per_minute: RatePerMinute | None = None
    version: Version


class IpRuleV1(Contract):
    """`directory.ip_rule_changed.v1`: addresses that are refused, or the only ones a client uses.

    A `deny` rule without `client_id` holds for everybody. A client with any `allow` rule in force
    is heard from those addresses alone. `cidr` is IPv4 or IPv6 (`203.0.113.0/24`).
    """

    ip_rule_id: Id
    client_id: str | None = Field(None, max_length=80)
    kind: str = Field(pattern=r"^(allow|deny)$")
    cidr: str = Field(max_length=50)
    expires_at: dt.datetime | None = None
    note: str | None = Field(None, max_length=200)
    active: bool = True
    version: Version
    deleted: bool = False


class SnapshotRequestedV1(Contract):
    """`directory.snapshot_requested.v1` (command to portal-api): a service starts empty."""

    request_id: Id
    requested_by: str = Field(max_length=40)
    credentials: bool = False


class SnapshotPartV1(Contract):
    """`directory.snapshot_part.v1`: some of the directory as of `high_water`, tombstones included.

    Every replica applies it by version per entity. `last` closes the snapshot of `request_id`.
    """

    request_id: Id
    requested_by: str = Field(max_length=40)
    part: int = Field(ge=1)
    last: bool
    high_water: int = Field(ge=0)
    companies: list[CompanyV1] = Field(default_factory=list, max_length=100)
    clients: list[ClientV1] = Field(default_factory=list, max_length=100)
    services: list[ServiceV1] = Field(default_factory=list, max_length=100)
    assignments: list[AssignmentV1] = Field(default_factory=list, max_length=100)
    ip_rules: list[IpRuleV1] = Field(default_factory=list, max_length=100)


class CredentialsPartV1(Contract):
    """`directory.credentials_part.v1` (command to the gateway): credentials of a snapshot."""

    request_id: Id
    part: int = Field(ge=1)
    last: bool
    credentials: list[CredentialV1] = Field(default_factory=list, max_length=100)
