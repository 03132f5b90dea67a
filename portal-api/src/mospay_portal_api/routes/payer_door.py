"""The payers' door: their cookie, who comes in by it, and how often an address may try.

One cookie under two paths, the pages' and the API's; it opens nothing of the other portals, and
theirs nothing here.
"""

import hmac
import time

from fastapi import Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.domain.errors import TooOften
from mospay_portal_api.domain.guests import Windows
from mospay_portal_api.domain.payers import Payer
from mospay_portal_api.routes.context import Context
from mospay_portal_api.usecases import payers

COOKIE = "mospay_payer"
PATHS = ("/portal", "/bff/v1/payer")
LEDGER, SCOPE = "ledger", "invoices:payer"
BASE = "/internal/v1/payer"


class Door:
    """Lets payers in and out."""

    def __init__(self, context: Context) -> None:
        self._database, self._settings = context.service.database, context.settings
        self._https = context.settings.public_url.startswith("https://")
        self._windows = Windows(context.settings.guest_windows)

    def count(self, request: Request, *, trying: bool = False) -> None:
        """Count a call of an address, or a try at a password or a link; raises TooOften."""
        settings = self._settings
        address = request.client.host if request.client else "unknown"
        kind, limit = (
            ("try", settings.payer_tries_per_minute)
            if trying
            else ("call", settings.payer_calls_per_minute)
        )
        if not self._windows.allows(f"{kind}:{address}", limit, time.time()):
            raise TooOften(60)

    def count_pay(self, payer: Payer) -> None:
        """Count a payment that is started, each of which asks a phone; raises TooOften."""
        limit = self._settings.guest_pays_per_minute
        if not self._windows.allows(f"pay:{payer.customer_id}", limit, time.time()):
            raise TooOften(60)

    async def payer(self, request: Request, *, touch: bool = True) -> Payer:
        """Return who asks; raises NotSignedIn, TooOften. `touch`: the payer did something."""
        self.count(request)
        token = request.cookies.get(COOKIE)
        return await payers.who(self._database, self._settings, token, touch=touch)

    async def by_api(self, request: Request) -> Payer:
        """Return who asks the API; a change must carry the session's CSRF token."""
        found = await self.payer(request)
        given = request.headers.get("x-csrf-token", "").encode()
        changes = request.method not in ("GET", "HEAD")
        if changes and not hmac.compare_digest(given, found.csrf_token.encode()):
            raise Problem(403, "csrf_failed", "The X-CSRF-Token header is missing or wrong")
        return found

    def enter(self, answer: Response, token: str) -> Response:
        """Give a browser its session."""
        for path in PATHS:
            answer.set_cookie(
                COOKIE, token, max_age=self._settings.session_seconds, httponly=True,
                samesite="lax", secure=self._https, path=path,
            )  # fmt: skip
        return answer

    def leave(self, answer: Response) -> Response:
        """Take a browser's session."""
        for path in PATHS:
            answer.delete_cookie(COOKIE, path=path)
        return answer
