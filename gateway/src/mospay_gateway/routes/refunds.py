"""`/v1/payments/{id}/refunds` and `/v1/refunds`: give money back, see what became of it."""

from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from mospay_shared.contracts import RefundStatus
from mospay_shared.ids import is_id
from mospay_shared.money import MAX_MINOR
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from mospay_gateway.domain.errors import Fault, InvalidRequest, NotFound
from mospay_gateway.domain.refunds import Refund
from mospay_gateway.routes.answers import json_response
from mospay_gateway.routes.changes import KEY, Reason, check_id
from mospay_gateway.routes.parts import Parts, operation_key, read_model, read_optional_object
from mospay_gateway.routes.payments import json_body
from mospay_gateway.usecases.operations import list_refunds, read_refund, request_refund

TAGS: list[str | Enum] = ["refunds"]


class CreateRefund(BaseModel):
    """How much is to be given back; nothing given means everything that is left."""

    model_config = ConfigDict(extra="forbid", strict=True)
    amount_minor: int | None = Field(None, gt=0, le=MAX_MINOR)
    reason: Reason | None = None


class RefundObject(BaseModel):
    """A refund. A failed one may still turn out to have succeeded (`late`)."""

    id: str = Field(examples=["ref_019aa6d4c0de7b3f8a5b0c1d2e3f4a5b"])
    object: str = "refund"
    payment_id: str
    status: RefundStatus
    version: int
    mode: str
    amount_minor: int
    currency: str
    reason: str | None
    provider_reference: str | None
    reason_code: str | None
    reason_message: str | None
    late: bool
    over_refund: bool = Field(description="Proven when it no longer fitted in what was paid")
    requested_at: AwareDatetime
    updated_at: AwareDatetime


class RefundPage(BaseModel):
    """Refunds, newest first. `next_cursor` is null on the last page."""

    items: list[RefundObject]
    next_cursor: str | None


class RefundQuery(BaseModel):
    """What a list is narrowed to."""

    model_config = ConfigDict(extra="forbid")
    payment_id: str | None = Field(None, max_length=60)
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=60)


def answer_refund(refund: Refund, *, replayed: bool) -> Response:
    """Return a refund: 200 when it has ended, else 202 with where to look and when."""
    headers = {"Location": f"/v1/refunds/{refund.id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    if not refund.final:
        headers["Retry-After"] = "5"
    return json_response(refund.view(), 200 if refund.final else 202, headers)


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    @routes.post(
        "/v1/payments/{payment_id}/refunds",
        tags=TAGS,
        status_code=202,
        response_model=RefundObject,
        openapi_extra={
            "parameters": [KEY],
            "requestBody": json_body(CreateRefund, required=False),
        },
    )
    async def create_refund(payment_id: str, request: Request) -> Response:
        """Give (part of) a succeeded payment back.

        What is asked for must fit in what was paid, less what has been or is being refunded. The
        outcome comes by webhook, or by `GET /v1/refunds/{id}`.
        """
        caller = parts.identify(request)
        body = await read_optional_object(request)
        key = operation_key(parts, request, caller, body, required=True)
        assert key is not None
        check_id(payment_id)
        wish = read_model(CreateRefund, body)
        refund, replayed = await request_refund(
            parts.database,
            parts.relay,
            caller,
            payment_id,
            amount_minor=wish.amount_minor,
            reason=wish.reason,
            key=key,
            request_id=request.state.request_id,
        )
        request.state.payment_id = payment_id
        return answer_refund(refund, replayed=replayed)

    @routes.get("/v1/refunds/{refund_id}", tags=TAGS, response_model=RefundObject)
    async def get_refund(refund_id: str, request: Request) -> Response:
        """One refund."""
        caller = parts.identify(request)
        if not is_id(refund_id, "ref"):
            raise NotFound("There is no such refund among yours")
        refund = await read_refund(parts.database, caller, refund_id)
        request.state.payment_id = refund.payment_id
        return json_response(refund.view())

    @routes.get("/v1/refunds", tags=TAGS, response_model=RefundPage)
    async def get_refunds(query: Annotated[RefundQuery, Query()], request: Request) -> Response:
        """Your refunds (of one payment), newest first."""
        caller = parts.identify(request)
        if query.cursor is not None and not is_id(query.cursor, "ref"):
            raise InvalidRequest([Fault("cursor", "invalid_cursor", "is not a cursor of ours")])
        if query.payment_id is not None:
            check_id(query.payment_id)
        items, cursor = await list_refunds(
            parts.database,
            caller,
            payment_id=query.payment_id,
            before=query.cursor,
            limit=query.limit,
        )
        return json_response({"items": [r.view() for r in items], "next_cursor": cursor})
