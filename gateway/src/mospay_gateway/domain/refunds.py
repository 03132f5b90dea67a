"""What a refund is to the gateway, and how it looks on the wire."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from mospay_shared.contracts import FINAL_REFUND_STATUSES, RefundPaymentV1, RefundStatus


@dataclass(frozen=True, slots=True)
class Refund:
    """Money to be given back; `version` 0 means no news from the router yet.

    `late`: proven after it had failed. `over_refund`: by then it no longer fitted in the captured
    amount. Amounts are minor units of the payment's currency, times aware UTC.
    """

    id: str
    payment_id: str
    client_id: str
    mode: str
    amount_minor: int
    currency: str
    reason: str | None
    requested_at: dt.datetime
    status: RefundStatus = RefundStatus.PENDING
    version: int = 0
    provider_reference: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    late: bool = False
    over_refund: bool = False
    updated_at: dt.datetime | None = None

    @property
    def final(self) -> bool:
        """Say whether the refund has ended (a late success may still follow a failure)."""
        return self.status in FINAL_REFUND_STATUSES

    def view(self) -> dict[str, Any]:
        """Return the refund object of the API."""
        return {
            "id": self.id,
            "object": "refund",
            "payment_id": self.payment_id,
            "status": self.status.value,
            "version": self.version,
            "mode": self.mode,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "reason": self.reason,
            "provider_reference": self.provider_reference,
            "reason_code": self.reason_code,
            "reason_message": self.reason_message,
            "late": self.late,
            "over_refund": self.over_refund,
            "requested_at": self.requested_at,
            "updated_at": self.updated_at or self.requested_at,
        }

    def command(self) -> RefundPaymentV1:
        """Return the command that gives the money back."""
        return RefundPaymentV1(
            refund_id=self.id,
            payment_id=self.payment_id,
            client_id=self.client_id,
            mode=self.mode,
            amount_minor=self.amount_minor,
            currency=self.currency,
            reason=self.reason,
            requested_at=self.requested_at,
        )
