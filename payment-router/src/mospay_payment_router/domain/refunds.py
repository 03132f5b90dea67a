"""Refunds: objects of their own, with the same care for evidence as payments.

A refund reserves its amount on the payment before anything is sent and keeps it while `unknown`.
"""

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

from mospay_shared.contracts import (
    FINAL_REFUND_STATUSES,
    Outgoing,
    PaymentStatus,
    RefundEventV1,
    RefundPaymentV1,
    RefundStatus,
    ResolveRefundV1,
    outgoing,
)
from mospay_shared.money import format_minor

from mospay_payment_router.domain.answers import Finding, undefined
from mospay_payment_router.domain.payments import SOURCE, Payment
from mospay_payment_router.domain.reasons import advice
from mospay_payment_router.domain.states import Evidence

_S, _E = RefundStatus, Evidence
_MOVES: dict[RefundStatus, dict[Evidence, RefundStatus]] = {
    _S.PENDING: {
        _E.SUCCEEDED: _S.SUCCEEDED,
        _E.DECLINED: _S.FAILED,
        _E.EXPIRED: _S.FAILED,
        _E.NEVER_SENT: _S.FAILED,
        _E.NOT_FOUND: _S.FAILED,
        _E.REFUSED: _S.FAILED,
        _E.UNDEFINED: _S.UNKNOWN,
        _E.MISMATCH: _S.UNKNOWN,
    },
    _S.UNKNOWN: {
        _E.SUCCEEDED: _S.SUCCEEDED,
        _E.DECLINED: _S.FAILED,
        _E.EXPIRED: _S.FAILED,
        _E.NEVER_SENT: _S.FAILED,
        _E.NOT_FOUND: _S.FAILED,
        _E.PEOPLE_SUCCEEDED: _S.SUCCEEDED,
        _E.PEOPLE_FAILED: _S.FAILED,
    },
    _S.FAILED: {_E.SUCCEEDED: _S.SUCCEEDED},
    _S.SUCCEEDED: {},
}
_DENIALS = frozenset({_E.DECLINED, _E.NEVER_SENT, _E.NOT_FOUND, _E.EXPIRED, _E.MISMATCH})
_PEOPLE = frozenset({_E.PEOPLE_SUCCEEDED, _E.PEOPLE_FAILED})


@dataclass(frozen=True, slots=True)
class Refund:
    """The latest state of a refund with its one attempt. Amounts in minor units of `currency`."""

    id: str
    payment_id: str
    client_id: str
    mode: str
    amount_minor: int
    currency: str
    reason: str | None
    requested_at: dt.datetime
    attempt_id: str
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    status: RefundStatus = RefundStatus.PENDING
    version: int = 1
    late: bool = False
    over_refund: bool = False
    resolved: bool = False
    provider_reference: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    attention: str | None = None
    attempt_state: str = "ready"
    enquiries: int = 0
    fence: int = 0
    url: str | None = None
    payload: bytes | None = None
    lease_until: dt.datetime | None = None
    http_status: int | None = None
    answer: bytes | None = None
    created_at: dt.datetime | None = None

    @property
    def final(self) -> bool:
        """Say whether nothing more is done about it by itself."""
        return self.status in FINAL_REFUND_STATUSES


@dataclass(frozen=True, slots=True)
class Purse:
    """What of a payment is reserved for refunds, given back, and given back beyond the capture."""

    open_minor: int
    refunded_minor: int
    over_minor: int

    def left(self, captured_minor: int) -> int:
        """Return what may still be asked for."""
        return max(0, captured_minor - self.open_minor - self.refunded_minor)


def refusal(payment: Payment, purse: Purse, command: RefundPaymentV1) -> Finding | None:
    """Return why a refund can't be made, or None. Nothing is sent for a refused one."""
    if payment.status is not PaymentStatus.SUCCEEDED:
        return Finding(_E.REFUSED, None, "not_refundable", f"the payment is {payment.status}")
    if command.currency != payment.currency:
        return Finding(_E.REFUSED, None, "wrong_currency", f"it was paid in {payment.currency}")
    left = purse.left(payment.amount_minor)
    if command.amount_minor > left:
        words = f"{format_minor(left, payment.currency)} {payment.currency} can still be refunded"
        return Finding(_E.REFUSED, None, "refund_too_large", words)
    if not payment.terms.refund:
        words = "the provider functions of this service can't refund"
        return Finding(_E.REFUSED, None, "refund_not_supported", words)
    return None


def may_pass(refusal: Finding) -> bool:
    """Say whether what forbids a refund now may be otherwise later, or was so before."""
    return refusal.reason_code in ("not_refundable", "refund_too_large")


def subject(refund: Refund, payment: Payment) -> Payment:
    """Return the payment in the shape in which functions and answers are judged for a refund.

    Reference, amount and provider reference are the refund's; the terms stay the payment's.
    """
    return replace(
        payment,
        id=refund.id,
        amount_minor=refund.amount_minor,
        provider_reference=refund.provider_reference,
        secrets=None,
    )


def function_input(refund: Refund, payment: Payment, route: str) -> dict[str, Any]:
    """Return `data_input` of a refund function: the payment's f-fields, ours under `mospay`."""
    return {
        **payment.fields,
        "f002": route,
        "mospay": {
            "payment_id": payment.id,
            "refund_id": refund.id,
            "mode": payment.mode,
            "amount_minor": refund.amount_minor,
            "refund_amount": format_minor(refund.amount_minor, refund.currency),
            "payment_amount_minor": payment.amount_minor,
            "currency": refund.currency,
            "provider_reference": payment.provider_reference,
            "reason": refund.reason,
            "base_url": payment.terms.base_url,
        },
    }


def resolvable(refund: Refund, version: int) -> bool:
    """Say whether two people who saw this version may end it: it is `unknown` and still the same.

    Enquiries may still be under way, as with a payment: whichever proof comes first counts.
    """
    return refund.status is _S.UNKNOWN and refund.version == version


def resolution(command: ResolveRefundV1) -> Finding:
    """Return what two people's word proves; the client reads their reason, not their evidence."""
    if command.outcome == "succeeded":
        return Finding(_E.PEOPLE_SUCCEEDED)
    return Finding(_E.PEOPLE_FAILED, None, "resolved_failed", command.reason)


def left_pending() -> Finding:
    """Return what is known of a refund that its provider has called pending for too long: nothing.

    As `unknown` it is still asked about, and two people may end it.
    """
    return undefined("left_pending", "the provider has neither made nor refused it for a long time")


def contradicts(status: RefundStatus, evidence: Evidence) -> bool:
    """Say whether the provider takes back a refund it had proven."""
    return status is _S.SUCCEEDED and evidence in _DENIALS


def after(refund: Refund, finding: Finding) -> Refund:
    """Return the refund as this finding leaves it; the version rises when the status changes."""
    status = _MOVES[refund.status].get(finding.evidence, refund.status)
    moved = status is not refund.status
    attention = refund.attention
    if contradicts(refund.status, finding.evidence):
        attention = "contradicted"
    elif finding.evidence is _E.MISMATCH:
        attention = "amount_mismatch"
    elif moved and status in FINAL_REFUND_STATUSES:  # what comes after an end clears nothing
        attention = None
    told = moved or not refund.final
    proven = status is _S.SUCCEEDED
    return replace(
        refund,
        status=status,
        version=refund.version + moved,
        late=refund.late or (refund.status is _S.FAILED and proven),
        resolved=finding.evidence in _PEOPLE if moved else refund.resolved,
        attention=attention,
        provider_reference=(finding.provider_reference if told else None)
        or refund.provider_reference,
        reason_code=None if proven else finding.reason_code if told else refund.reason_code,
        reason_message=None
        if proven
        else finding.reason_message
        if told
        else refund.reason_message,
        attempt_state="ended" if status in FINAL_REFUND_STATUSES else "unknown",
    )


def settle_purse(purse: Purse, before: Refund, now: Refund, captured_minor: int) -> Purse:
    """Return what a change of a refund's status does to the payment's purse."""
    if before.status is now.status:
        return purse
    amount, open_minor, refunded = now.amount_minor, purse.open_minor, purse.refunded_minor
    if not before.final and now.final:
        open_minor -= amount
    if now.status is _S.SUCCEEDED:
        refunded += amount
    over = max(purse.over_minor, open_minor + refunded - captured_minor)
    return Purse(open_minor, refunded, over)


def event(
    refund: Refund, payment: Payment, previous: RefundStatus | None, refunded_minor: int
) -> Outgoing:
    """Return the event that tells of the refund as it is now."""
    why = advice(refund.reason_code)
    body = RefundEventV1(
        refund_id=refund.id,
        payment_id=refund.payment_id,
        client_id=refund.client_id,
        mode=refund.mode,
        app_id=payment.app_id,
        service_id=payment.service_id,
        microservice=payment.provider,
        service=payment.service,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
        payment_amount_minor=payment.amount_minor,
        refunded_minor=refunded_minor,
        status=refund.status,
        previous_status=previous,
        version=refund.version,
        provider_reference=refund.provider_reference,
        reason=refund.reason,
        reason_code=refund.reason_code,
        reason_message=refund.reason_message,
        reason_retryable=why.retryable if why else None,
        reason_actor=why.actor if why else None,
        reason_words=why.words if why else None,
        late=refund.late,
        over_refund=refund.over_refund,
        resolved=refund.resolved,
        payment_accepted_at=payment.accepted_at,
        requested_at=refund.requested_at,
        occurred_at=dt.datetime.now(dt.UTC),
    )
    return outgoing(
        f"refund.{refund.status}.v1",
        refund.payment_id,
        body,
        source=SOURCE,
        causation_id=refund.causation_id,
        correlation_id=refund.correlation_id,
        traceparent=refund.traceparent,
    )
