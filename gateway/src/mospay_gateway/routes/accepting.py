"""The one way in for both APIs: draft, dedupe, accept, wait."""

import datetime as dt
from dataclasses import dataclass

from fastapi import Request

from mospay_gateway.domain.catalogue import ClientApp
from mospay_gateway.domain.drafts import Entry, make_draft
from mospay_gateway.domain.errors import InvalidRequest, StillOpen
from mospay_gateway.domain.payments import Payment
from mospay_gateway.routes.parts import Parts
from mospay_gateway.usecases.acceptance import earlier_payment


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request for a payment whose shape has been read. `key` is None in the field API."""

    caller: ClientApp
    entry: Entry
    operation: str
    key: str | None
    fingerprint: bytes
    received_at: dt.datetime


async def accept(
    parts: Parts, request: Request, incoming: Incoming, wait_seconds: float
) -> tuple[Payment, bool]:
    """Return the payment (after the wait) and whether it is an earlier request's.

    Raises what the caller did wrong. Once accepted, it always returns: a wait that fails or
    is cut short gives the payment as it was accepted.
    """
    payment, replayed = await _accepted(parts, request, incoming)
    request.state.payment_id = payment.id
    return await parts.waiters.wait(payment, wait_seconds), replayed


async def _accepted(parts: Parts, request: Request, incoming: Incoming) -> tuple[Payment, bool]:
    caller, entry = incoming.caller, incoming.entry
    reference = entry.values.get("f010", "")
    reference_hash = parts.fingerprints.of_reference(caller.app_id, caller.mode, reference)

    async def earlier() -> Payment | None:
        return await earlier_payment(
            parts.database,
            caller,
            operation=incoming.operation,
            key=incoming.key,
            fingerprint=incoming.fingerprint,
            reference_hash=reference_hash,
        )

    shaped = not entry.faults
    try:
        draft = make_draft(entry, caller, parts.catalogue)
    except InvalidRequest:
        # What was accepted once stays so, whatever the directory has become since.
        found = await earlier() if shaped and reference else None
        if found is None:
            raise
        return found, True
    submission = parts.acceptor.submission(
        draft,
        operation=incoming.operation,
        key=incoming.key,
        fingerprint=incoming.fingerprint,
        reference_hash=reference_hash,
        request_id=request.state.request_id,
        received_at=incoming.received_at,
    )
    if await parts.acceptor.submit(submission):
        return submission.payment, False
    found = await earlier()
    if found is None:  # its record was dropped between the two looks: a moment later it is new
        raise StillOpen("An earlier request with this key or reference is being settled")
    return found, True
