"""HTTP in: payments, refunds, enquiries, the clock, inspection, and errors as problem+json."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
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
    parse_advance,
    parse_enquiry,
    parse_order,
    parse_reference,
    parse_references,
    parse_refund,
    parse_refund_enquiry,
)
from mospay_simulator.domain.payments import Effect, Json, enquiry_answer, payment_answer
from mospay_simulator.domain.refunds import RefundEffect, refund_answer, refund_enquiry_answer
from mospay_simulator.domain.scenarios import Delivery, Outcome
from mospay_simulator.openapi import (
    CLOCK,
    CLOCK_ADVANCE,
    EFFECTS,
    EFFECTS_QUERY,
    HEALTH,
    PAYMENT,
    REFUND,
    REFUND_EFFECTS,
    REFUND_EFFECTS_QUERY,
    REFUND_STATUS,
    SUMMARY,
)
from mospay_simulator.settings import Settings
from mospay_simulator.storage import Clock, Record

# Where the server puts the function that resets the connection of a request.
CUT_EXTENSION: Final = "mospay_simulator.cut"

_GARBAGE = b"\x00\xff<html>upstream said nothing"
_PROBLEMS: Final = {
    MalformedError: (422, "The request is malformed"),
    BodyTooLargeError: (413, f"The body is longer than {BODY_BYTES_MAX} bytes"),
    AttemptReusedError: (
        409,
        "The attempt id belongs to another reference or refund; nothing was done",
    ),
}


@dataclass(slots=True)
class Provider:
    """What the routes work with; `tasks` are the background loops, watched by /healthz."""

    record: Record
    clock: Clock
    settings: Settings
    settlements_due: asyncio.Event
    callbacks_due: asyncio.Event
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

    @app.get("/_clock", **CLOCK)
    async def clock() -> Response:
        return _clock(provider)

    @app.post("/_clock", **CLOCK_ADVANCE)
    async def advance(request: Request) -> Response:
        await provider.clock.advance(parse_advance(await _read_json(request)))
        provider.settlements_due.set()
        provider.callbacks_due.set()
        return _clock(provider)

    _install_inspection(app, provider)

    @app.post("/{service}/refund", **REFUND)
    async def refund(request: Request) -> Response:
        return await _refund(provider, request)

    @app.post("/{service}/refundStatus", **REFUND_STATUS)
    async def refund_status(request: Request) -> Response:
        await _begin(provider, request)
        refund_id = parse_refund_enquiry(await _read_json(request))
        found = await provider.record.find_refund(refund_id)
        return _json(*refund_enquiry_answer(found, refund_id))

    @app.post("/{service}/{route}", **PAYMENT)
    async def play(request: Request) -> Response:
        return await _play(provider, request)

    app.add_exception_handler(SimulatorError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)


def _install_inspection(app: FastAPI, provider: Provider) -> None:
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
        return _effects(*await provider.record.effects_of(reference))

    @app.post("/_effects/refunds/query", **REFUND_EFFECTS_QUERY)
    async def count_refund_effects(request: Request) -> Response:
        references = parse_references(await _read_json(request))
        return _json(200, await provider.record.count_refund_effects(references))

    @app.get("/_effects/refunds", **REFUND_EFFECTS)
    async def refund_effects(request: Request) -> Response:
        of_payment = request.query_params.get("payment_reference")
        if of_payment is not None:
            reference = parse_reference(of_payment, "payment_reference")
            return _effects(*await provider.record.refund_effects_of_payment(reference))
        reference = parse_reference(request.query_params.get("reference"))
        return _effects(*await provider.record.refund_effects_of(reference))


async def _begin(provider: Provider, request: Request) -> None:
    """Refuse a path that names nothing, then take as long as a bench wants its provider to."""
    if not all(is_path_name(name) for name in request.path_params.values()):
        raise HTTPException(404)
    if provider.settings.delay_ms:
        await asyncio.sleep(provider.settings.delay_ms / 1000)


async def _play(provider: Provider, request: Request) -> Response:
    await _begin(provider, request)
    service, route = request.path_params["service"], request.path_params["route"]
    body = await _read_json(request)
    if is_enquiry(route):
        reference = parse_enquiry(body)
        return _json(*enquiry_answer(await provider.record.find(reference), reference))
    order = parse_order(service, route, body, request.headers)
    taken = await provider.record.take(order, provider.clock.now())
    payment = taken.payment
    if payment.settles_at is not None:
        provider.settlements_due.set()
    # A repeat is told what the first request came to; what left no trace has nothing to tell.
    if taken.repeated and payment.outcome is not Outcome.UNKNOWN:
        return _json(*payment_answer(payment))
    deliver = _DELIVERIES[payment.scenario.delivery]
    return await deliver(provider.settings, request, lambda: payment_answer(payment))


async def _refund(provider: Provider, request: Request) -> Response:
    await _begin(provider, request)
    body = await _read_json(request)
    order = parse_refund(request.path_params["service"], body, request.headers)
    taken = await provider.record.take_refund(order, provider.clock.now())
    refund = taken.refund
    if refund.settles_at is not None:
        provider.settlements_due.set()
    if taken.repeated and refund.outcome is not Outcome.UNKNOWN:
        return _json(*refund_answer(refund))
    deliver = _DELIVERIES[refund.scenario.delivery]
    return await deliver(provider.settings, request, lambda: refund_answer(refund))


# What a delivery is given to tell; not called by those that tell nothing.
Told = Callable[[], tuple[int, Json]]


async def _deliver_answer(_: Settings, __: Request, told: Told) -> Response:
    return _json(*told())


async def _deliver_slowly(settings: Settings, _: Request, told: Told) -> Response:
    await asyncio.sleep(settings.slow_seconds)
    return _json(*told())


async def _hang(settings: Settings, request: Request, _: Told) -> Response:
    # The body is read, so the next message can only be that the caller went away.
    # A server that stops cancels what still hangs: the caller gets a reset then, not an answer.
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(request.receive(), timeout=settings.hang_seconds)
    return CutConnection()


async def _cut(_: Settings, __: Request, ___: Told) -> Response:
    return CutConnection()


async def _deliver_error(_: Settings, request: Request, __: Told) -> Response:
    return _problem(request, 500, "simulated_error", "The provider failed, as this scenario asks")


async def _deliver_garbage(_: Settings, __: Request, ___: Told) -> Response:
    return Response(_GARBAGE, media_type="text/html")


_DELIVERIES: Final[dict[Delivery, Callable[[Settings, Request, Told], Awaitable[Response]]]] = {
    Delivery.ANSWER: _deliver_answer,
    Delivery.SLOW: _deliver_slowly,
    Delivery.HANG: _hang,
    Delivery.CUT: _cut,
    Delivery.ERROR: _deliver_error,
    Delivery.GARBAGE: _deliver_garbage,
}


def _clock(provider: Provider) -> Response:
    now = provider.clock.now().isoformat(timespec="microseconds")
    return _json(200, {"now": now, "offset_seconds": provider.clock.offset_seconds})


def _effects(found: Sequence[Effect] | Sequence[RefundEffect], repeats: int) -> Response:
    return _json(200, {"effects": [asdict(effect) for effect in found], "repeats": repeats})


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
