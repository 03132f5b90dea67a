"""A payment as the router knows it right now, and its refunds."""

import datetime as dt
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import Problem, ProblemBody
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_payment_router.domain.errors import NoSuchPayment, NoSuchRefund
from mospay_payment_router.storage import views


class AttemptView(BaseModel):
    """One call to a provider. `state` is ready, sending, answered, unknown or ended."""

    id: str = Field(examples=["att_0198c0ffee00700080000000000000aa"])
    number: int
    state: str
    route: str
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    http_status: int | None
    result: str | None = Field(examples=["processed"])
    reason: str | None


class RefundView(BaseModel):
    """A refund with its one attempt. Amounts in minor units of the payment's currency."""

    id: str = Field(examples=["ref_0198c0ffee00700080000000000000aa"])
    payment_id: str
    client_id: str
    mode: str
    amount_minor: int = Field(examples=[500])
    currency: str = Field(examples=["RWF"])
    status: str = Field(examples=["pending"])
    version: int
    late: bool
    over_refund: bool
    resolved: bool = Field(description="Ended by two people, not by the provider's proof")
    provider_reference: str | None
    reason: str | None
    reason_code: str | None
    reason_message: str | None
    attention: str | None
    attempt_state: str
    enquiries: int
    requested_at: dt.datetime
    updated_at: dt.datetime


class PaymentView(BaseModel):
    """The latest state of a payment; `version` rises with each change of its status."""

    id: str = Field(examples=["pay_0198c0ffee00700080000000000000aa"])
    client_id: str
    mode: str
    status: str = Field(examples=["succeeded"])
    version: int
    provider_reference: str | None
    reason_code: str | None
    reason_message: str | None
    late: bool
    attention: str | None = Field(description="Why a person must look at it, if so")
    updated_at: dt.datetime
    retry_of: str | None
    refund_open_minor: int = Field(description="Reserved for refunds that have not ended")
    refunded_minor: int = Field(description="Given back, proven")
    over_refunded_minor: int = Field(description="Given back beyond what was captured")
    attempts: list[AttemptView]
    refunds: list[RefundView]


def add_routes(api: APIRouter, service: Service) -> None:
    """Add the routes."""
    reads = Depends(service.verifier.needs("payments:read"))
    not_seen: dict[int | str, dict[str, object]] = {
        404: {"model": ProblemBody, "description": "Not seen by the router yet"}
    }

    def seen_by(caller: Caller) -> AbstractAsyncContextManager[Tx]:
        return service.database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        )

    @api.get("/internal/v1/payments/{payment_id}", responses=not_seen)
    async def payment(payment_id: str, caller: Caller = reads) -> PaymentView:
        """One payment with its attempts, of the caller's tenant alone."""
        async with seen_by(caller) as tx:
            try:
                found = await views.payment(tx, payment_id)
            except NoSuchPayment as error:
                title = "The router has no such payment (yet)"
                raise Problem(404, NoSuchPayment.code, title) from error
        return PaymentView.model_validate(found)

    @api.get("/internal/v1/refunds/{refund_id}", responses=not_seen)
    async def refund(refund_id: str, caller: Caller = reads) -> RefundView:
        """One refund, of the caller's tenant alone."""
        async with seen_by(caller) as tx:
            try:
                found = await views.refund(tx, refund_id)
            except NoSuchRefund as error:
                title = "The router has no such refund (yet)"
                raise Problem(404, NoSuchRefund.code, title) from error
        return RefundView.model_validate(found)

    @api.get("/internal/v1/refunds")
    async def open_refunds(
        status: Literal["pending", "unknown"] = "unknown",
        after: Annotated[str | None, Query(max_length=80)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        caller: Caller = reads,
    ) -> list[RefundView]:
        """Refunds without an end, of the caller's tenant alone, the oldest first."""
        async with seen_by(caller) as tx:
            found = await views.open_refunds(tx, status, after, limit)
        return [RefundView.model_validate(row) for row in found]
