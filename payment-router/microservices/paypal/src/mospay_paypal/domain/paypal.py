"""What PayPal's words mean in ours.

Sources: developer.paypal.com/docs/api/orders/v2 and /docs/api/payments/v2 (statuses, issues),
/api/rest/webhooks/event-names, /reports/reference/supported-currencies.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mospay_paypal.domain.protocol import Answer, CustomerAction, Order, Outcome, text, unknown

PAYPAL_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_WITHOUT_DECIMALS: Final = ("HUF", "JPY", "TWD")  # ISO 4217 gives HUF and TWD two

# PayPal's `issue` in our reason codes; what is not here is `declined`.
REASONS: Final = {
    "INSTRUMENT_DECLINED": "declined",
    "TRANSACTION_REFUSED": "declined",
    "PAYER_CANNOT_PAY": "declined",
    "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING": "declined",
    "INSUFFICIENT_FUNDS": "insufficient_funds",
    "REFUND_FAILED_INSUFFICIENT_FUNDS": "insufficient_funds",
    "PAYER_ACCOUNT_RESTRICTED": "payer_rejected",
    "PAYER_ACCOUNT_LOCKED_OR_CLOSED": "payer_not_found",
    "CARD_EXPIRED": "card_expired",
    "PAYER_ACTION_REQUIRED": "authentication_required",
    "COMPLIANCE_VIOLATION": "suspected_fraud",
    "TRANSACTION_BLOCKED_BY_PAYEE": "suspected_fraud",
    "TRANSACTION_LIMIT_EXCEEDED": "limit_exceeded",
    "TRANSACTION_RECEIVING_LIMIT_EXCEEDED": "limit_exceeded",
    "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED": "limit_exceeded",
    "MAX_NUMBER_OF_REFUNDS_EXCEEDED": "limit_exceeded",
    "REFUND_AMOUNT_EXCEEDED": "limit_exceeded",
    "CAPTURE_FULLY_REFUNDED": "duplicate",
    "DUPLICATE_INVOICE_ID": "duplicate",
    "ORDER_EXPIRED": "expired",
    "REFUND_TIME_LIMIT_EXCEEDED": "expired",
    "CURRENCY_NOT_SUPPORTED": "invalid_currency",
    "CURRENCY_MISMATCH": "invalid_currency",
    "PAYEE_BLOCKED_TRANSACTION": "suspected_fraud",
    "PAYEE_ACCOUNT_RESTRICTED": "provider_unavailable",
    "PERMISSION_DENIED": "provider_unavailable",
    "INTERNAL_SERVER_ERROR": "internal_error",
}
# A capture that ends in one of these took no money and won't.
DECLINES: Final = frozenset(REASONS) - {
    "DUPLICATE_INVOICE_ID",  # some capture has our invoice id: it may be this very one
    "PAYER_ACTION_REQUIRED",
    "INTERNAL_SERVER_ERROR",
    "PERMISSION_DENIED",
}
_CAPTURES: Final[dict[str, Outcome]] = {
    "COMPLETED": "succeeded",
    "REFUNDED": "succeeded",  # it was captured; what went back is a refund's affair
    "PARTIALLY_REFUNDED": "succeeded",
    "PENDING": "pending",
    "DECLINED": "failed",
    "FAILED": "failed",
}
_REFUNDS: Final[dict[str, Outcome]] = {
    "COMPLETED": "succeeded",
    "PENDING": "pending",
    "FAILED": "failed",
    "CANCELLED": "failed",
}


def places(currency: str) -> int:
    """Return how many decimals PayPal takes, which is not what ISO 4217 says."""
    return 0 if currency in _WITHOUT_DECIMALS else 2


def issue_of(body: Mapping[str, Any]) -> str:
    """Return the `issue` of an error body, or its `name`."""
    details = body.get("details")
    first = details[0] if isinstance(details, list) and details else None
    issue = first.get("issue") if isinstance(first, dict) else None
    return str(issue or body.get("name"))


def units_of(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the purchase units of an order."""
    units = body.get("purchase_units")
    for unit in units if isinstance(units, list) else []:
        if isinstance(unit, dict):
            yield unit


def payments_of(body: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """Return the `captures` or `refunds` of an order."""
    found: list[Mapping[str, Any]] = []
    for unit in units_of(body):
        payments = unit.get("payments")
        listed = payments.get(kind) if isinstance(payments, dict) else None
        found += [one for one in listed or [] if isinstance(one, dict)]
    return found


def judge_capture(order: Order, body: Mapping[str, Any]) -> Answer:
    """Return what a capture says of our payment."""
    return _judge(order, body, _CAPTURES)


def judge_refund(order: Order, body: Mapping[str, Any]) -> Answer:
    """Return what a refund says."""
    answer = _judge(order, body, _REFUNDS)
    return answer.model_copy(update={"handle": answer.provider_reference})


def judge_order(order: Order, body: Mapping[str, Any]) -> Answer:
    """Return what an order says; `reason_code` is `approved` when it waits for our capture."""
    handle, status = text(body.get("id")) or "", str(body.get("status"))
    if not PAYPAL_ID.fullmatch(handle):
        return unknown(order, "the answer has no order id")
    if any(unit.get("custom_id", order.reference) != order.reference for unit in units_of(body)):
        return unknown(order, "the answer is about another reference")
    captures = [judge_capture(order, one) for one in payments_of(body, "captures")]
    if captures:
        # A capture may be declined and another one succeed; what took money counts.
        weight: dict[Outcome, int] = {"succeeded": 3, "pending": 2, "unknown": 1, "failed": 0}
        best = max(captures, key=lambda answer: weight[answer.outcome])
        return best.model_copy(update={"handle": handle})
    if status not in ("CREATED", "SAVED", "PAYER_ACTION_REQUIRED", "APPROVED", "VOIDED"):
        return unknown(order, "the order has no capture and no status that explains it")
    return Answer(
        outcome="failed" if status == "VOIDED" else "pending",
        reference=order.reference,
        provider_reference=handle,
        reason_code={"VOIDED": "expired", "APPROVED": "approved"}.get(status),
        message=f"PayPal says {status}",
        customer_action=None if status in ("VOIDED", "APPROVED") else _action(body),
        handle=handle,
    )


def _judge(order: Order, body: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Answer:
    status, provider_id = str(body.get("status")), text(body.get("id")) or ""
    outcome = outcomes.get(status)
    if outcome is None or not PAYPAL_ID.fullmatch(provider_id):
        return unknown(order, "the answer has no status that PayPal documents")
    found = body.get("amount")
    amount = found if isinstance(found, dict) else {}
    return Answer(
        outcome=outcome,
        reference=order.reference,
        provider_reference=provider_id,
        amount=text(amount.get("value")),
        currency=text(amount.get("currency_code")),
        reason_code="declined" if outcome == "failed" else None,
        message=f"PayPal says {status}",
    )


def _action(body: Mapping[str, Any]) -> CustomerAction | None:
    """Return where the payer approves; shown to a browser, so nothing but https is passed on."""
    links = body.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") in ("approve", "payer-action"):
            url = text(link.get("href")) or ""
            if url.startswith("https://"):
                return CustomerAction(type="redirect", url=url)
    return None
