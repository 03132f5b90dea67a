"""Payers in and out over the API: sign-in, invitation, forgotten password, a proven address."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from mospay_portal_api.clients import House, Refused
from mospay_portal_api.domain.payers import AUDIENCE, Payer
from mospay_portal_api.domain.people import Asker, Author
from mospay_portal_api.routes.context import PROBLEMS, Context, author
from mospay_portal_api.routes.payer_door import BASE, COOKIE, LEDGER, SCOPE, Door
from mospay_portal_api.routes.payer_models import (
    Address,
    LinkToken,
    NewPassword,
    PayerSession,
    PayerSignIn,
    PayerUser,
)
from mospay_portal_api.usecases import payers, people

CONTACT = ("name", "phone", "address", "locale", "version")


def session_of(payer: Payer) -> PayerSession:
    """Return a session as it is shown."""
    user = PayerUser(**{name: getattr(payer, name) for name in PayerUser.model_fields})
    return PayerSession(user=user, csrf_token=payer.csrf_token, expires_at=payer.expires_at)


async def move_email(context: Context, token: str, by: Author) -> None:
    """Follow the link of a new address: the ledger takes it, then the link is used up.

    Killed in between, the link is good for another try. Raises LinkEnded, HouseError.
    """
    database, house = context.service.database, context.house
    link = await payers.look(database, token, "verify")
    async with database.transaction() as tx:
        account = await payers.prove_email(tx, link)
    me = Asker(account["customer_id"], account["client_id"], account["mode"], link["customer_id"])
    try:
        await _put_email(house, me, link["email"])
    except Refused as error:
        if error.problem.get("code") != "stale_version":
            raise
        await _put_email(house, me, link["email"])  # somebody changed the customer in between
    async with database.transaction() as tx:
        await payers.email_moved(tx, token, link, by)


async def _put_email(house: House, me: Asker, email: str) -> None:
    now = await house.get(LEDGER, BASE, SCOPE, me)
    wanted = {name: now[name] for name in CONTACT} | {"email": email}
    await house.send("PUT", LEDGER, BASE, SCOPE, me, wanted)


def router(context: Context, door: Door) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/bff/v1/payer", tags=["payer"], responses=PROBLEMS)
    _add_session(routes, context, door)
    _add_links(routes, context, door)
    return routes


def _add_session(routes: APIRouter, context: Context, door: Door) -> None:
    database, settings = context.service.database, context.settings

    @routes.post("/session", response_model=PayerSession)
    async def sign_in(body: PayerSignIn, request: Request) -> Response:
        """Open a session: sets the cookie. 409 `several_accounts` lists what to choose from."""
        door.count(request, trying=True)
        token = await people.sign_in(
            database, settings, audience=AUDIENCE, by=author(None, request), **body.model_dump()
        )
        found = session_of(await payers.who(database, settings, token))
        return door.enter(JSONResponse(found.model_dump(mode="json")), token)

    @routes.get("/session")
    async def current(payer: Payer = Depends(door.by_api)) -> PayerSession:
        """Who is signed in."""
        return session_of(payer)

    async def end(request: Request, payer: Payer, *, everywhere: bool) -> Response:
        async with database.transaction() as tx:
            token = request.cookies[COOKIE]
            await payers.sign_out(tx, payer, token, author(None, request), everywhere=everywhere)
        return door.leave(Response(status_code=204))

    @routes.delete("/session", status_code=204, response_class=Response)
    async def sign_out(request: Request, payer: Payer = Depends(door.by_api)) -> Response:
        """End this session."""
        return await end(request, payer, everywhere=False)

    @routes.post("/session/revoke-all", status_code=204, response_class=Response)
    async def revoke_all(request: Request, payer: Payer = Depends(door.by_api)) -> Response:
        """End every session of this payer, at once."""
        return await end(request, payer, everywhere=True)


def _add_links(routes: APIRouter, context: Context, door: Door) -> None:
    service, settings = context.service, context.settings
    database = service.database

    async def entered(body: NewPassword, kind: str, request: Request) -> Response:
        door.count(request, trying=True)
        token = await payers.set_password(
            database, settings, kind=kind, by=author(None, request), **body.model_dump()
        )
        found = session_of(await payers.who(database, settings, token))
        return door.enter(JSONResponse(found.model_dump(mode="json")), token)

    @routes.post("/invites/accept", response_model=PayerSession)
    async def accept(body: NewPassword, request: Request) -> Response:
        """Accept an invitation: sets the password and signs in. 410 when the link has ended."""
        return await entered(body, "invite", request)

    @routes.post("/password-resets", status_code=202, response_class=Response)
    async def ask_reset(body: Address, request: Request) -> Response:
        """Have a link for a new password mailed; the same answer whether anybody has the address.

        429 beyond three an hour of an address or an IP.
        """
        door.count(request, trying=True)
        async with database.transaction() as tx:
            by = author(None, request)
            await payers.ask_reset(tx, service.relay, settings, body.email, by)
        return Response(status_code=202)

    @routes.post("/password-resets/complete", response_model=PayerSession)
    async def reset(body: NewPassword, request: Request) -> Response:
        """Set a new password, end all other sessions and sign in. 410 when the link has ended."""
        return await entered(body, "reset", request)

    @routes.post("/email-verifications/confirm", status_code=204, response_class=Response)
    async def confirm(body: LinkToken, request: Request) -> Response:
        """Prove a new e-mail address: it is the payer's from now on."""
        door.count(request, trying=True)
        await move_email(context, body.token, author(None, request))
        return Response(status_code=204)
