"""The payers' pages before there is a session: sign in, links of mails, a forgotten password."""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mospay_portal_api.domain.errors import (
    Invalid,
    Locked,
    SeveralAccounts,
    WrongCredentials,
)
from mospay_portal_api.domain.payers import AUDIENCE
from mospay_portal_api.domain.people import EMAIL_PATTERN
from mospay_portal_api.routes.context import author
from mospay_portal_api.routes.payer_door import COOKIE
from mospay_portal_api.routes.payer_portal import HOME, LOGIN, Portal, go
from mospay_portal_api.routes.payer_session import move_email
from mospay_portal_api.usecases import payers, people

PASSWORD_FAULTS = ("too_short", "too_long", "too_simple")


def router(portal: Portal) -> APIRouter:
    """Return the pages' routes; they are for people and in no API document."""
    routes = APIRouter(include_in_schema=False)
    _add_sign_in(routes, portal)
    _add_forgotten(routes, portal)
    _add_links(routes, portal)
    _add_new_address(routes, portal)
    return routes


def _add_sign_in(routes: APIRouter, portal: Portal) -> None:
    service, settings = portal.context.service, portal.context.settings

    @routes.get("/portal")
    @portal.guarded
    async def home(request: Request) -> Response:
        return go(HOME)

    @routes.get(LOGIN)
    @portal.guarded
    async def sign_in(request: Request) -> Response:
        portal.door.count(request)
        notice = next((name for name in ("ended", "out") if name in request.query_params), "")
        return portal.gate(request, "sign_in", here=LOGIN, notice=notice)

    @routes.post(LOGIN)
    @portal.guarded
    async def signed_in(request: Request) -> Response:
        form = await portal.gate_form(request, "sign_in")
        email, password = form.get("email", "")[:254], form.get("password", "")
        say = portal.browsers(request).say
        shown: dict[str, Any] = {"here": LOGIN, "email": email}
        try:
            token = await people.sign_in(
                service.database, settings, email=email, password=password, audience=AUDIENCE,
                by=author(None, request), customer_id=form.get("customer_id"),
            )  # fmt: skip
        except SeveralAccounts as error:
            return portal.gate(request, "sign_in", 409, accounts=error.accounts, **shown)
        except WrongCredentials:
            return portal.gate(request, "sign_in", 401, fault=say("gate.wrong"), **shown)
        except Locked:
            return portal.gate(request, "sign_in", 423, fault=say("gate.locked"), **shown)
        return portal.door.enter(go(HOME), token)

    @routes.post("/portal/sign-out")
    @portal.guarded
    async def sign_out(request: Request) -> Response:
        payer, _ = await portal.own_form(request)
        async with service.database.transaction() as tx:
            token, by = request.cookies[COOKIE], author(None, request)
            await payers.sign_out(tx, payer, token, by, everywhere=False)
        return portal.door.leave(go(f"{LOGIN}?out=1"))


def _add_forgotten(routes: APIRouter, portal: Portal) -> None:
    service, settings = portal.context.service, portal.context.settings

    @routes.get("/portal/forgot")
    @portal.guarded
    async def forgot(request: Request) -> Response:
        portal.door.count(request)
        return portal.gate(request, "forgot", here="/portal/forgot")

    @routes.post("/portal/forgot")
    @portal.guarded
    async def asked(request: Request) -> Response:
        form = await portal.gate_form(request, "forgot")
        email, language = form.get("email", "").strip(), portal.browsers(request)
        if len(email) > 254 or not re.fullmatch(EMAIL_PATTERN, email):
            faults = {"email": language.say("gate.wrong_email"), "password": ""}
            return portal.gate(
                request, "forgot", 422, here="/portal/forgot", email=email[:254], faults=faults
            )
        async with service.database.transaction() as tx:
            by = author(None, request)
            await payers.ask_reset(tx, service.relay, settings, email, by)
        return portal.page("told.html", language, what="asked")


def _add_links(routes: APIRouter, portal: Portal) -> None:
    service, settings = portal.context.service, portal.context.settings

    def add(kind: str) -> None:
        @routes.get(f"/portal/{kind}/{{token}}", name=f"payer_{kind}")
        @portal.guarded
        async def opened(request: Request, token: str) -> Response:
            portal.door.count(request, trying=True)
            link = await payers.look(service.database, token, kind)
            return portal.gate(request, kind, here=f"/portal/{kind}/{token}", email=link["email"])

        @routes.post(f"/portal/{kind}/{{token}}", name=f"payer_{kind}_set")
        @portal.guarded
        async def chosen(request: Request, token: str) -> Response:
            form = await portal.gate_form(request, kind)
            try:
                session = await payers.set_password(
                    service.database, settings, token=token, kind=kind,
                    password=form.get("password", ""), by=author(None, request),
                )  # fmt: skip
            except Invalid as error:
                link = await payers.look(service.database, token, kind)
                code = error.faults[0].code
                assert code in PASSWORD_FAULTS, code
                why = portal.browsers(request).say("gate." + code)
                return portal.gate(
                    request, kind, 422, here=f"/portal/{kind}/{token}", email=link["email"],
                    faults={"email": "", "password": why},
                )  # fmt: skip
            return portal.door.enter(go(HOME), session)

    for kind in ("invite", "reset"):
        add(kind)


def _add_new_address(routes: APIRouter, portal: Portal) -> None:
    context = portal.context

    @routes.get("/portal/verify/{token}")
    @portal.guarded
    async def verify(request: Request, token: str) -> Response:
        portal.door.count(request, trying=True)
        link = await payers.look(context.service.database, token, "verify")
        here = f"/portal/verify/{token}"
        return portal.gate(request, "verify", here=here, email=link["email"])

    @routes.post("/portal/verify/{token}")
    @portal.guarded
    async def verified(request: Request, token: str) -> Response:
        await portal.gate_form(request, "verify")
        await move_email(context, token, author(None, request))
        return portal.page("told.html", portal.browsers(request), what="moved")
