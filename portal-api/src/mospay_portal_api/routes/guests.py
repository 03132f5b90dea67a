"""The pages behind a guest link (`/i/{token}`): one invoice, its paper, one Pay button, its status.

Plain HTML that needs no script. The token is in the path the payer has and nowhere else: the ledger
is asked with its hash, nothing here logs the path, and no referrer leaves the page.
"""

import functools
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from mospay_shared.chassis.settings import decode_key

from mospay_portal_api.clients import Refused, Unavailable
from mospay_portal_api.domain import guests
from mospay_portal_api.domain.errors import NotFound
from mospay_portal_api.domain.languages import chosen
from mospay_portal_api.domain.people import Asker
from mospay_portal_api.routes.context import Context
from mospay_portal_api.routes.logos import image, known
from mospay_portal_api.routes.plain_pages import (
    BLANK,
    HEADERS,
    REFRESH_SECONDS,
    Renderer,
    languages,
    read_form,
)

log = structlog.get_logger()
COOKIE = "mospay_guest"
PAPER_SECONDS = 25.0  # the ledger gives a paper 20
LOGO_SECONDS = 86_400  # how long a browser keeps a logo: another one has another address
_ASKER = Asker("guest", None, None)
_SCOPE = "invoices:guest"
Handler = Callable[[Request, str], Awaitable[Response]]


class Pages(Renderer):
    """Renders, limits and protects the pages of guests."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        settings = context.settings
        seed = decode_key(settings.signing_key.get_secret_value())
        self._form_key = hmac.digest(seed, b"mospay/guest-form/v1", "sha256")
        self._house, self._settings = context.house, settings
        self._https = settings.public_url.startswith("https://")
        self._windows = guests.Windows(settings.guest_windows)

    def within_limits(self, request: Request, digest: str, *, paying: bool) -> bool:
        """Count a call of an address and of a link; say whether both may go on."""
        settings, now = self._settings, time.time()
        address = request.client.host if request.client else "unknown"
        kind = "pay" if paying else "view"
        per_link, per_address = (
            (settings.guest_pays_per_minute, settings.guest_address_pays_per_minute)
            if paying
            else (settings.guest_views_per_minute, settings.guest_address_views_per_minute)
        )
        by_address = self._windows.allows(f"{kind}:{address}", per_address, now)
        return by_address and self._windows.allows(f"{kind}:{digest}", per_link, now)

    async def ask(self, digest: str, path: str = "") -> Any:
        """Return what the ledger says of a link; None for one that does not hold."""
        return await self._house.find(
            "ledger", f"/internal/v1/guest/{digest}{path}", _SCOPE, _ASKER
        )

    async def pay(self, digest: str, body: dict[str, Any]) -> None:
        """Ask the ledger to start a payment; raises Refused, Unavailable."""
        path = f"/internal/v1/guest/{digest}/pay"
        await self._house.send(
            "POST", "ledger", path, _SCOPE, _ASKER, body,
            timeout_seconds=self._settings.guest_pay_seconds,
        )  # fmt: skip

    def invoice(
        self,
        request: Request,
        token: str,
        found: dict[str, Any],
        status: int = 200,
        faults: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
    ) -> Response:
        """Return the page of an invoice, its form bound to this browser."""
        cookie = request.cookies.get(COOKIE) or ""
        if not guests.TOKEN.fullmatch(cookie):
            cookie = secrets.token_urlsafe(24)
        digest, language = guests.digest_of(token), chosen(languages(), found.get("locale"))
        payable = found["open_minor"] > 0 and not found["locked"] and found["methods"]
        answer = self.page(
            "invoice.html",
            language,
            status,
            invoice=found,
            colour=found["colour"],
            here=f"/i/{token}",
            payable=bool(payable) and found["status"] != "void",
            logo=found.get("logo"),
            outcome=guests.outcome(found["payment"], locked=found["locked"]),
            reason=guests.reason(found["payment"], language),
            form_token=guests.form_token(self._form_key, cookie, digest),
            refused=bool(faults),
            faults=BLANK | (faults or {}),
            form=BLANK | (form or {}),
        )
        answer.set_cookie(
            COOKIE, cookie, max_age=86_400, path="/i", httponly=True, samesite="lax",
            secure=self._https,
        )  # fmt: skip
        return answer

    def guarded(self, *, paying: bool = False) -> Callable[[Handler], Handler]:
        """Refuse what can't be a link or comes too often; let no error log the path."""

        def wrap(handler: Handler) -> Handler:
            @functools.wraps(handler)
            async def guard(request: Request, token: str) -> Response:
                digest = guests.digest_of(token)
                if not self.within_limits(request, digest, paying=paying):
                    return self.sorry(request, 429, "often")
                if not guests.TOKEN.fullmatch(token):
                    return self.sorry(request, 404, "gone")
                try:
                    return await handler(request, token)
                except Unavailable:
                    return self.sorry(request, 503, "away")
                except Exception as error:
                    log.error("guest_page_failed", page=handler.__name__, exc_info=error)
                    return self.sorry(request, 500, "away")

            return guard

        return wrap

    def own_form(self, request: Request, digest: str, form: dict[str, str]) -> bool:
        """Say whether a form was made for this browser and link."""
        cookie = request.cookies.get(COOKIE)
        return guests.form_holds(self._form_key, cookie, digest, form.get("form_token", ""))


def router(context: Context) -> APIRouter:
    """Return the pages' routes; they are for people and in no API document."""
    routes = APIRouter(include_in_schema=False)
    pages = Pages(context)
    _add_pages(routes, pages)
    _add_files(routes, pages, context)
    return routes


def _add_pages(routes: APIRouter, pages: Pages) -> None:
    @routes.get("/i/{token}")
    @pages.guarded()
    async def invoice(request: Request, token: str) -> Response:
        found = await pages.ask(guests.digest_of(token))
        if found is None:
            return pages.sorry(request, 404, "gone")
        return pages.invoice(request, token, found)

    @routes.post("/i/{token}/pay")
    @pages.guarded(paying=True)
    async def pay(request: Request, token: str) -> Response:
        digest = guests.digest_of(token)
        form = await read_form(request)
        if form is None or not pages.own_form(request, digest, form):
            return pages.sorry(request, 403, "foreign")
        found = await pages.ask(digest)
        if found is None:
            return pages.sorry(request, 404, "gone")
        language = chosen(languages(), found.get("locale"))
        wanted = guests.read_form(form, found, language)
        if wanted.faults:
            return pages.invoice(request, token, found, 422, wanted.faults, form)
        try:
            await pages.pay(digest, wanted.body)
        except Refused as error:
            if error.status == 422:
                shown = {"phone", "service"} | ({"amount"} if found["allow_partial"] else set())
                refused = guests.told(error.problem, shown, language)
                return pages.invoice(request, token, found, 422, refused, form)
            # 409: another press, or another person, was first: show how that goes
        return RedirectResponse(f"/i/{token}/status", 303, HEADERS)

    @routes.get("/i/{token}/status")
    @pages.guarded()
    async def status(request: Request, token: str) -> Response:
        found = await pages.ask(guests.digest_of(token), "/status")
        if found is None:
            return pages.sorry(request, 404, "gone")
        how = guests.outcome(found["payment"], locked=found["locked"])
        language = chosen(languages(), found.get("locale"))
        return pages.page(
            "status.html",
            language,
            invoice=found,
            colour=found["colour"],
            here=f"/i/{token}",
            logo=found.get("logo"),
            outcome=how,
            reason=guests.reason(found["payment"], language),
            refresh=REFRESH_SECONDS if how in ("processing", "unknown") else None,
        )


def _add_files(routes: APIRouter, pages: Pages, context: Context) -> None:
    @routes.get("/i/{token}/pdf")
    @pages.guarded()
    async def paper(request: Request, token: str) -> Response:
        path = f"/internal/v1/guest/{guests.digest_of(token)}/pdf"
        try:
            made = await context.house.file(
                "ledger", path, _SCOPE, _ASKER, {}, timeout_seconds=PAPER_SECONDS
            )
        except NotFound:
            return pages.sorry(request, 404, "gone")
        headers = {**HEADERS, "Content-Disposition": made.disposition}
        return StreamingResponse(made.content, media_type=made.media_type, headers=headers)

    @routes.get("/i/{token}/logo")
    @pages.guarded()
    async def logo(request: Request, token: str) -> Response:
        path = f"/internal/v1/guest/{guests.digest_of(token)}/logo"
        try:
            found = await context.house.file(
                "ledger", path, _SCOPE, _ASKER, {}, etag=known(request)
            )
        except NotFound:
            return pages.sorry(request, 404, "gone")
        return image(found, {**HEADERS, "Cache-Control": f"private, max-age={LOGO_SECONDS}"})
