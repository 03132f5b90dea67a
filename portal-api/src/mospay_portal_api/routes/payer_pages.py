"""The payers' pages: invoices, one invoice with its Pay button, statement, details."""

import asyncio
import re
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mospay_portal_api.clients import Refused
from mospay_portal_api.domain import guests
from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.languages import Language
from mospay_portal_api.domain.payers import Payer
from mospay_portal_api.domain.people import EMAIL_PATTERN
from mospay_portal_api.routes.guests import LOGO_SECONDS
from mospay_portal_api.routes.logos import image, known
from mospay_portal_api.routes.payer import Desk, passed_on
from mospay_portal_api.routes.payer_portal import HOME, Portal, go
from mospay_portal_api.routes.plain_pages import BLANK, HEADERS, REFRESH_SECONDS, languages

_ID = re.compile(r"[A-Za-z0-9_]{1,80}", re.ASCII)
_STATES = ("open", "overdue", "paid")
_FIELDS = ("form", "name", "phone", "address", "email")
_NAMES = {"en": "English", "fr": "Français"}


def router(portal: Portal, desk: Desk) -> APIRouter:
    """Return the pages' routes; they are for people and in no API document."""
    routes = APIRouter(include_in_schema=False)
    _add_lists(routes, portal, desk)
    _add_invoice(routes, portal, desk)
    _add_paying(routes, portal, desk)
    _add_details(routes, portal, desk)
    return routes


def _at(invoice_id: str) -> str:
    """Return where an invoice's page is; raises NotFound for what can be no id."""
    if not _ID.fullmatch(invoice_id):
        raise NotFound("There is no such page")
    return f"{HOME}/{invoice_id}"


def _add_lists(routes: APIRouter, portal: Portal, desk: Desk) -> None:
    @routes.get(HOME)
    @portal.guarded
    async def invoices(request: Request) -> Response:
        payer, asked = await portal.door.payer(request), request.query_params
        state = asked.get("state", "")
        query = {
            "state": state if state in _STATES else "",
            "cursor": asked.get("cursor", "") if _ID.fullmatch(asked.get("cursor", "")) else "",
        }
        me, page = await asyncio.gather(
            desk.find(payer), desk.find(payer, "/invoices", limit=50, **query)
        )
        return portal.inside(
            "invoices.html", payer, me["issuer"], at="invoices", state=query["state"],
            invoices=page["items"], next_cursor=page["next_cursor"],
        )  # fmt: skip

    @routes.get("/portal/statement")
    @portal.guarded
    async def statement(request: Request) -> Response:
        payer = await portal.door.payer(request)
        me, found = await asyncio.gather(desk.find(payer), desk.find(payer, "/statement"))
        return portal.inside("statement.html", payer, me["issuer"], at="statement", statement=found)

    @routes.get("/portal/statement.pdf")
    @portal.guarded
    async def statement_pdf(request: Request) -> Response:
        payer = await portal.door.payer(request)
        found = await desk.file(payer, "/statement.pdf")
        await desk.note(request, payer, "payer_statement_downloaded", payer.customer_id)
        return passed_on(found)

    @routes.get("/portal/logo")
    @portal.guarded
    async def logo(request: Request) -> Response:
        payer = await portal.door.payer(request, touch=False)
        found = await desk.file(payer, "/logo", known(request))
        return image(found, {**HEADERS, "Cache-Control": f"private, max-age={LOGO_SECONDS}"})


def _invoice(
    portal: Portal,
    payer: Payer,
    found: dict[str, Any],
    here: str,
    status: int = 200,
    faults: dict[str, str] | None = None,
    form: dict[str, str] | None = None,
) -> Response:
    """Return the page of an invoice, the one guests see, under the payer's menu."""
    payable = found["open_minor"] > 0 and not found["locked"] and found["methods"]
    return portal.inside(
        "invoice.html",
        payer,
        _brand(found),
        status,
        at="invoices",
        invoice=found,
        here=here,
        payable=bool(payable) and found["status"] != "void",
        outcome=guests.outcome(found["payment"], locked=found["locked"]),
        reason=guests.reason(found["payment"], portal.payers(payer)),
        refused=bool(faults),
        faults=BLANK | (faults or {}),
        form=BLANK | (form or {}),
    )


def _brand(found: dict[str, Any]) -> dict[str, Any]:
    return {"name": found["issuer_name"], "colour": found["colour"], "logo": found.get("logo")}


def _add_invoice(routes: APIRouter, portal: Portal, desk: Desk) -> None:
    @routes.get(HOME + "/{invoice_id}")
    @portal.guarded
    async def invoice(request: Request, invoice_id: str) -> Response:
        payer, here = await portal.door.payer(request), _at(invoice_id)
        found = await desk.find(payer, f"/invoices/{invoice_id}")
        return _invoice(portal, payer, found, here)

    @routes.get(HOME + "/{invoice_id}/status")
    @portal.guarded
    async def status(request: Request, invoice_id: str) -> Response:
        # The page asks by itself: that alone keeps nobody signed in.
        payer, here = await portal.door.payer(request, touch=False), _at(invoice_id)
        found = await desk.find(payer, f"/invoices/{invoice_id}/status")
        how = guests.outcome(found["payment"], locked=found["locked"])
        return portal.inside(
            "status.html",
            payer,
            _brand(found),
            at="invoices",
            invoice=found,
            here=here,
            outcome=how,
            reason=guests.reason(found["payment"], portal.payers(payer)),
            refresh=REFRESH_SECONDS if how in ("processing", "unknown") else None,
        )

    @routes.get(HOME + "/{invoice_id}/pdf")
    @portal.guarded
    async def paper(request: Request, invoice_id: str) -> Response:
        payer = await portal.door.payer(request)
        _at(invoice_id)
        found = await desk.file(payer, f"/invoices/{invoice_id}/pdf")
        await desk.note(request, payer, "payer_invoice_downloaded", invoice_id)
        return passed_on(found)


def _add_paying(routes: APIRouter, portal: Portal, desk: Desk) -> None:
    @routes.post(HOME + "/{invoice_id}/pay")
    @portal.guarded
    async def pay(request: Request, invoice_id: str) -> Response:
        payer, form = await portal.own_form(request)
        here, language = _at(invoice_id), portal.payers(payer)
        found = await desk.find(payer, f"/invoices/{invoice_id}")
        wanted = guests.read_form(form, found, language)
        if wanted.faults:
            return _invoice(portal, payer, found, here, 422, wanted.faults, form)
        portal.door.count_pay(payer)
        try:
            await desk.pay(request, payer, invoice_id, wanted.body)
        except Refused as error:
            if error.status == 422:
                shown = {"phone", "service"} | ({"amount"} if found["allow_partial"] else set())
                refused = guests.told(error.problem, shown, language)
                return _invoice(portal, payer, found, here, 422, refused, form)
            # 409: another press, or another person, was first: show how that goes
        return go(f"{here}/status")


def _add_details(routes: APIRouter, portal: Portal, desk: Desk) -> None:
    def page(
        payer: Payer, me: dict[str, Any], status: int = 200, *, notice: str = "",
        faults: dict[str, str] | None = None, wanted_email: str = "",
    ) -> Response:  # fmt: skip
        payer = replace(payer, locale=me["locale"])  # just chosen: our own copy follows by message
        spoken = [(code, _NAMES.get(code, code)) for code in sorted(languages())]
        return portal.inside(
            "details.html", payer, me["issuer"], status, at="details", me=me, notice=notice,
            faults=dict.fromkeys(_FIELDS, "") | (faults or {}), wanted_email=wanted_email,
            spoken=spoken,
        )  # fmt: skip

    @routes.get("/portal/details")
    @portal.guarded
    async def details(request: Request) -> Response:
        payer = await portal.door.payer(request)
        notice = next((name for name in ("saved", "sent") if name in request.query_params), "")
        return page(payer, await desk.find(payer), notice=notice)

    @routes.post("/portal/details")
    @portal.guarded
    async def changed(request: Request) -> Response:
        payer, form = await portal.own_form(request)
        language, me = portal.payers(payer), await desk.find(payer)
        wanted, faults = _details(form, me, language)
        shown = me | {name: wanted[name] for name in ("name", "phone", "address")}
        if faults:
            return page(payer, shown, 422, faults=faults)
        try:
            await desk.change(request, payer, wanted)
        except Refused as error:
            why = "stale" if error.problem.get("code") == "stale_version" else "not_accepted"
            said = language.say("details." + why)
            return page(payer, me if why == "stale" else shown, 409, faults={"form": said})
        return go("/portal/details?saved=1")

    @routes.post("/portal/details/email")
    @portal.guarded
    async def new_email(request: Request) -> Response:
        payer, form = await portal.own_form(request)
        email = form.get("email", "").strip()
        if len(email) > 254 or not re.fullmatch(EMAIL_PATTERN, email):
            faults = {"email": portal.payers(payer).say("details.wrong_email")}
            me = await desk.find(payer)
            return page(payer, me, 422, faults=faults, wanted_email=email[:254])
        await desk.ask_email(request, payer, email)
        return go("/portal/details?sent=1")


def _details(
    form: dict[str, str], me: dict[str, Any], language: Language
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the details a form wants, as the ledger takes them, and what is wrong by field."""
    name = re.sub(r"[\x00-\x1f\x7f]", " ", form.get("name", "")).strip()
    phone = re.sub(r"[\s().-]", "", form.get("phone", ""))
    address = re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", "", form.get("address", "")).strip()
    version = form.get("version", "")
    locale = form.get("locale", "")
    faults = {}
    if not 1 <= len(name) <= 200:
        faults["name"] = language.say("details.wrong_name")
    if phone and not guests.PHONE.fullmatch(phone):
        faults["phone"] = language.say("details.wrong_phone")
    if len(address) > 500:
        faults["address"] = language.say("details.wrong_address")
    # A regional locale (fr-RW) is kept where its language stays.
    keeps = locale not in languages() or me["locale"].partition("-")[0] == locale
    plain = re.fullmatch(r"[1-9][0-9]{0,17}", version, re.ASCII)
    wanted = {
        "name": name,
        "phone": phone or None,
        "address": address or None,
        "locale": me["locale"] if keeps else locale,
        "version": int(version) if plain else me["version"],
    }
    return wanted, faults
