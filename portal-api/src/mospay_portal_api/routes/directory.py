"""The directory for the operator's admins: companies, clients, services, credentials, users."""

import base64
import datetime as dt
import secrets
import zoneinfo
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from mospay_shared.contracts import AppV1, FieldDefinitionV1, LimitsV1, ServiceV1
from mospay_shared.ids import new_id
from mospay_shared.money import MoneyError, exponent
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mospay_portal_api.domain import EMAIL_PATTERN, ROLES, NotFound, Person, api_key, api_password
from mospay_portal_api.routes.context import Context
from mospay_portal_api.storage import directory as store
from mospay_portal_api.usecases import directory, people


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


def _service(row: Any) -> ServiceOut:
    return ServiceOut(id=row["id"], **directory.service_body(row).model_dump())


def companies_router(context: Context) -> APIRouter:
    """Return the routes of companies, clients and users."""
    routes = APIRouter(prefix="/bff/v1", tags=["directory"])
    database, relay = context.service.database, context.service.relay
    admin = Depends(context.admin)

    @routes.get("/companies")
    async def companies(_: Person = admin) -> list[Company]:
        """All companies."""
        async with database.transaction() as tx:
            return [Company(**dict(row)) for row in await store.companies(tx)]

    @routes.post("/companies", status_code=201)
    async def create_company(body: NewCompany, person: Person = admin) -> Company:
        """Make a company."""
        async with database.transaction() as tx:
            made = await directory.create_company(tx, relay, person.user_id, body.name)
            rows = {row["id"]: row for row in await store.companies(tx)}
        return Company(**dict(rows[made]))

    @routes.get("/clients")
    async def clients(_: Person = admin) -> list[Client]:
        """All clients."""
        async with database.transaction() as tx:
            rows = await store.clients(tx)
        return [Client(**dict(row)) for row in rows if not row["deleted"]]

    @routes.post("/clients", status_code=201)
    async def create_client(body: NewClient, person: Person = admin) -> Client:
        """Make a client."""
        apps = {
            mode: getattr(body.app_ids, mode) or f"app_{mode}_{secrets.token_hex(5)}"
            for mode in ("live", "test")
        }
        values = body.model_dump(exclude={"app_ids"})
        async with database.transaction() as tx:
            row = await directory.create_client(tx, relay, person.user_id, values, apps)
        return Client(**dict(row))

    @routes.patch("/clients/{client_id}")
    async def change_client(client_id: str, body: ClientChange, person: Person = admin) -> Client:
        """Rename, activate or deactivate a client."""
        async with database.transaction() as tx:
            row = await directory.change_client(
                tx, relay, person.user_id, client_id, body.version, body.name, body.active
            )
        return Client(**dict(row))

    @routes.post("/users", status_code=201)
    async def create_user(body: NewUser, person: Person = admin) -> CreatedUser:
        """Make a person's login."""
        generated = None if body.password else secrets.token_urlsafe(18)
        hashed = await people.hash_password(body.password or str(generated))
        async with database.transaction() as tx:
            if body.company_id and not await store.company_exists(tx, body.company_id):
                raise NotFound("There is no such company")
            user_id = await people.create_user(
                tx,
                **body.model_dump(exclude={"password"}),
                password_hash=hashed,
                actor=person.user_id,
            )
        return CreatedUser(id=user_id, password=generated)

    return routes


def services_router(context: Context) -> APIRouter:
    """Return the routes of services and assignments."""
    routes = APIRouter(prefix="/bff/v1", tags=["directory"])
    database, relay = context.service.database, context.service.relay
    admin = Depends(context.admin)

    @routes.get("/services")
    async def services(_: Person = admin) -> list[ServiceOut]:
        """All services."""
        async with database.transaction() as tx:
            return [_service(row) for row in await store.services(tx) if not row["deleted"]]

    @routes.post("/services", status_code=201)
    async def create_service(body: NewService, person: Person = admin) -> ServiceOut:
        """Make a service."""
        async with database.transaction() as tx:
            row = await directory.create_service(
                tx, relay, person.user_id, body.model_dump(mode="json")
            )
        return _service(row)

    @routes.patch("/services/{service_id}")
    async def change_service(
        service_id: str, body: ServiceChange, person: Person = admin
    ) -> ServiceOut:
        """Change a service; later payments see it, accepted ones don't."""
        changes = body.model_dump(mode="json", exclude={"version"}, exclude_none=True)
        async with database.transaction() as tx:
            row = await directory.change_service(
                tx, relay, person.user_id, service_id, body.version, changes
            )
        return _service(row)

    @routes.get("/assignments")
    async def assignments(_: Person = admin) -> list[Assignment]:
        """All assignments."""
        async with database.transaction() as tx:
            rows = await store.assignments(tx)
        return [Assignment(**dict(row)) for row in rows if not row["deleted"]]

    @routes.post("/assignments", status_code=201)
    async def assign(body: NewAssignment, person: Person = admin) -> dict[str, str]:
        """Let a client use a service."""
        async with database.transaction() as tx:
            made = await directory.assign(
                tx, relay, person.user_id, body.client_id, body.service_id
            )
        return {"id": made}

    @routes.patch("/assignments/{assignment_id}")
    async def switch(assignment_id: str, body: Switch, person: Person = admin) -> Assignment:
        """Switch an assignment on or off."""
        async with database.transaction() as tx:
            row = await directory.switch_assignment(
                tx, relay, person.user_id, assignment_id, body.version, body.active
            )
        return Assignment(**dict(row))

    return routes


def credentials_router(context: Context) -> APIRouter:
    """Return the routes of credentials and webhook endpoints."""
    routes = APIRouter(prefix="/bff/v1", tags=["credentials"])
    database, relay = context.service.database, context.service.relay
    pepper = base64.b64decode(context.settings.credential_pepper.get_secret_value())
    admin = Depends(context.admin)

    @routes.get("/clients/{client_id}/credentials")
    async def credentials(client_id: str, _: Person = admin) -> list[Credential]:
        """A client's credentials, newest first."""
        async with database.transaction() as tx:
            rows = await store.credentials(tx, client_id)
        return [Credential(**dict(row)) for row in rows]

    @routes.post("/clients/{client_id}/credentials", status_code=201)
    async def create(
        client_id: str, body: NewCredential, person: Person = admin
    ) -> CreatedCredential:
        """Make a credential; its secret is in this answer and nowhere else."""
        async with database.transaction() as tx:
            app_id = await store.app_id(tx, client_id, body.mode) or new_id("none")
            made = (
                api_password(app_id, pepper) if body.kind == "api_password" else api_key(body.mode)
            )
            credential_id, app_id = await directory.add_credential(
                tx, relay, person.user_id, client_id, body.mode, body.kind, made
            )
        return CreatedCredential(
            credential_id=credential_id,
            kind=body.kind,
            mode=body.mode,
            app_id=app_id,
            **made.shown,
        )

    @routes.delete("/credentials/{credential_id}", status_code=204)
    async def revoke(credential_id: str, person: Person = admin) -> Response:
        """Revoke a credential."""
        async with database.transaction() as tx:
            await directory.revoke_credential(tx, relay, person.user_id, credential_id)
        return Response(status_code=204)

    @routes.get("/clients/{client_id}/endpoints")
    async def endpoints(client_id: str, person: Person = admin) -> list[dict[str, Any]]:
        """A client's webhook endpoints."""
        found = await context.house.call(
            "notifier",
            "/internal/v1/endpoints",
            "endpoints:read",
            person,
            query={"client_id": client_id},
        )
        return list(found or [])

    @routes.post("/clients/{client_id}/endpoints", status_code=201)
    async def create_endpoint(
        client_id: str, body: NewEndpoint, person: Person = admin
    ) -> CreatedEndpoint:
        """Make a webhook endpoint; its secret is in this answer and nowhere else."""
        async with database.transaction() as tx:
            if await store.client(tx, client_id) is None:
                raise NotFound("There is no such client")
        made = await context.house.call(
            "notifier",
            "/internal/v1/endpoints",
            "endpoints:write",
            person,
            body={"client_id": client_id, **body.model_dump()},
        )
        return CreatedEndpoint(**made)

    return routes
