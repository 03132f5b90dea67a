"""Payments the ledger asks for on behalf of a client: an invoice is paid like anything else.

The same way in as `/v1/payments`: same checks, limits and idempotency. What differs is who vouches
for the client (a service token that names it, no credential and no address of its own) and that a
request says until when it may be accepted, so that absence can be proven after that.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service_tokens import Caller, TokenVerifier
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from mospay_gateway.domain.errors import Fault, InvalidRequest, NotAllowed, NotFound
from mospay_gateway.domain.idempotency import KEY_PATTERN, read_key
from mospay_gateway.domain.limits import Held
from mospay_gateway.routes.accepting import Incoming, accept, earlier_of
from mospay_gateway.routes.answers import json_response
from mospay_gateway.routes.parts import Parts, now, read_model, read_object
from mospay_gateway.routes.payments import (
    CreatePayment,
    PaymentObject,
    answer,
    fingerprint_source,
    json_body,
    read_entry,
)
from mospay_gateway.usecases.reading import read_by_key

OPERATION = "POST /internal/v1/payments"  # keys of clients and of the house never meet
ClientId = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[\x21-\x7e]+$")]
Mode = Annotated[str, Field(pattern=r"^(live|test)$")]


class Behalf(BaseModel):
    """For whom a payment is, under which key, and until when it may be accepted."""

    model_config = ConfigDict(extra="forbid")

    client_id: ClientId
    mode: Mode
    idempotency_key: str = Field(min_length=1, max_length=255, pattern=KEY_PATTERN)
    not_after: AwareDatetime = Field(
        description="A new payment is refused after this; the answer to an earlier one is not"
    )


class PaymentOnBehalf(CreatePayment):
    """A payment of `/v1/payments` with whose it is; the key is in the body."""

    client_id: ClientId
    mode: Mode
    idempotency_key: str = Field(min_length=1, max_length=255, pattern=KEY_PATTERN)
    not_after: AwareDatetime


def _insist(caller: Caller, client_id: str, mode: str) -> None:
    """Raise 403 unless the ledger asks, for the tenant its token names."""
    if caller.issuer != "ledger":
        raise Problem(403, "not_allowed", "Only the ledger pays on behalf of clients")
    if (caller.client_id, caller.mode) != (client_id, mode):
        raise Problem(403, "not_allowed", "The token speaks for another client or mode")


def router(parts: Parts, verifier: TokenVerifier) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])

    @routes.post(
        "/payments",
        status_code=202,
        responses={
            200: {"model": PaymentObject, "description": "Ended by now"},
            202: {"model": PaymentObject, "description": "Accepted"},
        },
        openapi_extra={"requestBody": json_body(PaymentOnBehalf)},
    )
    async def create_payment(
        request: Request, caller: Caller = Depends(verifier.needs("payments:create"))
    ) -> Response:
        """Accept a payment for a client, or return the one this key made before.

        403 and 422 say that nothing was accepted under this key (but the two codes that say it was
        used before with another body); anything else leaves that open.
        """
        received_at = now()
        parts.insist_on_directory()
        body = await read_object(request)
        head = read_model(Behalf, {n: body.pop(n) for n in Behalf.model_fields if n in body})
        _insist(caller, head.client_id, head.mode)
        app = parts.catalogue.app_of(head.client_id, head.mode)
        if app is None:
            raise NotFound("There is no such client here")
        incoming = Incoming(
            app,
            read_entry(body),
            OPERATION,
            read_key(head.idempotency_key),
            parts.fingerprints.of_body(fingerprint_source(body)),
            received_at,
        )
        # First of all: what was accepted stays so, whatever has become of the client since.
        if not incoming.entry.faults and (known := await earlier_of(parts, incoming)):
            return answer(known, replayed=True)
        if not app.client.active:
            raise NotAllowed("This client is not active", "client_inactive")
        if received_at > head.not_after:
            raise InvalidRequest([Fault("not_after", "too_late", "has passed")])
        held: list[Held] = []
        request.state.client_id, request.state.mode = app.client_id, app.mode
        request.state.limits = held
        parts.gate.admit_house(app, held, request.scope["path"])
        payment, replayed = await accept(parts, request, incoming, 0.0)
        return answer(payment, replayed=replayed)

    @routes.get("/payments/by-key/{client_id}/{mode}/{key}", response_model=PaymentObject)
    async def payment_by_key(
        client_id: ClientId,
        mode: Annotated[str, Path(pattern=r"^(live|test)$")],
        key: Annotated[str, Path(min_length=1, max_length=255, pattern=KEY_PATTERN)],
        caller: Caller = Depends(verifier.needs("payments:read")),
    ) -> Response:
        """The payment a key was used for, with the router's word if it has not ended.

        404 after the request's `not_after` (and the time a statement may take) proves absence.
        """
        parts.insist_on_directory()
        _insist(caller, client_id, mode)
        app = parts.catalogue.app_of(client_id, mode)
        payment = await read_by_key(
            parts.database,
            client_id,
            mode,
            operation=OPERATION,
            key=read_key(key),
            reference_hash=parts.fingerprints.of_reference(app.app_id if app else "", mode, key),
        )
        return json_response((await parts.freshest(payment)).view())

    return routes
