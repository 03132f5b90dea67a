"""The one way in for both APIs: draft, dedupe, accept, wait."""

import datetime as dt
from dataclasses import dataclass

from fastapi import Request
from mospay_shared.money import format_minor

from mospay_gateway.domain.catalogue import ClientApp
from mospay_gateway.domain.drafts import DEFAULT_LENGTH, Entry, Origin, make_draft
from mospay_gateway.domain.errors import Fault, InvalidRequest, OverDailyLimit, StillOpen
from mospay_gateway.domain.payments import Payment
from mospay_gateway.routes.parts import Parts, address_of
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
    retry_of: str | None = None


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


def _reference_hash(parts: Parts, incoming: Incoming) -> bytes:
    caller, reference = incoming.caller, incoming.entry.values.get("f010", "")
    return parts.fingerprints.of_reference(caller.app_id, caller.mode, reference)


async def earlier_of(parts: Parts, incoming: Incoming) -> Payment | None:
    """Return the payment an earlier request with this key or reference made, if any."""
    return await earlier_payment(
        parts.database,
        incoming.caller,
        operation=incoming.operation,
        key=incoming.key,
        fingerprint=incoming.fingerprint,
        reference_hash=_reference_hash(parts, incoming),
    )


async def _accepted(parts: Parts, request: Request, incoming: Incoming) -> tuple[Payment, bool]:
    caller, entry = incoming.caller, incoming.entry
    origin = _origin(request, incoming)
    shaped = not entry.faults
    try:
        draft = make_draft(entry, caller, parts.catalogue)
    except InvalidRequest:
        # What was accepted once stays so, whatever the directory has become since.
        reference = entry.values.get("f010")
        found = await earlier_of(parts, incoming) if shaped and reference else None
        if found is None:
            raise
        return found, True
    phone = draft.fields.get("f005")
    phone_hash = parts.fingerprints.of_phone(phone) if phone else None
    parts.use(request, caller, draft.offer.service)
    submission = parts.acceptor.submission(
        draft,
        origin=origin,
        operation=incoming.operation,
        key=incoming.key,
        fingerprint=incoming.fingerprint,
        reference_hash=_reference_hash(parts, incoming),
        phone_hash=phone_hash,
    )
    try:
        if await parts.acceptor.submit(submission):
            return submission.payment, False
    except OverDailyLimit as error:
        raise _told(error, entry, submission.payment.currency) from error
    found = await earlier_of(parts, incoming)
    if found is None:  # its record was dropped between the two looks: a moment later it is new
        raise StillOpen("An earlier request with this key or reference is being settled")
    return found, True


def _origin(request: Request, incoming: Incoming) -> Origin:
    """Read where a request came from; a device id that can't be one is a fault of the entry."""
    device = request.headers.get("x-device-id") or None
    if device is not None and (len(device) > DEFAULT_LENGTH or not device.isprintable()):
        message = f"has 1 to {DEFAULT_LENGTH} printable characters"
        incoming.entry.fault_at("X-Device-Id", "invalid_device", message)
        device = None
    return Origin(
        request_id=request.state.request_id,
        received_at=incoming.received_at,
        ip=address_of(request),
        device=device,
        retry_of=incoming.retry_of,
    )


def _told(error: OverDailyLimit, entry: Entry, currency: str) -> InvalidRequest:
    """Name the field and what is left of the limit."""
    left = f"{format_minor(error.left_minor, currency)} {currency}"
    if error.by_phone:
        code, field, whose = "daily_phone_limit_exceeded", entry.name("f005"), "this number may pay"
    else:
        code, field, whose = "daily_limit_exceeded", entry.name("f004"), "you may take"
    fault = Fault(field, code, f"would exceed what {whose} in a day; {left} is left today")
    return InvalidRequest([fault], error.message, error.code)
