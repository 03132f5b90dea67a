"""What routes are given, and what every request goes through: readiness and authentication."""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi import Request
from mospay_shared.chassis.database import Database
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.problems import Problem
from mospay_shared.contracts import ServiceV1
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from mospay_gateway.clients import LedgerClient, ReporterClient, RouterClient
from mospay_gateway.domain.catalogue import Catalogue, ClientApp
from mospay_gateway.domain.errors import Fault, InvalidRequest, NotJson
from mospay_gateway.domain.idempotency import Fingerprints, read_key
from mospay_gateway.domain.limits import Held
from mospay_gateway.domain.payments import Payment
from mospay_gateway.storage.operations import Key
from mospay_gateway.usecases.acceptance import Acceptor
from mospay_gateway.usecases.gate import Gate
from mospay_gateway.usecases.identity import Identity
from mospay_gateway.usecases.waiting import Waiters

WAIT_LIMIT_SECONDS = 120.0
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Parts:
    """What `app.py` wired. `complete` says whether the directory's first snapshot is whole."""

    database: Database
    relay: Relay
    catalogue: Catalogue
    complete: Callable[[], bool]
    identity: Identity
    gate: Gate
    acceptor: Acceptor
    waiters: Waiters
    router: RouterClient
    reporter: ReporterClient
    ledger: LedgerClient
    file_seconds: float
    fingerprints: Fingerprints
    callback_limit_bytes: int
    enquire_every: dt.timedelta

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
        """Return who calls, let in by address and within its limits.

        Raises NotAuthenticated, NotAllowed, AddressRefused, TooMany; InvalidRequest for a query
        that names a parameter twice.
        """
        self.insist_on_directory()
        headers = request.headers
        caller = self.gate.authenticate(
            api_key=headers.get("x-api-key"),
            authorization=headers.get("authorization"),
            app_id=headers.get("app-id"),
            address=address_of(request),
            path=request.scope["path"],
        )
        self.admit(request, caller)
        _refuse_repeats(request)
        return caller

    def admit(self, request: Request, caller: ClientApp) -> None:
        """Let in who is known now; the layers around log it and tell its limits.

        Raises AddressRefused, TooMany.
        """
        state = request.state
        held: list[Held] = []
        state.client_id, state.mode, state.limits = caller.client_id, caller.mode, held
        self.gate.admit(caller, held, address_of(request), request.scope["path"])

    def use(self, request: Request, caller: ClientApp, service: ServiceV1) -> None:
        """Count a payment against its service's limit; raises TooMany."""
        held: list[Held] = request.state.limits
        self.gate.use(caller, service, held, address_of(request), request.scope["path"])

    async def freshest(self, payment: Payment) -> Payment:
        """Return the payment with the router's word if it has not ended (briefly asked)."""
        if payment.final:
            return payment
        news = await self.router.news(payment.id, payment.client_id, payment.mode)
        return payment.with_news(news)


def _refuse_repeats(request: Request) -> None:
    """Raise InvalidRequest for parameters given more than once: which of them is meant?"""
    if not request.scope["query_string"]:
        return
    names = Counter(name for name, _ in request.query_params.multi_items())
    if faults := [
        Fault(name[:100], "repeated", "is given more than once; send it once")
        for name, times in names.items()
        if times > 1
    ]:
        raise InvalidRequest(faults)


BODY_LIMIT_BYTES = 256 * 1024  # of one payment or operation; a batch of sale events may be longer


def address_of(request: Request) -> str | None:
    """Return where a call comes from, as the layer around the routes resolved it."""
    found: str | None = getattr(request.state, "address", None)
    return found


def now() -> dt.datetime:
    """Return the instant, aware UTC."""
    return dt.datetime.now(dt.UTC)


async def raw_body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the body; raises Problem 400 when its sender went away, 413 when it is too long."""
    try:
        body = await request.body()
    except ClientDisconnect as error:  # nobody is left to read the answer
        raise Problem(400, "client_gone", "The request ended before its body did") from error
    if len(body) > limit_bytes:
        title = "The body is too large"
        raise Problem(413, "body_too_large", title, detail=f"Send at most {limit_bytes} bytes.")
    return body


async def read_object(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object; raises NotJson or InvalidRequest."""
    try:
        body = orjson.loads(await raw_body(request))
    except orjson.JSONDecodeError as error:
        raise NotJson from error
    if not isinstance(body, dict):
        raise InvalidRequest([Fault("body", "not_an_object", "must be a JSON object")])
    return body


def read_model(model: type[M], body: dict[str, Any]) -> M:
    """Return a body as a model; raises InvalidRequest with every fault of its shape."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest(shape_faults(error)) from error


def shape_faults(error: ValidationError) -> list[Fault]:
    """Turn pydantic's faults into ours; values are never repeated."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        code, words = fault["type"], fault["msg"]
        if code == "missing":
            code, words = "required", "is required"
        elif code == "extra_forbidden":
            words = "is not a field of this request"
        faults.append(Fault(".".join(str(part) for part in fault["loc"]), code, words))
    return faults


def operation_key(
    parts: Parts, request: Request, caller: ClientApp, body: dict[str, Any], *, required: bool
) -> Key | None:
    """Return the request's Idempotency-Key in its scope; raises InvalidKey."""
    header = request.headers.get("idempotency-key")
    if header is None and not required:
        return None
    kept = {name: value for name, value in body.items() if value is not None}
    return Key(
        caller.client_id,
        caller.mode,
        f"{request.method} {request.url.path}",
        read_key(header),
        parts.fingerprints.of_body(kept),
    )


async def read_optional_object(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object, {} where there is none."""
    return await read_object(request) if await raw_body(request) else {}


def wait_seconds(request: Request, default: float) -> float:
    """Return how long the caller wants to wait: `Prefer: wait=n` (RFC 7240), 120 s at most."""
    for preference in request.headers.get("prefer", "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit():
            return min(float(digits[:6]), WAIT_LIMIT_SECONDS)
    return default
