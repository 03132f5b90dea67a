"""What the payers' pages (`/portal/…`) share: languages, form tokens, and how they fail."""

import functools
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.settings import decode_key

from mospay_portal_api.clients import HouseError
from mospay_portal_api.domain import guests
from mospay_portal_api.domain.errors import LinkEnded, NotFound, NotSignedIn, TooOften
from mospay_portal_api.domain.languages import Language, chosen, preferred
from mospay_portal_api.domain.payers import Payer
from mospay_portal_api.routes.context import Context
from mospay_portal_api.routes.payer_door import COOKIE, Door
from mospay_portal_api.routes.plain_pages import HEADERS, Renderer, languages, read_form

log = structlog.get_logger()
FORM_COOKIE = "mospay_payer_form"  # of forms before there is a session
LOGIN, HOME = "/portal/login", "/portal/invoices"
Page = Callable[..., Awaitable[Response]]


class Foreign(Exception):
    """A form that no page of this browser's made."""


def go(path: str) -> Response:
    """Send a browser to another page, with a GET."""
    return RedirectResponse(path, 303, HEADERS)


class Portal(Renderer):
    """Renders and protects the payers' pages."""

    def __init__(self, context: Context, door: Door) -> None:
        super().__init__()
        seed = decode_key(context.settings.signing_key.get_secret_value())
        self._form_key = hmac.digest(seed, b"mospay/payer-form/v1", "sha256")
        self._https = context.settings.public_url.startswith("https://")
        self.context, self.door = context, door

    def browsers(self, request: Request) -> Language:
        """Return the language a browser likes most."""
        return preferred(languages(), request.headers.get("accept-language", ""))

    def payers(self, payer: Payer) -> Language:
        """Return a payer's language."""
        return chosen(languages(), payer.locale)

    def gate(
        self, request: Request, what: str, status: int = 200, *, here: str, **values: Any
    ) -> Response:
        """Return a page before there is a session, its form bound to this browser and page."""
        cookie = request.cookies.get(FORM_COOKIE) or ""
        if not guests.TOKEN.fullmatch(cookie):
            cookie = secrets.token_urlsafe(24)
        shown = {"email": "", "notice": "", "fault": "", "faults": {"email": "", "password": ""},
                 "accounts": []} | values  # fmt: skip
        answer = self.page(
            "gate.html",
            self.browsers(request),
            status,
            what=what,
            here=here,
            form_token=guests.form_token(self._form_key, cookie, what),
            **shown,
        )
        answer.set_cookie(
            FORM_COOKIE, cookie, max_age=86_400, path="/portal", httponly=True, samesite="lax",
            secure=self._https,
        )  # fmt: skip
        return answer

    async def gate_form(self, request: Request, what: str) -> dict[str, str]:
        """Return the form of a page before there is a session; raises Foreign, TooOften."""
        self.door.count(request, trying=True)
        form = await read_form(request)
        given = "" if form is None else form.get("form_token", "")
        cookie = request.cookies.get(FORM_COOKIE)
        if form is None or not guests.form_holds(self._form_key, cookie, what, given):
            raise Foreign
        return form

    async def own_form(self, request: Request) -> tuple[Payer, dict[str, str]]:
        """Return who sends a form, and the form; raises NotSignedIn, Foreign, TooOften."""
        payer = await self.door.payer(request)
        form = await read_form(request)
        given = ("" if form is None else form.get("form_token", "")).encode()
        if form is None or not hmac.compare_digest(given, payer.csrf_token.encode()):
            raise Foreign
        return payer, form

    def inside(
        self, name: str, payer: Payer, brand: dict[str, Any], status: int = 200, *, at: str,
        **values: Any,
    ) -> Response:  # fmt: skip
        """Return a page of a payer's under its issuer's brand; `at`: the place in the menu."""
        return self.page(
            name,
            self.payers(payer),
            status,
            payer=payer,
            at=at,
            brand_name=brand["name"],
            logo=brand.get("logo"),
            colour=brand["colour"],
            form_token=payer.csrf_token,
            **values,
        )

    def guarded(self, handler: Page) -> Page:
        """Turn what can go wrong into pages; let no error log a path that may hold a token."""

        @functools.wraps(handler)
        async def guard(request: Request, **values: Any) -> Response:
            try:
                return await handler(request, **values)
            except NotSignedIn:
                had = COOKIE in request.cookies
                return self.door.leave(go(f"{LOGIN}?ended=1" if had else LOGIN))
            except TooOften:
                return self.sorry(request, 429, "often")
            except Foreign:
                return self.sorry(request, 403, "stale")
            except LinkEnded:
                return self.sorry(request, 410, "link")
            except NotFound:
                return self.sorry(request, 404, "missing")
            except Problem as problem:
                return self.sorry(request, problem.status, "missing")
            except HouseError:
                return self.sorry(request, 503, "away")
            except Exception as error:
                log.error("payer_page_failed", page=handler.__name__, exc_info=error)
                return self.sorry(request, 500, "away")

        return guard
