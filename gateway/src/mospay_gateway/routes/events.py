"""`/api/events/transaction[/batch]`: sale events of a merchant's own systems, for its analytics."""

import json
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn

from fastapi import APIRouter, Request
from fastapi.responses import Response
from mospay_shared.contracts import SaleEventV1
from mospay_shared.ids import new_id
from pydantic import BaseModel, Field

from mospay_gateway.domain.errors import Fault, InvalidRequest, NotJson
from mospay_gateway.domain.sales import BATCH_LIMIT, SaleEvent, Tenant, read_sale
from mospay_gateway.routes.answers import json_response
from mospay_gateway.routes.parts import Parts, now, raw_body
from mospay_gateway.routes.payments import json_body
from mospay_gateway.usecases.sales import known_sale, record_sales

TAGS: list[str | Enum] = ["merchant events"]
_FAULTS = 50  # named in one answer
BATCH_LIMIT_BYTES = 1024 * 1024  # 1000 sale events


class EventAnswer(BaseModel):
    """The event is on record; `queued` is false for one that was known already."""

    ok: bool = True
    event_id: str = Field(examples=["sal_019aa6d4c0de7b3f8a5b0c1d2e3f4a5b"])
    queued: bool
    message: str


class BatchAnswer(BaseModel):
    """How many of a batch were new."""

    ok: bool = True
    total: int
    ingested: int
    duplicates: int


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are no JSON")


async def read_exact(request: Request) -> Any:
    """Return the body as JSON whose decimals are exact; raises NotJson."""
    try:
        text = (await raw_body(request, BATCH_LIMIT_BYTES)).decode()
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise NotJson from error


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    @routes.post(
        "/api/events/transaction",
        tags=TAGS,
        status_code=202,
        response_model=EventAnswer,
        openapi_extra={"requestBody": json_body(SaleEvent)},
    )
    async def ingest_event(request: Request) -> Response:
        """Record one sale event.

        The same event again (`event_id`, else `transaction_id` and `event_type`) is recognised:
        `queued` is false.
        """
        tenant = _tenant(parts, request)
        body = await read_exact(request)
        event, faults = read_sale(body, tenant, new_id("sal"), now())
        if event is None:
            raise InvalidRequest(faults[:_FAULTS])
        done = await record_sales(parts.database, parts.relay, [event], request.state.request_id)
        if done.new:
            words = {"queued": True, "message": "Event queued for processing"}
            return json_response({"ok": True, "event_id": event.sale_event_id, **words}, 202)
        known = await known_sale(parts.database, event) or event.sale_event_id
        words = {"queued": False, "message": "Event was known already"}
        return json_response({"ok": True, "event_id": known, **words})

    @routes.post(
        "/api/events/transaction/batch",
        tags=TAGS,
        status_code=202,
        response_model=BatchAnswer,
        openapi_extra={"requestBody": _batch_body()},
    )
    async def ingest_batch(request: Request) -> Response:
        """Record up to 1000 sale events, all or none; faults are named by row (`3.amount`)."""
        tenant = _tenant(parts, request)
        events = _read_batch(await read_exact(request), tenant)
        done = await record_sales(parts.database, parts.relay, events, request.state.request_id)
        body = {
            "ok": True,
            "total": done.total,
            "ingested": len(done.new),
            "duplicates": done.duplicates,
        }
        return json_response(body, 202)


def _tenant(parts: Parts, request: Request) -> Tenant:
    caller = parts.identify(request)
    return Tenant(caller.client_id, caller.mode, caller.client.currency)


def _read_batch(body: Any, tenant: Tenant) -> list[SaleEventV1]:
    if not isinstance(body, list):
        raise InvalidRequest([Fault("body", "not_a_list", "must be a JSON array of events")])
    if not 1 <= len(body) <= BATCH_LIMIT:
        message = f"must have 1 to {BATCH_LIMIT} events"
        raise InvalidRequest([Fault("body", "wrong_count", message)])
    received_at = now()
    events, faults = [], []
    for row, raw in enumerate(body):
        event, found = read_sale(raw, tenant, new_id("sal"), received_at)
        faults += [Fault(f"{row}.{f.field}", f.code, f.message) for f in found]
        if event is not None:
            events.append(event)
        if len(faults) >= _FAULTS:
            break
    if faults:
        raise InvalidRequest(faults[:_FAULTS])
    return events


def _batch_body() -> dict[str, Any]:
    item = SaleEvent.model_json_schema()
    schema = {"type": "array", "items": item, "minItems": 1, "maxItems": BATCH_LIMIT}
    return {"required": True, "content": {"application/json": {"schema": schema}}}
