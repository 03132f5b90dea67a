"""Signing in and out."""

import datetime as dt

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from mospay_shared.chassis.database import Database
from pydantic import BaseModel

from mospay_portal_api.domain.people import Person
from mospay_portal_api.routes.bodies import SignIn
from mospay_portal_api.routes.context import COOKIE, PROBLEMS, Context, author
from mospay_portal_api.storage import directory
from mospay_portal_api.storage.view import seen_by
from mospay_portal_api.usecases import people


class SessionUser(BaseModel):
    """Who is signed in; `client_id` is the only client of the company, if it has one."""

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
    async with seen_by(database, person) as tx:
        rows = await directory.clients(tx)
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
        for app in row["apps"]
    ]
    own = sorted(person.client_ids or ())
    user = SessionUser(
        id=person.user_id,
        name=person.name,
        email=person.email,
        role=person.role,
        audience=person.audience,
        company_id=person.company_id,
        client_id=own[0] if len(own) == 1 else None,
    )
    return Session(user=user, csrf_token=person.csrf_token, expires_at=person.expires_at, apps=apps)


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/bff/v1/session", tags=["session"], responses=PROBLEMS)
    database, settings = context.service.database, context.settings

    @routes.post("", response_model=Session)
    async def sign_in(body: SignIn, request: Request) -> Response:
        """Open a session: sets the cookie."""
        token = await people.sign_in(
            database, settings, **body.model_dump(), by=author(None, request)
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

    async def end(request: Request, person: Person, everywhere: bool) -> Response:
        async with database.transaction() as tx:
            await people.sign_out(
                tx, person, request.cookies[COOKIE], author(person, request), everywhere=everywhere
            )
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path="/")
        return answer

    @routes.delete("", status_code=204, response_class=Response)
    async def sign_out(request: Request, person: Person = Depends(context.person)) -> Response:
        """End this session."""
        return await end(request, person, everywhere=False)

    @routes.post("/revoke-all", status_code=204, response_class=Response)
    async def revoke_all(request: Request, person: Person = Depends(context.person)) -> Response:
        """End every session of this person, at once."""
        return await end(request, person, everywhere=True)

    return routes
