"""The directory for the operator's admins: companies, clients, services, credentials, users."""

import base64
import secrets
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from mospay_shared.ids import new_id

from mospay_portal_api.domain import NotFound, Person, api_key, api_password
from mospay_portal_api.routes.context import Context
from mospay_portal_api.routes.directory_models import (
    Assignment,
    Client,
    ClientChange,
    Company,
    CreatedCredential,
    CreatedEndpoint,
    CreatedUser,
    Credential,
    NewAssignment,
    NewClient,
    NewCompany,
    NewCredential,
    NewEndpoint,
    NewService,
    NewUser,
    ServiceChange,
    ServiceOut,
    Switch,
)
from mospay_portal_api.storage import directory as store
from mospay_portal_api.usecases import directory, people


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

    return routes


def endpoints_router(context: Context) -> APIRouter:
    """Return the routes of webhook endpoints, which the notifier keeps."""
    routes = APIRouter(prefix="/bff/v1", tags=["credentials"])
    database, admin = context.service.database, Depends(context.admin)

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
