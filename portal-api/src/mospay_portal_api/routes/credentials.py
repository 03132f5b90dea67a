"""Credentials and webhook endpoints of a client: secrets are in one answer and nowhere else."""

import datetime as dt

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from mospay_shared.chassis.settings import decode_key
from pydantic import BaseModel, Field

from mospay_portal_api.domain.credentials import api_key, api_password
from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.bodies import CredentialChange, NewCredential, NewEndpoint
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.storage import audit
from mospay_portal_api.storage import directory as store
from mospay_portal_api.storage.view import seen_by
from mospay_portal_api.usecases import directory

_ENDPOINTS = "/internal/v1/endpoints"


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
    confirmed: bool = Field(description="the gateway has acknowledged this version")
    rate_per_minute: int | None
    expires_at: dt.datetime | None
    version: int
    created_at: dt.datetime


class Endpoint(BaseModel):
    """A webhook endpoint as notifier shows it."""

    id: str
    client_id: str
    mode: str
    url: str
    event_types: list[str]
    active: bool
    disabled_reason: str | None


class CreatedEndpoint(BaseModel):
    """The secret is shown this once."""

    endpoint_id: str
    secret: str


def router(context: Context) -> APIRouter:
    """Return the routes of credentials."""
    routes = APIRouter(prefix="/bff/v1", tags=["credentials"], responses=PROBLEMS)
    database, relay = context.service.database, context.service.relay
    pepper = decode_key(context.settings.credential_pepper.get_secret_value())
    reads = Depends(context.needs("directory:read"))
    writes = Depends(context.needs("credentials:write"))

    @routes.get("/clients/{client_id}/credentials")
    async def credentials(client_id: Reference, person: Person = reads) -> list[Credential]:
        """A client's credentials, newest first, revoked ones included: the history."""
        async with seen_by(database, person) as tx:
            if await store.client(tx, client_id) is None:
                raise NotFound("There is no such client")
            rows = await store.credentials(tx, client_id)
        return [Credential(**dict(row)) for row in rows]

    @routes.post("/clients/{client_id}/credentials", status_code=201)
    async def create(
        client_id: Reference, body: NewCredential, request: Request, person: Person = writes
    ) -> CreatedCredential:
        """Make a credential; its secret is in this answer and nowhere else."""
        async with seen_by(database, person) as tx:
            app_id = await store.app_id(tx, client_id, body.mode)
        if app_id is None:
            raise NotFound("There is no such client")
        made = api_password(app_id, pepper) if body.kind == "api_password" else api_key(body.mode)
        by = author(person, request)
        async with database.transaction() as tx:
            credential_id = await directory.add_credential(
                tx, relay, by, client_id, app_id, body.mode, body.kind, made, body.rate_per_minute
            )
        return CreatedCredential(
            credential_id=credential_id,
            kind=body.kind,
            mode=body.mode,
            app_id=app_id,
            **made.shown,
        )

    @routes.patch("/credentials/{credential_id}")
    async def change(
        credential_id: Reference, body: CredentialChange, request: Request, person: Person = writes
    ) -> Credential:
        """Set the rate of a credential."""
        by = author(person, request)
        async with database.transaction() as tx:
            row = await directory.change_credential(
                tx, relay, by, credential_id, body.version, body.rate_per_minute
            )
        return Credential(**dict(row))

    @routes.delete("/credentials/{credential_id}", status_code=204, response_class=Response)
    async def revoke(
        credential_id: Reference, request: Request, person: Person = writes
    ) -> Response:
        """Revoke a credential; it is `confirmed` once the gateway has acknowledged it."""
        by = author(person, request)
        async with database.transaction() as tx:
            await directory.revoke_credential(tx, relay, by, credential_id)
        return Response(status_code=204)

    return routes


def endpoints_router(context: Context) -> APIRouter:
    """Return the routes of webhook endpoints; notifier keeps them and their secrets."""
    routes = APIRouter(prefix="/bff/v1/clients", tags=["credentials"], responses=PROBLEMS)
    database, house = context.service.database, context.house

    async def must_exist(person: Person, client_id: str) -> None:
        async with seen_by(database, person) as tx:
            row = await store.client(tx, client_id)
        if row is None or row["deleted"]:
            raise NotFound("There is no such client")

    @routes.get("/{client_id}/endpoints", response_model=list[Endpoint])
    async def endpoints(
        client_id: Reference, person: Person = Depends(context.needs("directory:read"))
    ) -> object:
        """A client's webhook endpoints."""
        await must_exist(person, client_id)
        query = {"client_id": client_id}
        return await house.get("notifier", _ENDPOINTS, "endpoints:read", asker(person, None), query)

    @routes.post("/{client_id}/endpoints", status_code=201)
    async def create_endpoint(
        client_id: Reference,
        body: NewEndpoint,
        request: Request,
        person: Person = Depends(context.needs("endpoints:write")),
    ) -> CreatedEndpoint:
        """Make a webhook endpoint; its secret is in this answer and nowhere else."""
        await must_exist(person, client_id)
        wanted = {"client_id": client_id, **body.model_dump()}
        answer = await house.post(
            "notifier", _ENDPOINTS, "endpoints:write", asker(person, None), wanted
        )
        made = CreatedEndpoint(**answer)
        async with database.transaction() as tx:
            await audit.write(
                tx, author(person, request), "endpoint_created", made.endpoint_id, after=wanted
            )
        return made

    return routes
