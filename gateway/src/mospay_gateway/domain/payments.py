"""What a payment is to the gateway, and how it looks on the wire."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mospay_shared.contracts import (
    FINAL_STATUSES,
    PaymentEventV1,
    PaymentStatus,
    ProcessPaymentV1,
    SealedSecrets,
)
from mospay_shared.money import format_minor

from mospay_gateway.domain.fields import mask_phone, mask_text

# A wait is over: the end, or something only people can move on.
WAIT_OVER = FINAL_STATUSES | {PaymentStatus.CONFLICTED, PaymentStatus.HELD}
# Ended without money: what it had reserved of a daily limit is free again, and it may be retried.
NOT_PAID = FINAL_STATUSES - {PaymentStatus.SUCCEEDED}
_NAMED = frozenset({"f000", "f001", "f002", "f003", "f004", "f005", "f010"})  # members of their own


@dataclass(frozen=True, slots=True)
class Payment:
    """An accepted payment as the gateway knows it; `version` 0 means no news from the router yet.

    `fields` are f000…f010 and client-defined ones without secrets; `masked` are the codes whose
    values are never shown whole. `ip` and `device` are for the router's risk rules and null once
    the payment has ended. `refunds_open_minor` is asked for and not decided yet. Times are aware
    UTC.
    """

    id: str
    client_id: str
    mode: str
    app_id: str
    service_id: str
    microservice: str
    service: str
    route: str
    amount_minor: int
    currency: str
    reference: str
    fields: dict[str, str]
    metadata: dict[str, str]
    customer_id: str | None
    product_id: str | None
    product_name: str | None
    directory_version: int
    accepted_via: str
    request_id: str
    received_at: dt.datetime
    accepted_at: dt.datetime
    send_before: dt.datetime
    retry_of: str | None = None
    ip: str | None = None
    device: str | None = None
    masked: Sequence[str] = ()
    status: PaymentStatus = PaymentStatus.PROCESSING
    version: int = 0
    provider_reference: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    late: bool = False
    updated_at: dt.datetime | None = None
    cancel_requested_at: dt.datetime | None = None
    refunded_minor: int = 0
    refunds_open_minor: int = 0

    @property
    def final(self) -> bool:
        """Say whether the payment has ended."""
        return self.status in FINAL_STATUSES

    @property
    def wait_over(self) -> bool:
        """Say whether holding a request any longer is of no use."""
        return self.status in WAIT_OVER

    @property
    def phone(self) -> str | None:
        """The payer's number."""
        return self.fields.get("f005")

    @property
    def refundable_minor(self) -> int:
        """What may still be given back, as far as is known here; the router decides."""
        return max(0, self.amount_minor - self.refunded_minor - self.refunds_open_minor)

    def shown_fields(self) -> dict[str, str]:
        """Return the fields that are no members of their own: masked where the service says so."""
        return {
            code: mask_text(value) if code in self.masked else value
            for code, value in sorted(self.fields.items())
            if code not in _NAMED
        }

    def view(self) -> dict[str, Any]:
        """Return the payment object of the API; the phone is masked."""
        return {
            "id": self.id,
            "object": "payment",
            "status": self.status.value,
            "version": self.version,
            "mode": self.mode,
            "app_id": self.app_id,
            "microservice": self.microservice,
            "service": self.service,
            "route": self.route,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "phone": mask_phone(self.phone),
            "reference": self.reference,
            "customer_id": self.customer_id,
            "product_id": self.product_id,
            "product_name": self.product_name,
            "fields": self.shown_fields(),
            "metadata": self.metadata,
            "provider_reference": self.provider_reference,
            "reason_code": self.reason_code,
            "reason_message": self.reason_message,
            "late": self.late,
            "retry_of": self.retry_of,
            "refunded_minor": self.refunded_minor,
            "refunds_open_minor": self.refunds_open_minor,
            "cancel_requested_at": self.cancel_requested_at,
            "accepted_at": self.accepted_at,
            "updated_at": self.updated_at or self.accepted_at,
        }

    def command(self, secrets: SealedSecrets | None) -> ProcessPaymentV1:
        """Return the command that takes this payment to its provider."""
        return ProcessPaymentV1(
            payment_id=self.id,
            client_id=self.client_id,
            mode=self.mode,
            app_id=self.app_id,
            service_id=self.service_id,
            directory_version=self.directory_version,
            microservice=self.microservice,
            service=self.service,
            route=self.route,
            amount_minor=self.amount_minor,
            currency=self.currency,
            phone=self.phone,
            reference=self.reference,
            fields=self.fields,
            secrets=secrets,
            customer_id=self.customer_id,
            product_id=self.product_id,
            product_name=self.product_name,
            metadata=self.metadata,
            ip=self.ip,
            device=self.device,
            retry_of=self.retry_of,
            accepted_at=self.accepted_at,
            send_before=self.send_before,
        )

    def accepted_event(self) -> PaymentEventV1:
        """Return the body of `payment.accepted.v1`."""
        return PaymentEventV1(
            payment_id=self.id,
            client_id=self.client_id,
            mode=self.mode,
            app_id=self.app_id,
            service_id=self.service_id,
            microservice=self.microservice,
            service=self.service,
            route=self.route,
            amount_minor=self.amount_minor,
            currency=self.currency,
            status=PaymentStatus.PROCESSING,
            version=0,
            reference=self.reference,
            phone_masked=mask_phone(self.phone),
            customer_id=self.customer_id,
            product_id=self.product_id,
            product_name=self.product_name,
            metadata=self.metadata,
            retry_of=self.retry_of,
            accepted_at=self.accepted_at,
            occurred_at=self.accepted_at,
        )

    def with_news(self, news: "News | None") -> "Payment":
        """Return the payment with the router's news, if they are newer and of this payment."""
        if news is None or news.version <= self.version or news.key != self.key:
            return self
        return replace(
            self,
            status=news.status,
            version=news.version,
            provider_reference=news.provider_reference,
            reason_code=news.reason_code,
            reason_message=news.reason_message,
            late=news.late,
            updated_at=news.occurred_at,
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """Payment, tenant and mode: news of another tenant or mode never touches it."""
        return self.id, self.client_id, self.mode


@dataclass(frozen=True, slots=True)
class News:
    """What the router says a payment is now."""

    payment_id: str
    client_id: str
    mode: str
    status: PaymentStatus
    version: int
    provider_reference: str | None
    reason_code: str | None
    reason_message: str | None
    late: bool
    occurred_at: dt.datetime

    @property
    def key(self) -> tuple[str, str, str]:
        """Payment, tenant and mode."""
        return self.payment_id, self.client_id, self.mode


class NeverSeen:
    """The router's word that it has no such payment."""


# HTTP-like word, type and sentence of the field API for each state. A payment that did not succeed
# never says "200": clients of old installations take that word for paid.
_FIELD_WORDS = {
    PaymentStatus.SUCCEEDED: ("200", "success", "The payment succeeded"),
    PaymentStatus.FAILED: ("402", "failed", "The payment failed"),
    PaymentStatus.CANCELLED: ("402", "failed", "The payment was cancelled"),
    PaymentStatus.EXPIRED: ("402", "failed", "The payment expired before it was made"),
    PaymentStatus.PROCESSING: ("202", "processing", "The payment is being processed"),
    PaymentStatus.HELD: ("202", "processing", "The payment is held for review"),
    PaymentStatus.REQUIRES_CUSTOMER_ACTION: ("202", "processing", "The payer has to confirm"),
    PaymentStatus.UNKNOWN: ("202", "processing", "The outcome is being asked for; do not resend"),
    PaymentStatus.CONFLICTED: ("202", "processing", "The provider's answer is under review"),
}


def field_view(payment: Payment) -> dict[str, Any]:
    """Return a payment in the field API's shape; `outcome` is the state on the wire."""
    status, kind, message = _FIELD_WORDS[payment.status]
    return {
        "status": status,
        "type": kind,
        "message": payment.reason_message or message,
        "version": "1.0",
        "action": "OUTPUT",
        "command": payment.route,
        "payment_id": payment.id,
        "reference": payment.reference,
        "outcome": payment.status.value,
        "amount": format_minor(payment.amount_minor, payment.currency),
        "currency": payment.currency,
        "provider_reference": payment.provider_reference,
        "reason_code": payment.reason_code,
        "accepted_at": payment.accepted_at,
    }
