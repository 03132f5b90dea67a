"""HTTP in: a payment as the router knows it right now, for gateway and portal-api."""

import datetime as dt

from fastapi import APIRouter, Depends
from mospay_shared.chassis.problems import Problem, ProblemBody
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_payment_router.domain.errors import NoSuchPayment
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
    attempts: list[AttemptView]


def router(service: Service) -> APIRouter:
    """Return the internal routes."""
    api = APIRouter(tags=["internal"])

    @api.get(
        "/internal/v1/payments/{payment_id}",
        responses={404: {"model": ProblemBody, "description": "Not seen by the router yet"}},
    )
    async def payment(
        payment_id: str, caller: Caller = Depends(service.verifier.needs("payments:read"))
    ) -> PaymentView:
        """One payment with its attempts, of the caller's tenant alone."""
        async with service.database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            try:
                found = await views.payment(tx, payment_id)
            except NoSuchPayment as error:
                title = "The router has no such payment (yet)"
                raise Problem(404, NoSuchPayment.code, title) from error
        return PaymentView.model_validate(found)

    return api
