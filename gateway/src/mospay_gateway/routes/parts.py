"""What routes are given, and what every request goes through: readiness and authentication."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.problems import Problem
from starlette.requests import ClientDisconnect

from mospay_gateway.clients import RouterClient
from mospay_gateway.domain.catalogue import Catalogue, ClientApp
from mospay_gateway.domain.errors import Fault, InvalidRequest, NotJson
from mospay_gateway.domain.idempotency import Fingerprints
from mospay_gateway.domain.payments import Payment
from mospay_gateway.usecases.acceptance import Acceptor
from mospay_gateway.usecases.identity import Identity
from mospay_gateway.usecases.waiting import Waiters

WAIT_LIMIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What `app.py` wired. `complete` says whether the directory's first snapshot is whole."""

    database: Database
    relay: Relay
    catalogue: Catalogue
    complete: Callable[[], bool]
    identity: Identity
    acceptor: Acceptor
    waiters: Waiters
    router: RouterClient
    fingerprints: Fingerprints
    callback_limit_bytes: int

    def insist_on_directory(self) -> None:
        """Refuse with 503, never 401, while we can't know who anybody is."""
        if not self.complete():
            raise Problem(
                503,
                "directory_incomplete",
                "The gateway is starting and does not know its clients yet; try again shortly",
                headers={"Retry-After": "1"},
            )

    def identify(self, request: Request) -> ClientApp:
        """Return who calls and note it for the API log; raises NotAuthenticated, NotAllowed."""
        self.insist_on_directory()
        headers = request.headers
        caller = self.identity.authenticate(
            api_key=headers.get("x-api-key"),
            authorization=headers.get("authorization"),
            app_id=headers.get("app-id"),
        )
        request.state.client_id, request.state.mode = caller.client_id, caller.mode
        return caller

    async def freshest(self, payment: Payment) -> Payment:
        """Return the payment with the router's word if it has not ended (briefly asked)."""
        if payment.final:
            return payment
        news = await self.router.news(payment.id, payment.client_id, payment.mode)
        return payment.with_news(news)


def now() -> dt.datetime:
    """Return the instant, aware UTC."""
    return dt.datetime.now(dt.UTC)


async def read_object(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object; raises NotJson or InvalidRequest."""
    try:
        raw = await request.body()
    except ClientDisconnect as error:  # nobody is left to read the answer
        raise Problem(400, "client_gone", "The request ended before its body did") from error
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise NotJson from error
    if not isinstance(body, dict):
        raise InvalidRequest([Fault("body", "not_an_object", "must be a JSON object")])
    return body


def wait_seconds(request: Request, default: float) -> float:
    """Return how long the caller wants to wait: `Prefer: wait=n` (RFC 7240), 120 s at most."""
    for preference in request.headers.get("prefer", "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit():
            return min(float(digits[:6]), WAIT_LIMIT_SECONDS)
    return default
