"""The field API (`/api/v1/…`): existing client apps work unchanged."""

from enum import Enum
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from mospay_gateway.domain.catalogue import ClientApp, Offer
from mospay_gateway.domain.drafts import CODE, FIELD_COUNT, SECRET_CODES, Entry
from mospay_gateway.domain.errors import Fault, InvalidRequest
from mospay_gateway.domain.payments import field_view
from mospay_gateway.routes.accepting import Incoming, accept
from mospay_gateway.routes.answers import json_response
from mospay_gateway.routes.parts import Parts, now, read_object, wait_seconds
from mospay_gateway.usecases.operations import enquire
from mospay_gateway.usecases.reading import read_by_reference

TAGS: list[str | Enum] = ["field API"]
OPERATION = "POST /api/v1/payment/process"
_NAMES = {"*": "{}"}
_EXAMPLE = {
    "f000": "mtnmomorwa", "f001": "collection", "f002": "payment", "f003": "akaliza_live",
    "f004": "1000.00", "f005": "+250780000000", "f006": "customer123", "f007": "",
    "f008": "their-password", "f009": "device_abc123", "f010": "txn_xyz789",
}  # fmt: skip
_FIELDS = {
    "type": "object",
    "title": "Fields",
    "description": "f000…f010, and f011… where the service defines them",
    "properties": {
        "f000": {"type": "string", "description": "microservice name"},
        "f001": {"type": "string", "description": "service name"},
        "f002": {"type": "string", "description": "route"},
        "f003": {"type": "string", "description": "App ID; that of the credentials"},
        "f004": {"type": "string", "description": "amount, decimal, in the service's currency"},
        "f005": {"type": "string", "description": "mobile number, E.164"},
        "f006": {"type": "string", "description": "user name"},
        "f007": {"type": "string", "description": "encrypted password (secret)"},
        "f008": {"type": "string", "description": "password (secret)"},
        "f009": {"type": "string", "description": "device id"},
        "f010": {"type": "string", "description": "your unique id of this payment, for ever"},
    },
    "additionalProperties": {"type": "string"},
    "examples": [_EXAMPLE],
}


class FieldAnswer(BaseModel):
    """A payment in the field API's words.

    `status` is 200 for a payment that succeeded, 202 while it goes on, 402 when it did not
    succeed; `outcome` is the state. HTTP says 200 once the payment has ended, else 202.
    """

    model_config = ConfigDict(extra="allow")
    status: str = Field(examples=["200"])
    type: str = Field(examples=["success"])
    message: str
    version: str = "1.0"
    action: str = "OUTPUT"
    command: str = Field(examples=["payment"])
    payment_id: str
    reference: str
    outcome: str = Field(examples=["succeeded"])
    amount: str
    currency: str
    provider_reference: str | None
    reason_code: str | None


class FieldError(BaseModel):
    """A refusal in the field API's words."""

    status: str = Field(examples=["422"])
    type: str = "error"
    message: str
    version: str = "1.0"
    action: str = "ERROR"
    command: str
    code: str
    errors: list[dict[str, str]]
    request_id: str


_DOCS: dict[int | str, dict[str, Any]] = {
    200: {"model": FieldAnswer, "description": "Ended while the request waited"},
    202: {"model": FieldAnswer, "description": "Accepted and still going on"},
    **{code: {"model": FieldError} for code in (400, 401, 403, 409, 422, 503)},
}
_APP_ID = {
    "name": "App-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The App ID of the credentials",
}


def _body(required: list[str]) -> dict[str, Any]:
    schema = {**_FIELDS, "required": required}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "parameters": [_APP_ID],
    }


def read_entry(body: dict[str, Any], caller: ClientApp) -> Entry:
    """Read the shape of a body: text fields by code; faults are kept in the entry."""
    entry = Entry(values={}, names=_NAMES)
    if len(body) > FIELD_COUNT:
        raise InvalidRequest(
            [Fault("body", "too_many_fields", f"has more than {FIELD_COUNT} fields")]
        )
    for code, value in body.items():
        if not CODE.fullmatch(code):
            entry.fault_at(code[:100], "unknown_field", "is not a field code (f000, f001, …)")
        elif isinstance(value, str):
            entry.values[code] = value
        elif isinstance(value, int) and not isinstance(value, bool):
            entry.values[code] = str(value)
        elif value is not None:
            entry.fault(code, "not_text", "must be text; send an amount as a decimal string")
    for code in ("f000", "f003"):
        if not entry.values.get(code) and not entry.faulty(code):
            entry.fault(code, "required", "is required")
    if entry.values.get("f003") not in (None, "", caller.app_id):
        entry.fault("f003", "wrong_app_id", "must be the App ID of these credentials")
    return entry


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""
    _add_payment_routes(routes, parts)
    _add_client_routes(routes, parts)


def _add_payment_routes(routes: APIRouter, parts: Parts) -> None:
    def answer_wait(caller: ClientApp, fields: dict[str, str]) -> float:
        name, microservice = fields.get("f001"), fields.get("f000")
        return float(parts.catalogue.answer_wait_seconds(caller.client, name, microservice))

    @routes.post(
        "/api/v1/payment/process",
        tags=TAGS,
        responses=_DOCS,
        response_model=FieldAnswer,
        openapi_extra=_body(["f000", "f001", "f002", "f003", "f004", "f010"]),
    )
    async def process(request: Request) -> Response:
        """Pay, and wait for the result.

        Waits up to the client's own limit (or `Prefer: wait=n`), then answers 202. The same
        f010 with the same fields answers with the same payment, with others 422, for ever.
        """
        received_at = now()
        caller = parts.identify(request)
        body = await read_object(request)
        source = {k: v for k, v in body.items() if k not in SECRET_CODES and v not in ("", None)}
        incoming = Incoming(
            caller,
            read_entry(body, caller),
            OPERATION,
            None,
            parts.fingerprints.of_body(source),
            received_at,
        )
        seconds = wait_seconds(request, answer_wait(caller, incoming.entry.values))
        payment, replayed = await accept(parts, request, incoming, seconds)
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        return json_response(field_view(payment), 200 if payment.final else 202, headers)

    @routes.post(
        "/api/v1/payment/status",
        tags=TAGS,
        responses=_DOCS,
        response_model=FieldAnswer,
        openapi_extra=_body(["f010"]),
    )
    async def status(request: Request) -> Response:
        """What became of the payment that f010 names; the other fields may be left out.

        For one that has not ended the provider is asked (every 5 s at most), and the answer waits
        for it as that of `process` does.
        """
        caller = parts.identify(request)
        body = await read_object(request)
        entry = read_entry({"f000": "-", "f003": caller.app_id, **body}, caller)
        reference = entry.values.get("f010")
        if not reference and not entry.faulty("f010"):
            entry.fault("f010", "required", "is required")
        if entry.faults or reference is None:
            raise InvalidRequest(entry.faults)
        reference_hash = parts.fingerprints.of_reference(caller.app_id, caller.mode, reference)
        payment = await read_by_reference(parts.database, caller, reference_hash)
        request.state.payment_id = payment.id
        payment = await parts.freshest(payment)
        if not payment.final:
            await enquire(
                parts.database, parts.relay, payment, parts.enquire_every, request.state.request_id
            )
            seconds = wait_seconds(request, answer_wait(caller, payment.fields))
            payment = await parts.waiters.wait(payment, seconds)
        return json_response(field_view(payment), 200 if payment.final else 202)


def _add_client_routes(routes: APIRouter, parts: Parts) -> None:
    @routes.get("/api/v1/client/services", tags=TAGS)
    async def services(request: Request) -> Response:
        """The services assigned to you, with the fields they want."""
        caller = parts.identify(request)
        offers = [o for o in parts.catalogue.offers(caller.client) if o.active]
        shown = [_service(offer, caller) for offer in offers]
        return json_response({**_SUCCESS, "message": f"{len(shown)} services", "services": shown})

    @routes.get("/api/v1/client/profile", tags=TAGS)
    async def profile(request: Request) -> Response:
        """Who you are here."""
        caller = parts.identify(request)
        client = caller.client
        shown = {
            "client_id": client.client_id,
            "name": client.name,
            "app_id": caller.app_id,
            "mode": caller.mode,
            "currency": client.currency,
            "time_zone": client.time_zone,
            "answer_wait_seconds": client.answer_wait_seconds,
        }
        return json_response({**_SUCCESS, "message": client.name, "profile": shown})


_SUCCESS = {"status": "200", "type": "success", "version": "1.0", "action": "OUTPUT"}


def _service(offer: Offer, caller: ClientApp) -> dict[str, Any]:
    service = offer.service
    return {
        "f000": service.microservice,
        "f001": service.name,
        "f002": service.routes,
        "f003": caller.app_id,
        "title": service.title,
        "currency": service.currency,
        "available": caller.mode in service.urls,
        "limits": offer.limits.model_dump(),
        "answer_wait_seconds": offer.answer_wait_seconds,
        "fields": [
            definition.model_dump(exclude_none=True)
            for definition in sorted(service.fields, key=lambda d: d.order)
        ],
    }
