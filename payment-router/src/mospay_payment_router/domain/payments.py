"""A payment as the router knows it, the terms pinned on it, and the events that tell of it."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from mospay_shared.contracts import (
    Outgoing,
    PaymentEventV1,
    PaymentStatus,
    ProcessPaymentV1,
    outgoing,
)
from mospay_shared.money import format_minor

from mospay_payment_router.domain.reasons import advice

SOURCE = "payment-router"
SECRET_FIELDS = ("f007", "f008")
MESSAGE_LIMIT = 500  # characters of a reason, as the contract has it
CODE_LIMIT = 80
REFERENCE_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Terms:
    """What a payment was accepted with; a change of configuration touches later payments only.

    `places` are the `host:port` its calls may go to; the four names are functions in schema `fx`.
    `grace_seconds` is how long after the lease an authoritative "not found" does not count yet.
    """

    call: str
    response: str
    enquiry: str
    enquiry_response: str
    function_version: int
    needs_secrets: bool
    base_url: str
    places: tuple[str, ...]
    timeout_seconds: float
    authoritative_enquiry: bool
    grace_seconds: float
    final_on_2xx: bool = False
    amount_optional: bool = False
    failed_statuses: tuple[int, ...] = ()
    callback_secret: str | None = None
    exponent: int | None = None  # decimals the connector takes; None: all the currency has
    refund: str = ""  # empty where this service can't refund
    refund_response: str = ""
    refund_enquiry: str = ""
    refund_enquiry_response: str = ""
    provider: str = ""  # the connector, where a routing rule chose another than was asked for
    service: str = ""  # f001 of that connector
    fallbacks: tuple[str, ...] = ()  # services to try where nothing left for the one before

    def stored(self) -> dict[str, Any]:
        """Return the shape kept in `payments.terms`."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Terms":
        """Return the terms of a stored payment."""
        tuples = ("places", "failed_statuses", "fallbacks")
        values: dict[str, Any] = {k: tuple(v) if k in tuples else v for k, v in stored.items()}
        return cls(**values)


# Of a payment that ends before anything about its service could be looked up.
NO_TERMS = Terms("", "", "", "", 0, False, "", (), 10.0, False, 0.0)


@dataclass(frozen=True, slots=True)
class Payment:
    """The latest state of a payment. Amounts are minor units of `currency`."""

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
    phone_masked: str | None
    fields: dict[str, str]
    secrets: dict[str, Any] | None
    details: dict[str, Any]
    terms: Terms
    accepted_at: dt.datetime
    send_before: dt.datetime
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    retry_of: str | None = None
    status: PaymentStatus = PaymentStatus.PROCESSING
    version: int = 1
    attempts: int = 1
    enquiries: int = 0
    late: bool = False
    provider_reference: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    attention: str | None = None
    seen_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    @property
    def provider(self) -> str:
        """The connector that has it: the one asked for, or the one a routing rule chose."""
        return self.terms.provider or self.microservice

    @property
    def lane(self) -> str:
        """Mode and connector: what slots and breakers are counted by."""
        return f"{self.mode}/{self.provider}"


def mask_phone(phone: str | None) -> str | None:
    """Keep the last three digits of a phone number."""
    return None if not phone else "*" * max(0, len(phone) - 3) + phone[-3:]


def from_command(
    command: ProcessPaymentV1, terms: Terms, envelope: tuple[str, str | None, str | None]
) -> Payment:
    """Make the payment a command asks for; `envelope` is event id, correlation, traceparent."""
    return Payment(
        id=command.payment_id,
        client_id=command.client_id,
        mode=command.mode,
        app_id=command.app_id,
        service_id=command.service_id,
        microservice=command.microservice,
        service=command.service,
        route=command.route,
        amount_minor=command.amount_minor,
        currency=command.currency,
        reference=command.reference,
        phone_masked=mask_phone(command.phone),
        fields=_fields(command),
        secrets=command.secrets.model_dump() if command.secrets else None,
        details={
            "customer_id": command.customer_id,
            "product_id": command.product_id,
            "product_name": command.product_name,
            "metadata": command.metadata,
        },
        terms=terms,
        accepted_at=command.accepted_at,
        send_before=command.send_before,
        causation_id=envelope[0],
        correlation_id=envelope[1],
        traceparent=envelope[2],
        retry_of=command.retry_of,
    )


def _fields(command: ProcessPaymentV1) -> dict[str, str]:
    known = {
        "f000": command.microservice,
        "f001": command.service,
        "f002": command.route,
        "f003": command.app_id,
        "f004": format_minor(command.amount_minor, command.currency),
        "f005": command.phone or "",
        "f010": command.reference,
    }
    return known | {k: v for k, v in command.fields.items() if k not in SECRET_FIELDS}


def function_input(
    payment: Payment, secrets: dict[str, str], *, route: str | None = None
) -> dict[str, Any]:
    """Return `data_input` of a provider function: the f-fields, and ours under `mospay`.

    `route` replaces f002 for the enquiry twin. Older functions ignore what they don't know.
    """
    return {
        **payment.fields,
        **({"f002": route} if route else {}),
        **secrets,
        "mospay": {
            "payment_id": payment.id,
            "mode": payment.mode,
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
            "base_url": payment.terms.base_url,
        },
    }


def event(payment: Payment, previous: PaymentStatus | None, attempt_id: str | None) -> Outgoing:
    """Return the event that tells of the payment as it is now."""
    why = advice(payment.reason_code)
    body = PaymentEventV1(
        payment_id=payment.id,
        client_id=payment.client_id,
        mode=payment.mode,
        app_id=payment.app_id,
        service_id=payment.service_id,
        microservice=payment.provider,
        service=payment.service,
        route=payment.route,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        status=payment.status,
        previous_status=previous,
        version=payment.version,
        reference=payment.reference,
        attempt_id=attempt_id,
        attempts=payment.attempts,
        provider_reference=payment.provider_reference,
        reason_code=payment.reason_code,
        reason_message=payment.reason_message,
        reason_retryable=why.retryable if why else None,
        reason_actor=why.actor if why else None,
        reason_words=why.words if why else None,
        late=payment.late,
        phone_masked=payment.phone_masked,
        retry_of=payment.retry_of,
        accepted_at=payment.accepted_at,
        occurred_at=dt.datetime.now(dt.UTC),
        **payment.details,
    )
    return outgoing(
        f"payment.{payment.status}.v1",
        payment.id,
        body,
        source=SOURCE,
        causation_id=payment.causation_id,
        correlation_id=payment.correlation_id,
        traceparent=payment.traceparent,
    )


def clip(text: object, limit: int) -> str | None:
    """Return a text the database and the contract take: no NUL, no lone surrogate, cut."""
    if text is None or text == "":
        return None
    clean = str(text).replace("\x00", "").encode("utf-8", "replace").decode()
    return clean[:limit] or None


def age_seconds(payment: Payment) -> float:
    """Return how long ago the router saw a payment first."""
    return (dt.datetime.now(dt.UTC) - payment.seen_at).total_seconds()
