"""The directory for the operator's admins: companies, clients, services, assignments, users."""

import datetime as dt
import secrets
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from mospay_shared.contracts import AppV1, LimitsV1, ServiceV1
from pydantic import BaseModel, Field

from mospay_portal_api.domain.credentials import generated_password
from mospay_portal_api.domain.errors import Fault, Invalid
from mospay_portal_api.domain.people import ROLES, Person
from mospay_portal_api.routes.bodies import (
    AssignmentChange,
    ClientChange,
    NewAssignment,
    NewClient,
    NewCompany,
    NewService,
    NewUser,
    ServiceChange,
    changed_values,
)
from mospay_portal_api.routes.context import PROBLEMS, Context, Read, Reference, author
from mospay_portal_api.storage import directory as store
from mospay_portal_api.storage.view import seen_by
from mospay_portal_api.usecases import directory, people
from mospay_portal_api.usecases.bodies import service_body


class Company(BaseModel):
    """A company."""

    id: str
    name: str
    version: int
    created_at: dt.datetime


class Client(BaseModel):
    """A client."""

    id: str
    company_id: str
    company_name: str
    name: str
    currency: str
    time_zone: str
    answer_wait_seconds: int
    rate_per_minute: int | None
    apps: list[AppV1]
    active: bool
    confirmed: bool = Field(description="the gateway has acknowledged this version")
    version: int
    created_at: dt.datetime


class ServiceOut(ServiceV1):
    """A service as it is."""

    id: str


class Assignment(BaseModel):
    """An assignment."""

    id: str
    client_id: str
    service_id: str
    limits: LimitsV1
    answer_wait_seconds: int | None
    active: bool
    version: int


class CreatedUser(BaseModel):
    """The generated password is shown this once."""

    id: str
    password: str | None


def _service(row: Any) -> ServiceOut:
    return ServiceOut(id=row["id"], **service_body(row).model_dump())


def _user_faults(body: NewUser) -> list[Fault]:
    faults = []
    if (body.audience == "client") != (body.company_id is not None):
        words = "is required for a client user" if body.company_id is None else "an admin has none"
        faults.append(Fault("company_id", "audience", words))
    if body.role not in ROLES[body.audience]:
        faults.append(Fault("role", "unknown", f"is one of {', '.join(ROLES[body.audience])}"))
    return faults


def companies_router(context: Context) -> APIRouter:
    """Return the routes of companies and users."""
    routes = APIRouter(prefix="/bff/v1", tags=["directory"], responses=PROBLEMS)
    database, relay = context.service.database, context.service.relay
    reads, writes = (Depends(context.needs(f"directory:{what}")) for what in ("read", "write"))

    @routes.get("/companies")
    async def companies(person: Person = reads) -> list[Company]:
        """All companies."""
        async with seen_by(database, person) as tx:
            return [Company(**dict(row)) for row in await store.companies(tx)]

    @routes.post("/companies", status_code=201)
    async def create_company(
        body: NewCompany, request: Request, person: Person = writes
    ) -> Company:
        """Make a company."""
        async with database.transaction() as tx:
            row = await directory.create_company(tx, relay, author(person, request), body.name)
        return Company(**dict(row))

    @routes.delete("/companies/{company_id}", status_code=204, response_class=Response)
    async def delete_company(
        company_id: Reference, version: Read, request: Request, person: Person = writes
    ) -> Response:
        """Delete a company that has no clients any more; its users can't sign in any longer."""
        by = author(person, request)
        async with database.transaction() as tx:
            await directory.delete(tx, relay, by, "company", company_id, version)
        return Response(status_code=204)

    @routes.post("/users", status_code=201)
    async def create_user(
        body: NewUser, request: Request, person: Person = Depends(context.needs("users:write"))
    ) -> CreatedUser:
        """Make a person's login."""
        if faults := _user_faults(body):
            raise Invalid(faults)
        generated = None if body.password else generated_password()
        hashed = await people.hash_password(body.password or str(generated))
        async with database.transaction() as tx:
            user_id = await people.create_user(
                tx,
                **body.model_dump(exclude={"password"}),
                password_hash=hashed,
                by=author(person, request),
            )
        return CreatedUser(id=user_id, password=generated)

    return routes


def clients_router(context: Context) -> APIRouter:
    """Return the routes of clients."""
    routes = APIRouter(prefix="/bff/v1/clients", tags=["directory"], responses=PROBLEMS)
    database, relay = context.service.database, context.service.relay
    reads, writes = (Depends(context.needs(f"directory:{what}")) for what in ("read", "write"))

    @routes.get("")
    async def clients(person: Person = reads) -> list[Client]:
        """All clients."""
        async with seen_by(database, person) as tx:
            return [Client(**dict(row)) for row in await store.clients(tx)]

    @routes.post("", status_code=201)
    async def create_client(body: NewClient, request: Request, person: Person = writes) -> Client:
        """Make a client; App IDs that are not wished for are generated."""
        apps = {
            mode: getattr(body.app_ids, mode) or f"app_{mode}_{secrets.token_hex(5)}"
            for mode in ("live", "test")
        }
        values = body.model_dump(exclude={"app_ids"})
        async with database.transaction() as tx:
            row = await directory.create_client(tx, relay, author(person, request), values, apps)
        return Client(**dict(row))

    @routes.patch("/{client_id}")
    async def change_client(
        client_id: Reference, body: ClientChange, request: Request, person: Person = writes
    ) -> Client:
        """Rename, activate or deactivate a client, set its answer wait and rate."""
        changes = changed_values(body, may_be_null={"rate_per_minute"})
        by = author(person, request)
        async with database.transaction() as tx:
            row = await directory.change_client(tx, relay, by, client_id, body.version, changes)
        return Client(**dict(row))

    @routes.delete("/{client_id}", status_code=204, response_class=Response)
    async def delete_client(
        client_id: Reference, version: Read, request: Request, person: Person = writes
    ) -> Response:
        """Delete a client with its assignments; its credentials are revoked. Payments stay."""
        by = author(person, request)
        async with database.transaction() as tx:
            await directory.delete(tx, relay, by, "client", client_id, version)
        return Response(status_code=204)

    return routes


def services_router(context: Context) -> APIRouter:
    """Return the routes of services."""
    routes = APIRouter(prefix="/bff/v1/services", tags=["directory"], responses=PROBLEMS)
    database, relay = context.service.database, context.service.relay
    reads, writes = (Depends(context.needs(f"directory:{what}")) for what in ("read", "write"))

    @routes.get("")
    async def services(person: Person = reads) -> list[ServiceOut]:
        """All services."""
        async with seen_by(database, person) as tx:
            return [_service(row) for row in await store.services(tx)]

    @routes.post("", status_code=201)
    async def create_service(
        body: NewService, request: Request, person: Person = writes
    ) -> ServiceOut:
        """Make a service."""
        by, values = author(person, request), body.model_dump(mode="json")
        async with database.transaction() as tx:
            row = await directory.create_service(tx, relay, by, values)
        return _service(row)

    @routes.patch("/{service_id}")
    async def change_service(
        service_id: Reference, body: ServiceChange, request: Request, person: Person = writes
    ) -> ServiceOut:
        """Change a service; later payments see it, accepted ones don't."""
        changes = changed_values(body, may_be_null={"rate_per_minute"})
        by = author(person, request)
        async with database.transaction() as tx:
            row = await directory.change_service(tx, relay, by, service_id, body.version, changes)
        return _service(row)

    @routes.delete("/{service_id}", status_code=204, response_class=Response)
    async def delete_service(
        service_id: Reference, version: Read, request: Request, person: Person = writes
    ) -> Response:
        """Delete a service with its assignments. Payments stay."""
        by = author(person, request)
        async with database.transaction() as tx:
            await directory.delete(tx, relay, by, "service", service_id, version)
        return Response(status_code=204)

    return routes


def assignments_router(context: Context) -> APIRouter:
    """Return the routes of assignments."""
    routes = APIRouter(prefix="/bff/v1/assignments", tags=["directory"], responses=PROBLEMS)
    database, relay = context.service.database, context.service.relay
    reads, writes = (Depends(context.needs(f"directory:{what}")) for what in ("read", "write"))

    @routes.get("")
    async def assignments(person: Person = reads) -> list[Assignment]:
        """All assignments."""
        async with seen_by(database, person) as tx:
            return [Assignment(**dict(row)) for row in await store.assignments(tx)]

    @routes.post("", status_code=201)
    async def assign(body: NewAssignment, request: Request, person: Person = writes) -> Assignment:
        """Let a client use a service."""
        by = author(person, request)
        async with database.transaction() as tx:
            row = await directory.assign(tx, relay, by, body.model_dump(mode="json"))
        return Assignment(**dict(row))

    @routes.patch("/{assignment_id}")
    async def change_assignment(
        assignment_id: Reference, body: AssignmentChange, request: Request, person: Person = writes
    ) -> Assignment:
        """Switch an assignment on or off, set the client's own limits and answer wait."""
        changes = changed_values(body, may_be_null={"answer_wait_seconds"})
        by = author(person, request)
        async with database.transaction() as tx:
            row = await directory.change_assignment(
                tx, relay, by, assignment_id, body.version, changes
            )
        return Assignment(**dict(row))

    @routes.delete("/{assignment_id}", status_code=204, response_class=Response)
    async def unassign(
        assignment_id: Reference, version: Read, request: Request, person: Person = writes
    ) -> Response:
        """Take a service away from a client for good."""
        by = author(person, request)
        async with database.transaction() as tx:
            await directory.delete(tx, relay, by, "assignment", assignment_id, version)
        return Response(status_code=204)

    return routes
