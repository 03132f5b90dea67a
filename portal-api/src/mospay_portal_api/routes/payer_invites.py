"""Letting customers into the portal: who may invite, and the links notifier's mails carry."""

import datetime as dt
from typing import Any

from fastapi import APIRouter, Depends, Request
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service_tokens import Caller

from mospay_portal_api.domain.errors import Fault, Invalid
from mospay_portal_api.domain.payers import Issuer
from mospay_portal_api.domain.people import Asker, Person
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.routes.invoices import BASE, LEDGER, READ, WRITE, ClientId, Mode, asked
from mospay_portal_api.routes.payer_door import BASE as PAYER
from mospay_portal_api.routes.payer_door import SCOPE
from mospay_portal_api.routes.payer_models import Armed, PortalAccess
from mospay_portal_api.storage import payers as storage
from mospay_portal_api.usecases import payers

PATHS = {"invite": "/portal/invite/", "reset": "/portal/reset/", "verify": "/portal/verify/"}


def router(context: Context) -> APIRouter:
    """Return the routes for people of the issuer."""
    routes = APIRouter(prefix="/bff/v1", tags=["invoices"], responses=PROBLEMS)
    service, house = context.service, context.house

    async def customer(
        person: Person, customer_id: str, mode: str, client_id: str | None
    ) -> dict[str, Any]:
        """Return a customer of an issuer of this person's; raises Problem 404.

        A client that the operator invoices sees itself as a customer, and lets nobody in.
        """
        me = await asked(context, person, mode, client_id)
        found = await house.find(LEDGER, f"{BASE}/customers/{customer_id}", READ, me)
        own = found is not None and (person.operator or person.sees(found["client_id"] or ""))
        if found is None or not own or found["mode"] != mode:
            raise Problem(404, "not_found", "There is no such customer")
        known: dict[str, Any] = found
        return known

    async def access(known: dict[str, Any]) -> PortalAccess:
        async with service.database.transaction() as tx:
            account = await storage.account(tx, known["id"])
            link = await storage.newest_link(tx, known["id"], "invite")
            login = await storage.login_of(tx, known["id"])
        return PortalAccess(
            customer_id=known["id"],
            state=_state(known, account, link, login),
            email=known["email"],
            invited_at=link["created_at"] if link else None,
            invite_until=link["expires_at"] if link else None,
            last_login_at=login["last_login_at"] if login else None,
        )

    @routes.get("/customers/{customer_id}/portal-access")
    async def look(
        customer_id: Reference, mode: Mode, client_id: ClientId = None,
        person: Person = Depends(context.needs(READ)),
    ) -> PortalAccess:  # fmt: skip
        """Whether a customer has a login, and how its invitation stands."""
        return await access(await customer(person, customer_id, mode, client_id))

    @routes.post("/customers/{customer_id}/portal-invites", status_code=201)
    async def invite(
        customer_id: Reference, request: Request, mode: Mode, client_id: ClientId = None,
        person: Person = Depends(context.needs(WRITE)),
    ) -> PortalAccess:  # fmt: skip
        """Mail a customer the link that makes its login (7 days, once); again: a new link.

        409 while the account is being made, or once there is a login; 422 while the portal is off
        or there is no e-mail address.
        """
        known = await customer(person, customer_id, mode, client_id)
        _check(known)
        named = await _issuer(context, person, known)
        async with service.database.transaction() as tx:
            by, version = author(person, request), int(known["version"])
            await payers.invite(tx, service.relay, known["id"], version, named, by)
        return await access(known)

    return routes


def _check(known: dict[str, Any]) -> None:
    """Raise Invalid for a customer that is not to be invited."""
    if not (known["active"] and known["portal_enabled"]):
        raise Invalid(
            [Fault("portal_enabled", "portal_off", "must be on, of a customer that is active")]
        )
    if known["email"] is None:
        raise Invalid([Fault("email", "required", "is where the invitation goes: set it first")])


async def _issuer(context: Context, person: Person, known: dict[str, Any]) -> Issuer:
    """Return who invoices a customer, as the customer is to see it."""
    me = Asker(person.user_id, known["client_id"], known["mode"], known["id"])
    brand = (await context.house.get(LEDGER, PAYER, SCOPE, me))["issuer"]
    return Issuer(brand["name"], brand["email"], brand["colour"])


def _state(known: dict[str, Any], account: Any, link: Any, login: Any) -> str:
    if not (known["active"] and known["portal_enabled"]):
        return "off"
    if known["email"] is None:
        return "no_email"
    if account is None or not account["live"]:
        return "making"
    if login is not None and login["ready"]:
        return "active"
    over = link is None or link["used_at"] is not None or link["revoked_at"] is not None
    return "ready" if over or link["expires_at"] <= dt.datetime.now(dt.UTC) else "invited"


def mail_router(context: Context) -> APIRouter:
    """Return the route by which notifier gets the link of a mail it is composing."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    service = context.service
    needs = service.verifier.needs("payers:link")

    @routes.post("/payer-links/{link_id}/token", status_code=201)
    async def arm(link_id: Reference, caller: Caller = Depends(needs)) -> Armed:
        """Make the token of a link, in the place of an earlier one; 409 for one that is over."""
        if caller.issuer != "notifier":
            raise Problem(403, "not_allowed", "Only notifier sends these mails")
        async with service.database.transaction() as tx:
            made = await payers.arm(tx, link_id)
        if made is None:
            raise Problem(409, "link_ended", "Nobody is to be written to any more")
        kind, token = made
        return Armed(path=PATHS[kind] + token)

    return routes
