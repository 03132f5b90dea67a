"""HTTP in: payments, refunds, enquiries, callbacks, and every error as problem+json."""

import base64
import binascii
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from mospay_paypal.domain.protocol import (
    BODY_BYTES_MAX,
    Answer,
    AttemptReusedError,
    CallbackBody,
    Currency,
    EnquiryFields,
    Identifier,
    MalformedError,
    Order,
    PathName,
    PaymentFields,
    RefundBody,
    RefundEnquiryBody,
    Slot,
    Told,
    UnsendableError,
    parse_object,
    read_fields,
)
from mospay_paypal.settings import Credentials, Settings
from mospay_paypal.usecases import Connector, Own

_STATUSES: Final = {"succeeded": 200, "pending": 202, "failed": 400, "unknown": 502}
_PROBLEM: Final[dict[int | str, dict[str, Any]]] = {
    409: {"description": "X-Attempt-Id belongs to another reference"},
    413: {"description": f"The body is longer than {BODY_BYTES_MAX} bytes, or says no length"},
    422: {"description": "Malformed; `errors` names each wrong field"},
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Answer, "description": "Succeeded; or, for an enquiry, known"},
    202: {"model": Answer, "description": "Pending"},
    400: {"model": Answer, "description": "Failed, with `reason_code`"},
    404: {"model": Answer, "description": "Enquiry only: `found` is false"},
    502: {"model": Answer, "description": "Unknown: the provider said nothing that can be used"},
    **_PROBLEM,
}
AttemptId = Annotated[Identifier, Header(alias="X-Attempt-Id")]
CallbackUrl = Annotated[
    str | None, Header(alias="X-Callback-Url", max_length=2048, pattern=r"^[!-~]+$")
]
InCurrency = Annotated[Currency | None, Header(alias="X-Currency")]
Sealed = Annotated[str | None, Header(alias="X-Provider-Credentials", max_length=16_384)]


def install(app: FastAPI, connector: Connector, settings: Settings) -> None:
    """Add all routes and error handlers."""

    def credentials(given: Sealed = None) -> Own:
        return lambda: read_credentials(given, settings)

    Its = Annotated[Own, Depends(credentials)]  # noqa: N806 - a type

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok", "name": settings.name}

    @app.post("/callbacks", responses=_PROBLEM)
    async def callback(body: CallbackBody, own: Its) -> Told:
        return await connector.callback(body, own)

    @app.post("/{service}/refund", response_model=Answer, responses=_ANSWERS)
    async def refund(
        service: PathName, body: RefundBody, attempt_id: AttemptId, own: Its
    ) -> JSONResponse:
        given = body.model_dump(exclude={"refund_id"})
        order = Order("refund", body.refund_id, attempt_id, **given)
        return _told(await connector.start(order, own))

    @app.post("/{service}/refundStatus", response_model=Answer, responses=_ANSWERS)
    async def refund_status(service: PathName, body: RefundEnquiryBody, own: Its) -> JSONResponse:
        given = body.model_dump(exclude={"refund_id"})
        return _found(await connector.enquire(Order("refund", body.refund_id, **given), own))

    @app.post("/{service}/{route}", response_model=Answer, responses=_ANSWERS)
    async def pay(
        service: PathName,
        route: PathName,
        body: list[Slot] | dict[str, Any],
        own: Its,
        attempt_id: Annotated[Identifier | None, Header(alias="X-Attempt-Id")] = None,
        callback_url: CallbackUrl = None,
        currency: InCurrency = None,
    ) -> JSONResponse:
        fields = read_fields(body)
        if route.endswith("Status"):
            enquiry = EnquiryFields.model_validate(fields)
            return _found(await connector.enquire(Order("payment", enquiry.f010), own))
        asked = PaymentFields.model_validate(fields)
        if attempt_id is None:
            raise MalformedError(**{"X-Attempt-Id": "required: repeats are known by it"})
        order = Order(
            "payment",
            asked.f010,
            attempt_id,
            asked.f004,
            currency or settings.currency,
            asked.f005,
            callback_url,
        )
        return _told(await connector.start(order, own))

    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(ValidationError, _refuse)
    app.add_exception_handler(MalformedError, _refuse)
    app.add_exception_handler(UnsendableError, _refuse)
    app.add_exception_handler(AttemptReusedError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_middleware(BodyLimit)


def read_credentials(given: str | None, settings: Settings) -> Credentials:
    """Return the environment's credentials, overridden by a client's own; raises UnsendableError.

    Names are those of the environment, with or without its prefix, in any case. An unknown name is
    refused: left out silently, the operator's own account would be charged instead.
    """
    mine = {name: getattr(settings, name) for name in Credentials.model_fields}
    if given is None:
        return Credentials.model_validate(mine)
    try:
        theirs = parse_object(base64.b64decode(given, validate=True))
    except (binascii.Error, ValueError):
        theirs = None
    if theirs is None:
        raise UnsendableError("X-Provider-Credentials is not base64 of a JSON object")
    prefix = str(settings.model_config.get("env_prefix", "")).lower()
    named = {name.lower().removeprefix(prefix): value for name, value in theirs.items()}
    wrong = {n for n, v in named.items() if n not in mine or not _is_header_text(v)}
    if wrong:
        names = ", ".join(sorted(wrong))[:200]
        raise UnsendableError(f"X-Provider-Credentials has wrong or unknown names: {names}")
    return Credentials.model_validate({**mine, **named})


def _is_header_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


class BodyLimit:
    """Refuses bodies that are too long, or that don't say how long they are, before reading."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit() or int(length) > BODY_BYTES_MAX:
                await _problem(scope["path"], 413, {})(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _told(answer: Answer) -> JSONResponse:
    return JSONResponse(answer.model_dump(exclude_none=True), _STATUSES[answer.outcome])


def _found(answer: Answer) -> JSONResponse:
    """Answer an enquiry: what is known is 200, whatever it is."""
    body = answer.model_dump(exclude_none=True)
    if answer.outcome == "unknown":
        return JSONResponse(body, 404 if answer.found is False else 502)
    return JSONResponse({**body, "found": True}, 200)


def _problem(path: str, status: int, errors: dict[str, str]) -> JSONResponse:
    phrase = HTTPStatus(status).phrase
    body = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "instance": path,
        "code": phrase.lower().replace(" ", "_"),
        "errors": [{"field": f, "code": "invalid", "message": m} for f, m in errors.items()],
    }
    return JSONResponse(body, status, media_type="application/problem+json")


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    path = request.url.path
    match error:
        case MalformedError():
            return _problem(path, 422, error.errors)
        case UnsendableError():  # of a callback; calls are answered `never_sent`
            return _problem(path, 422, {"X-Provider-Credentials": str(error)})
        case AttemptReusedError():
            return _problem(path, 409, {"X-Attempt-Id": "belongs to another reference"})
        case RequestValidationError() | ValidationError():
            # Names and words alone: the input of a wrong field may be a secret.
            named = {".".join(map(str, e["loc"])): str(e["msg"]) for e in error.errors()}
            return _problem(path, 422, {n.removeprefix("body."): m for n, m in named.items()})
        case HTTPException():
            return _problem(path, error.status_code, {})
    raise error
