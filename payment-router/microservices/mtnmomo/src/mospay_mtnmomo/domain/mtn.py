"""What MTN's words mean in ours.

Sources: momodeveloper.mtn.com/api-documentation (Collection, Disbursements: RequestToPayResult,
ErrorReason) and "MoMo API common errors" (momodevelopercommunity.mtn.com).
"""

import hashlib
import uuid
from typing import Any, Final

from mospay_mtnmomo.domain.protocol import Answer, Kind, Order, Outcome, text, unknown

# MTN's code or `reason` in our reason codes; what is not here is `declined`.
REASONS: Final = {
    "NOT_ENOUGH_FUNDS": "insufficient_funds",
    "LOW_BALANCE_OR_PAYEE_LIMIT_REACHED_OR_NOT_ALLOWED": "insufficient_funds",
    "PAYER_LIMIT_REACHED": "limit_exceeded",
    "PAYEE_NOT_ALLOWED_TO_RECEIVE": "limit_exceeded",
    "PAYER_NOT_FOUND": "payer_not_found",
    "PAYEE_NOT_FOUND": "payer_not_found",
    "APPROVAL_REJECTED": "payer_rejected",
    "EXPIRED": "expired",
    # "Transaction timeout: not approved within five minutes", says MTN of it.
    "COULD_NOT_PERFORM_TRANSACTION": "expired",
    "TRANSACTION_CANCELED": "payer_rejected",
    "RESOURCE_ALREADY_EXIST": "duplicate",
    "INVALID_CURRENCY": "invalid_currency",
    "SERVICE_UNAVAILABLE": "provider_unavailable",
    "INTERNAL_PROCESSING_ERROR": "internal_error",
    "NOT_ALLOWED": "provider_unavailable",
    "NOT_ALLOWED_TARGET_ENVIRONMENT": "provider_unavailable",
    "INVALID_CALLBACK_URL_HOST": "internal_error",
}
_STATUSES: Final[dict[str, Outcome]] = {
    "SUCCESSFUL": "succeeded",
    "FAILED": "failed",
    "PENDING": "pending",
    "CREATED": "pending",
}
# Refusals that MTN documents as made before anything is done with the request.
REFUSED: Final = {400: "internal_error", 401: "provider_unavailable", 403: "provider_unavailable"}
_NAMESPACE: Final = uuid.UUID("7a1de0a4-6a52-4d0b-9d2e-5a5f0c1b7e10")


def reference_id(kind: Kind, reference: str) -> str:
    """Return MTN's X-Reference-Id of a payment or refund: the same one at every try.

    Derived by hashing (as UUIDv5 is), written with version 4, the only one that MTN takes.
    """
    digest = hashlib.sha256(_NAMESPACE.bytes + f"{kind}/{reference}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def reason_of(body: dict[str, Any]) -> str:
    """Return our reason code for an error body, a result or a callback.

    `reason` is a string in some versions of the API and an object with a `code` in others.
    """
    reason = body.get("reason")
    code = reason.get("code") if isinstance(reason, dict) else reason or body.get("code")
    return REASONS.get(str(code), "declined")


def judge(order: Order, body: dict[str, Any], handle: str) -> Answer:
    """Return what a status or a callback says; an unreadable one says nothing."""
    outcome = _STATUSES.get(str(body.get("status")))
    if outcome is None:
        return unknown(order, "the answer has no status that MTN documents")
    about = text(body.get("externalId"))
    if about is not None and about != order.reference:
        return unknown(order, "the answer is about another reference")
    failed = outcome == "failed"
    return Answer(
        outcome=outcome,
        reference=order.reference,
        provider_reference=text(body.get("financialTransactionId")) or handle,
        amount=text(body.get("amount")),
        currency=text(body.get("currency")),
        reason_code=reason_of(body) if failed else None,
        message=f"MTN says {body['status']}",
        handle=handle,
    )
