"""Ask for a payment to be cancelled, refunded, enquired about; announce it again."""

import datetime as dt
from collections.abc import Sequence

from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.chassis.telemetry import current_traceparent
from mospay_shared.contracts import (
    CancelPaymentV1,
    Contract,
    EnquirePaymentV1,
    Outgoing,
    PaymentStatus,
    outgoing,
)
from mospay_shared.ids import new_id
from mospay_shared.money import format_minor

from mospay_gateway.domain.catalogue import ClientApp
from mospay_gateway.domain.errors import (
    AlreadyFinal,
    Fault,
    InvalidRequest,
    KeyReused,
    NotFound,
    NotRefundable,
    StillOpen,
)
from mospay_gateway.domain.payments import Payment
from mospay_gateway.domain.refunds import Refund
from mospay_gateway.storage import operations as storage
from mospay_gateway.storage import payments, refunds
from mospay_gateway.storage.operations import Key, Recorded

MISSING = "There is no such payment among yours"


def _command(wire_type: str, subject: str, body: Contract, request_id: str | None) -> Outgoing:
    return outgoing(
        wire_type,
        subject,
        body,
        source="gateway",
        correlation_id=request_id,
        traceparent=current_traceparent(),
    )


async def _earlier(tx: Tx, key: Key | None) -> Recorded | None:
    """Return what this key did before; raises StillOpen, KeyReused. Holds the key from here on."""
    if key is None:
        return None
    if not await storage.claim_key(tx, key):
        raise StillOpen("The first request with this key is still being accepted")
    found = await storage.recorded(tx, key)
    if found is not None and found.fingerprint != key.fingerprint:
        raise KeyReused("This Idempotency-Key came before with another payload; use a fresh key")
    return found


async def _locked(tx: Tx, caller: ClientApp, payment_id: str) -> Payment:
    payment = await storage.lock(tx, payment_id, caller.client_id, caller.mode)
    if payment is None:
        raise NotFound(MISSING)
    return payment


async def request_cancel(
    database: Database,
    relay: Relay,
    caller: ClientApp,
    payment_id: str,
    *,
    reason: str | None,
    key: Key | None,
    request_id: str,
) -> tuple[Payment, bool]:
    """Ask the router to cancel a payment; return it and whether the key had done so before.

    One command a payment, however often it is asked. A payment already cancelled is returned as it
    is; raises AlreadyFinal for any other end, NotFound, StillOpen, KeyReused.
    """
    async with database.transaction() as tx:
        if await _earlier(tx, key) is not None:
            return await _locked(tx, caller, payment_id), True
        payment = await _locked(tx, caller, payment_id)
        if payment.final and payment.status is not PaymentStatus.CANCELLED:
            raise AlreadyFinal(f"The payment has ended: it is {payment.status.value}")
        if not payment.final and payment.cancel_requested_at is None:
            now = dt.datetime.now(dt.UTC)
            payment = await storage.note_cancel(tx, payment_id, now)
            body = _cancel(payment, reason, now)
            command = _command("payments.cancel.v1", payment_id, body, request_id)
            await relay.enqueue(tx, [command])
        if key is not None:
            await storage.record(tx, key, payment_id)
    return payment, False


def _cancel(payment: Payment, reason: str | None, at: dt.datetime) -> CancelPaymentV1:
    return CancelPaymentV1(
        payment_id=payment.id,
        client_id=payment.client_id,
        mode=payment.mode,
        reason=reason,
        requested_at=at,
    )


async def request_refund(
    database: Database,
    relay: Relay,
    caller: ClientApp,
    payment_id: str,
    *,
    amount_minor: int | None,
    reason: str | None,
    key: Key,
    request_id: str,
) -> tuple[Refund, bool]:
    """Ask for (part of) a payment to be given back; None is everything left.

    Row, command and key are one transaction under the payment's row lock. What fits is checked
    against what is known here; the router decides. Raises NotRefundable, InvalidRequest
    (`refund_too_large`), NotFound, StillOpen, KeyReused.
    """
    async with database.transaction() as tx:
        before = await _earlier(tx, key)
        if before is not None:
            refund = await refunds.find(tx, before.refund_id or "")
            assert refund is not None, "a refund's key names its refund"
            return refund, True
        payment = await _locked(tx, caller, payment_id)
        refund = Refund(
            id=new_id("ref"),
            payment_id=payment.id,
            client_id=payment.client_id,
            mode=payment.mode,
            amount_minor=_refund_amount(payment, amount_minor),
            currency=payment.currency,
            reason=reason,
            requested_at=dt.datetime.now(dt.UTC),
        )
        await refunds.add(tx, refund, request_id)
        await storage.record(tx, key, payment.id, refund.id)
        # the subject is the payment: its trace shows what was asked of it
        command = _command("payments.refund.v1", payment.id, refund.command(), request_id)
        await relay.enqueue(tx, [command])
    return refund, False


def _refund_amount(payment: Payment, wanted: int | None) -> int:
    if payment.status is not PaymentStatus.SUCCEEDED:
        raise NotRefundable(f"Only a payment that succeeded can be refunded, not one that is "
                            f"{payment.status.value}")  # fmt: skip
    left = payment.refundable_minor
    if left == 0 or (wanted or 0) > left:
        shown = f"{format_minor(left, payment.currency)} {payment.currency}"
        fault = Fault("amount_minor", "refund_too_large", f"at most {shown} can still be refunded")
        message = "More can't be refunded than was paid"
        raise InvalidRequest([fault], message, "refund_too_large")
    return left if wanted is None else wanted


async def enquire(
    database: Database, relay: Relay, payment: Payment, every: dt.timedelta, request_id: str
) -> bool:
    """Ask the router to ask the provider now; False when that was done a moment ago."""
    body = EnquirePaymentV1(
        payment_id=payment.id,
        client_id=payment.client_id,
        mode=payment.mode,
        requested_at=dt.datetime.now(dt.UTC),
    )
    async with database.transaction() as tx:
        if not await storage.note_enquiry(tx, payment, every):
            return False
        command = _command("payments.enquire.v1", payment.id, body, request_id)
        await relay.enqueue(tx, [command])
    return True


async def announce_again(
    database: Database, relay: Relay, ids: Sequence[str], after: dt.timedelta
) -> int:
    """Send payments the router does not know once more, where that is due; return how many.

    The same payment id and the same pinned values: a router that knows it after all takes no
    second one. A cancel that was asked for goes along.
    """
    async with database.transaction() as tx:
        due = await storage.claim_announcements(tx, ids, after)
        commands = []
        for payment, secrets in due:
            if payment.cancel_requested_at is not None:
                body = _cancel(payment, None, payment.cancel_requested_at)
                commands.append(
                    _command("payments.cancel.v1", payment.id, body, payment.request_id)
                )
            command = payment.command(secrets)
            commands.append(
                _command("payments.process.v1", payment.id, command, payment.request_id)
            )
        await relay.enqueue(tx, commands)
    return len(due)


async def announce_refunds_again(
    database: Database,
    relay: Relay,
    ids: Sequence[str],
    after: dt.timedelta,
    last_after: dt.timedelta,
) -> int:
    """Send refunds the router does not know once more, where that is due; return how many.

    The router takes a refund once, however often it is told of it, and one older than its memory
    is only asked about.
    """
    async with database.transaction() as tx:
        due = await refunds.claim_announcements(tx, ids, after, last_after)
        commands = [
            _command("payments.refund.v1", refund.payment_id, refund.command(), request_id)
            for refund, request_id in due
        ]
        await relay.enqueue(tx, commands)
    return len(due)


async def read_refund(database: Database, caller: ClientApp, refund_id: str) -> Refund:
    """Return a refund of the caller's; raises NotFound."""
    async with database.request(client_id=caller.client_id, mode=caller.mode) as tx:
        refund = await refunds.find(tx, refund_id)
    if refund is None:
        raise NotFound("There is no such refund among yours")
    return refund


async def list_refunds(
    database: Database, caller: ClientApp, *, payment_id: str | None, before: str | None, limit: int
) -> tuple[list[Refund], str | None]:
    """Return a page, newest first, and the id to go on from; NotFound for a foreign payment."""
    async with database.request(client_id=caller.client_id, mode=caller.mode) as tx:
        if payment_id is not None and await payments.find(tx, payment_id) is None:
            raise NotFound(MISSING)
        found = await refunds.page(tx, caller.client_id, caller.mode, before, payment_id, limit + 1)
    return found[:limit], found[limit - 1].id if len(found) > limit else None
