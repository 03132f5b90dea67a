"""Signing in and out."""

import datetime as dt
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from mospay_shared.chassis.database import Database
from pydantic import BaseModel, ConfigDict, Field

from mospay_portal_api.domain import Person
from mospay_portal_api.routes.context import COOKIE, Context, client_ip
from mospay_portal_api.storage import directory
from mospay_portal_api.usecases import people


class SignIn(BaseModel):
    """A login; client users and the operator's admins are separate audiences."""

    model_config = ConfigDict(extra="forbid")
    email: str = Field(max_length=254, examples=["owner@akaliza.example"])
    password: str = Field(min_length=1, max_length=1024, examples=["a long one"])
    audience: str = Field(pattern="^(client|admin)$", examples=["client"])


class SessionUser(BaseModel):
    """Who is signed in."""

    id: str
    name: str
    email: str
    role: str
    audience: str
    company_id: str | None
    client_id: str | None


class SessionApp(BaseModel):
    """A client in one mode that this person may look at."""

    client_id: str
    client_name: str
    company_name: str
    app_id: str
    mode: str
    currency: str


class Session(BaseModel):
    """A session; changes must carry `csrf_token` in the header X-CSRF-Token."""

    user: SessionUser
    csrf_token: str
    expires_at: dt.datetime
    apps: list[SessionApp]


async def describe(database: Database, person: Person) -> Session:
    """Return a person's session with the clients they may look at."""
    only = None if person.client_ids is None else sorted(person.client_ids)
    async with database.transaction() as tx:
        rows = await directory.clients(tx, only)
    apps = [
        SessionApp(
            client_id=row["id"],
            client_name=row["name"],
            company_name=row["company_name"],
            app_id=app["app_id"],
            mode=app["mode"],
            currency=row["currency"],
        )
        for row in rows
        if not row["deleted"]
        for app in row["apps"]
    ]
    single = only[0] if only and len(only) == 1 else None
    user = SessionUser(
        id=person.user_id,
        name=person.name,
        email=person.email,
        role=person.role,
        audience=person.audience,
        company_id=person.company_id,
        client_id=single,
    )
    return Session(user=user, csrf_token=person.csrf_token, expires_at=person.expires_at, apps=apps)


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/bff/v1/session", tags=["session"])
    database, settings = context.service.database, context.settings

    @routes.post("", response_model=Session)
    async def sign_in(body: SignIn, request: Request) -> Any:
        """Open a session: sets the cookie."""
        token, _ = await people.sign_in(
            database, settings, **body.model_dump(), ip=client_ip(request)
        )
        person = await people.who(database, settings, token)
        answer = JSONResponse((await describe(database, person)).model_dump(mode="json"))
        answer.set_cookie(
            COOKIE,
            token,
            max_age=settings.session_seconds,
            httponly=True,
            samesite="lax",
            secure=settings.public_url.startswith("https://"),
            path="/",
        )
        return answer

    @routes.get("")
    async def current(person: Person = Depends(context.person)) -> Session:
        """Who is signed in."""
        return await describe(database, person)

    @routes.delete("", status_code=204)
    async def sign_out(request: Request, person: Person = Depends(context.person)) -> Response:
        """End this session."""
        async with database.transaction() as tx:
            await people.sign_out(tx, person, request.cookies[COOKIE], everywhere=False)
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path="/")
        return answer

    @routes.post("/revoke-all", status_code=204)
    async def revoke_all(request: Request, person: Person = Depends(context.person)) -> Response:
        """End every session of this person, at once."""
        async with database.transaction() as tx:
            await people.sign_out(tx, person, request.cookies[COOKIE], everywhere=True)
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path="/")
        return answer

    return routes
