"""What Razorpay's words mean in ours.

Sources: razorpay.com/docs/api/orders, /docs/api/payments (entity, status), /docs/api/refunds,
/docs/errors/payments/list (error reasons), /docs/webhooks/payloads.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from mospay_razorpay.domain.protocol import (
    Answer,
    Order,
    Outcome,
    UnsendableError,
    decimals,
    exact,
    text,
    unknown,
)

RECEIPT_CHARACTERS_MAX: Final = 40
PAYMENT_ID: Final = re.compile(r"pay_[A-Za-z0-9]{1,40}")
ORDER_ID: Final = re.compile(r"order_[A-Za-z0-9]{1,40}")
REFUND_ID: Final = re.compile(r"rfnd_[A-Za-z0-9]{1,40}")

# Razorpay's `error_reason` in our reason codes; what is not here is `declined`.
REASONS: Final = {
    "insufficient_funds": "insufficient_funds",
    "insufficient_balance": "insufficient_funds",
    "payment_cancelled": "payer_rejected",
    "payment_declined": "declined",
    "card_declined": "declined",
    "payment_timed_out": "expired",
    "payment_collect_request_expired": "expired",
    "payment_session_expired": "expired",
    "card_expired": "card_expired",
    "authentication_failed": "authentication_required",
    "incorrect_otp": "authentication_required",
    "incorrect_pin": "authentication_required",
    "invalid_vpa": "payer_not_found",
    "bank_account_invalid": "payer_not_found",
    "transaction_limit_exceeded": "limit_exceeded",
    "transaction_daily_limit_exceeded": "limit_exceeded",
    "transaction_daily_count_exceeded": "limit_exceeded",
    "amount_exceeds_limit": "limit_exceeded",
    "payment_risk_check_failed": "suspected_fraud",
    "invalid_currency": "invalid_currency",
    "duplicate_request": "duplicate",
    "bank_not_available": "provider_unavailable",
    "bank_technical_error": "provider_unavailable",
    "gateway_technical_error": "provider_unavailable",
    "issuer_technical_error": "provider_unavailable",
    "server_error": "internal_error",
    "input_validation_failed": "internal_error",
    "live_mode_not_enabled": "provider_unavailable",
}
_PAYMENTS: Final[dict[str, Outcome]] = {
    "captured": "succeeded",
    "refunded": "succeeded",  # it was captured; what went back is a refund's affair
    "created": "pending",
    "authorized": "pending",
    "failed": "failed",
}
_REFUNDS: Final[dict[str, Outcome]] = {
    "pending": "pending",
    "processed": "succeeded",
    "failed": "failed",
}
# What counts most among the tries on one order.
_WEIGHT: Final[dict[Outcome, int]] = {"succeeded": 3, "pending": 2, "failed": 1, "unknown": 0}


def units(amount: str, currency: str) -> int:
    """Return an amount in Razorpay's subunits; raises UnsendableError.

    Currencies with three decimals must end in 0, says Razorpay of the order entity.
    """
    places = decimals(currency)
    found = int(exact(amount, places).replace(".", ""))
    if places == 3 and found % 10:
        raise UnsendableError(f"{amount} {currency}: Razorpay takes two decimals alone")
    return found


def amount_of(entity: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the amount as a decimal string and the currency of an entity; None: unreadable."""
    number, currency = entity.get("amount"), text(entity.get("currency"))
    if type(number) is not int or number < 0 or currency is None:
        return None, currency
    places = decimals(currency)
    return exact(str(Decimal(number).scaleb(-places)), places), currency


def reason_of(error: Mapping[str, Any]) -> str:
    """Return our reason code for an `error` object, or for a failed payment's `error_*` fields."""
    return REASONS.get(str(error.get("reason") or error.get("error_reason")), "declined")


def judge_payment(order: Order, entity: Mapping[str, Any], *, tries_left: bool) -> Answer:
    """Return what one payment entity says of our payment."""
    status = str(entity.get("status"))
    outcome = _PAYMENTS.get(status)
    provider_id = text(entity.get("id")) or ""
    if outcome is None or not PAYMENT_ID.fullmatch(provider_id):
        return unknown(order, "the answer has no payment that Razorpay documents")
    failed = outcome == "failed"
    amount, currency = amount_of(entity)
    return Answer(
        outcome="pending" if failed and tries_left else outcome,
        reference=order.reference,
        provider_reference=provider_id,
        amount=amount,
        currency=currency,
        reason_code=reason_of(entity) if failed else None,
        message=f"Razorpay says {status}",
    )


def judge_tries(order: Order, tries: Sequence[Any], *, tries_left: bool) -> Answer | None:
    """Return what all tries on an order say; None while nobody has tried."""
    judged = [judge_payment(order, t, tries_left=tries_left) for t in tries if isinstance(t, dict)]
    if len(judged) != len(tries):
        return unknown(order, "the answer has no payments that can be read")
    return max(judged, key=lambda answer: _WEIGHT[answer.outcome], default=None)


def judge_refund(order: Order, entity: Mapping[str, Any]) -> Answer:
    """Return what a refund entity says."""
    status, provider_id = str(entity.get("status")), text(entity.get("id")) or ""
    outcome = _REFUNDS.get(status)
    if outcome is None or not REFUND_ID.fullmatch(provider_id):
        return unknown(order, "the answer has no refund that Razorpay documents")
    amount, currency = amount_of(entity)
    return Answer(
        outcome=outcome,
        reference=order.reference,
        provider_reference=provider_id,
        amount=amount,
        currency=currency,
        reason_code="declined" if outcome == "failed" else None,
        message=f"Razorpay says {status}",
        handle=provider_id,
    )


def refund_name(entity: Mapping[str, Any]) -> str | None:
    """Return our refund id in a refund entity: its receipt, or the note we put beside it."""
    notes = entity.get("notes")
    noted = notes.get("refund_id") if isinstance(notes, dict) else None
    return text(entity.get("receipt")) or text(noted)
