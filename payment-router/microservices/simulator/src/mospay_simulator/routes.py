"""HTTP in: payments, enquiries, the inspection of effects, and every error as problem+json."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mospay_simulator.domain.errors import (
    AttemptReusedError,
    BodyTooLargeError,
    FieldError,
    MalformedError,
    SimulatorError,
)
from mospay_simulator.domain.payloads import (
    BODY_BYTES_MAX,
    is_enquiry,
    is_path_name,
    parse_enquiry,
    parse_order,
    parse_reference,
    parse_references,
)
from mospay_simulator.domain.payments import Json, Payment, enquiry_answer, payment_answer
from mospay_simulator.domain.scenarios import Delivery, Outcome
from mospay_simulator.openapi import EFFECTS, EFFECTS_QUERY, HEALTH, PAYMENT, SUMMARY
from mospay_simulator.settings import Settings
from mospay_simulator.storage import Record

# Where the server puts the function that resets the connection of a request.
CUT_EXTENSION: Final = "mospay_simulator.cut"

_GARBAGE = b"\x00\xff<html>upstream said nothing"
_PROBLEMS: Final = {
    MalformedError: (422, "The request is malformed"),
    BodyTooLargeError: (413, f"The body is longer than {BODY_BYTES_MAX} bytes"),
    AttemptReusedError: (409, "The attempt id belongs to another reference; nothing was done"),
}


@dataclass(slots=True)
class Provider:
    """What the routes work with; `tasks` are the background loops, watched by /healthz."""

    record: Record
    settings: Settings
    payments_due: asyncio.Event
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class CutConnection(Response):
    """Resets the connection instead of answering."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][CUT_EXTENSION]["reset"]()
        # The server must have noticed before this returns, or it would answer 500 into the void.
        while (await receive())["type"] != "http.disconnect":
            pass


def install(app: FastAPI, provider: Provider) -> None:
    """Add all routes and error handlers; the inspection comes first, as a path can match both."""

    @app.get("/healthz", **HEALTH)
    async def health() -> Response:
        broken = any(task.done() for task in provider.tasks)
        return _json(503 if broken else 200, {"status": "broken" if broken else "ok"})

    @app.get("/_effects/summary", **SUMMARY)
    async def summary() -> Response:
        return _json(200, asdict(await provider.record.summary()))

    @app.post("/_effects/query", **EFFECTS_QUERY)
    async def count_effects(request: Request) -> Response:
        references = parse_references(await _read_json(request))
        return _json(200, await provider.record.count_effects(references))

    @app.get("/_effects", **EFFECTS)
    async def effects(request: Request) -> Response:
        reference = parse_reference(request.query_params.get("reference"))
        found, repeats = await provider.record.effects_of(reference)
        return _json(200, {"effects": [asdict(effect) for effect in found], "repeats": repeats})

    @app.post("/{service}/{route}", **PAYMENT)
    async def play(request: Request) -> Response:
        return await _play(provider, request)

    app.add_exception_handler(SimulatorError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)


async def _play(provider: Provider, request: Request) -> Response:
    service, route = request.path_params["service"], request.path_params["route"]
    if not (is_path_name(service) and is_path_name(route)):
        raise HTTPException(404)
    body = await _read_json(request)
    if provider.settings.delay_ms:
        await asyncio.sleep(provider.settings.delay_ms / 1000)
    if is_enquiry(route):
        reference = parse_enquiry(body)
        return _json(*enquiry_answer(await provider.record.find(reference), reference))
    order = parse_order(service, route, body, request.headers)
    taken = await provider.record.take(order, datetime.now(UTC))
    payment = taken.payment
    if payment.settles_at is not None:
        provider.payments_due.set()
    # A repeat is told what the first request came to; what left no trace has nothing to tell.
    if taken.repeated and payment.outcome is not Outcome.UNKNOWN:
        return _json(*payment_answer(payment))
    return await _DELIVERIES[payment.scenario.delivery](provider.settings, request, payment)


async def _deliver_answer(_: Settings, __: Request, payment: Payment) -> Response:
    return _json(*payment_answer(payment))


async def _deliver_slowly(settings: Settings, _: Request, payment: Payment) -> Response:
    await asyncio.sleep(settings.slow_seconds)
    return _json(*payment_answer(payment))


async def _hang(settings: Settings, request: Request, _: Payment) -> Response:
    # The body is read, so the next message can only be that the caller went away.
    # A server that stops cancels what still hangs: the caller gets a reset then, not an answer.
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(request.receive(), timeout=settings.hang_seconds)
    return CutConnection()


async def _cut(_: Settings, __: Request, ___: Payment) -> Response:
    return CutConnection()


async def _deliver_error(_: Settings, request: Request, __: Payment) -> Response:
    return _problem(request, 500, "simulated_error", "The provider failed, as this scenario asks")


async def _deliver_garbage(_: Settings, __: Request, ___: Payment) -> Response:
    return Response(_GARBAGE, media_type="text/html")


_DELIVERIES: Final[dict[Delivery, Callable[[Settings, Request, Payment], Awaitable[Response]]]] = {
    Delivery.ANSWER: _deliver_answer,
    Delivery.SLOW: _deliver_slowly,
    Delivery.HANG: _hang,
    Delivery.CUT: _cut,
    Delivery.ERROR: _deliver_error,
    Delivery.GARBAGE: _deliver_garbage,
}


async def _read_json(request: Request) -> object:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLargeError
    try:
        decoded: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedError(FieldError("body", "invalid", "The body is not JSON")) from error
    return decoded


def _json(status: int, body: Json | dict[str, int]) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _problem(
    request: Request, status: int, code: str, title: str, errors: tuple[FieldError, ...] = ()
) -> Response:
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "instance": request.url.path,
        "code": code,
        "errors": [asdict(error) for error in errors],
    }
    return Response(orjson.dumps(body), status, media_type="application/problem+json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, SimulatorError)
    status, title = _PROBLEMS[type(error)]
    errors = error.errors if isinstance(error, MalformedError) else ()
    return _problem(request, status, error.code, title, errors)


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    answer = _problem(request, error.status_code, title.lower().replace(" ", "_"), title)
    answer.headers.update(error.headers or {})
    return answer
