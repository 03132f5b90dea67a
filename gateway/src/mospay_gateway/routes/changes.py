"""`/v1/payments/{id}/cancel` and `/retry`: a wish about a payment, and a new one in its place."""

from collections.abc import Set
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response
from mospay_shared.ids import is_id
from pydantic import BaseModel, ConfigDict, Field

from mospay_gateway.domain.drafts import SECRET_CODES, Entry
from mospay_gateway.domain.errors import NotFound, NotRetryable
from mospay_gateway.domain.idempotency import read_key
from mospay_gateway.domain.payments import NOT_PAID, Payment
from mospay_gateway.routes.accepting import Incoming, accept, earlier_of
from mospay_gateway.routes.parts import (
    Parts,
    now,
    operation_key,
    read_model,
    read_object,
    read_optional_object,
    wait_seconds,
)
from mospay_gateway.routes.payments import (
    NAMES,
    TAGS,
    PaymentObject,
    Text,
    answer,
    fingerprint_source,
    header_parameter,
    json_body,
)
from mospay_gateway.usecases.operations import MISSING, request_cancel
from mospay_gateway.usecases.reading import read_payment

Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
KEY = header_parameter("Idempotency-Key", "A fresh one for every new wish", required=True)
OPTIONAL_KEY = header_parameter("Idempotency-Key", "Binds the answer to a key of yours")


class CancelPayment(BaseModel):
    """Why a payment is to be cancelled; the whole body may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: Reason | None = None


class RetryPayment(BaseModel):
    """What a retry needs beyond the payment it repeats: a reference, and secrets if any.

    f007, f008 and other secret fields are erased when a payment ends, so they are sent again.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    reference: Text = Field(description="Your own id of the new payment; unique for ever")
    fields: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=dict, max_length=60, description="Secret fields alone: f007, f008, …"
    )


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    @routes.post(
        "/v1/payments/{payment_id}/cancel",
        tags=TAGS,
        status_code=202,
        response_model=PaymentObject,
        openapi_extra={
            "parameters": [OPTIONAL_KEY],
            "requestBody": json_body(CancelPayment, required=False),
        },
    )
    async def cancel_payment(payment_id: str, request: Request) -> Response:
        """Ask for a payment to be cancelled.

        A request, not an outcome: what was already sent to the provider may still succeed. 202
        shows `cancel_requested_at`; a payment that is cancelled already is 200, one that ended
        otherwise 409.
        """
        caller = parts.identify(request)
        check_id(payment_id)
        body = await read_optional_object(request)
        wish = read_model(CancelPayment, body)
        payment, replayed = await request_cancel(
            parts.database,
            parts.relay,
            caller,
            payment_id,
            reason=wish.reason,
            key=operation_key(parts, request, caller, body, required=False),
            request_id=request.state.request_id,
        )
        request.state.payment_id = payment_id
        return answer(payment, replayed=replayed)

    @routes.post(
        "/v1/payments/{payment_id}/retry",
        tags=TAGS,
        status_code=202,
        response_model=PaymentObject,
        openapi_extra={"parameters": [KEY], "requestBody": json_body(RetryPayment)},
    )
    async def retry_payment(payment_id: str, request: Request) -> Response:
        """Make a new payment like one that failed, expired or was cancelled.

        It has `retry_of`, a reference of its own, and is checked against today's limits and
        services.
        """
        received_at = now()
        caller = parts.identify(request)
        key = read_key(request.headers.get("idempotency-key"))
        check_id(payment_id)
        body = await read_object(request)
        wish = read_model(RetryPayment, body)
        first = await read_payment(parts.database, caller, payment_id)
        offers = parts.catalogue.offers(caller.client, first.service, first.microservice)
        secret = SECRET_CODES.union(*(offer.rules.secrets for offer in offers))
        incoming = Incoming(
            caller,
            retry_entry(first, wish, secret),
            f"POST {request.url.path}",
            key,
            parts.fingerprints.of_body({**fingerprint_source(body), "retry_of": payment_id}),
            received_at,
            retry_of=payment_id,
        )
        if first.status not in NOT_PAID:  # it may have been retried before it succeeded late
            found = await earlier_of(parts, incoming)
            if found is None:
                shown = first.status.value
                raise NotRetryable(f"Only a payment that ended without money, not one {shown}")
            return answer(found, replayed=True)
        payment, replayed = await accept(parts, request, incoming, wait_seconds(request, 0.0))
        return answer(payment, replayed=replayed)


def check_id(payment_id: str) -> None:
    """Refuse what can't be a payment's id; raises NotFound."""
    if not is_id(payment_id, "pay"):
        raise NotFound(MISSING)


def retry_entry(first: Payment, wish: RetryPayment, secret: Set[str]) -> Entry:
    """Make the entry of a retry: the first payment's values, the wish's reference and secrets."""
    entry = Entry(
        values={**first.fields, "f002": first.route, "f010": wish.reference},
        names=NAMES,
        amount_minor=first.amount_minor,
        currency=first.currency,
        customer_id=first.customer_id,
        product_id=first.product_id,
        product_name=first.product_name,
        metadata=first.metadata,
    )
    for code, value in wish.fields.items():
        if code not in secret:
            message = "is taken from the payment; only secret fields are sent again"
            entry.fault_at(f"fields.{code}"[:100], "not_here", message)
        else:
            entry.values[code] = value
    return entry
