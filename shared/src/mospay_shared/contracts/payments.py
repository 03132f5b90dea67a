"""Commands and events about payments. Amounts are minor units; times are aware UTC."""

import datetime as dt
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mospay_shared.contracts.envelope import Contract

Id = Annotated[str, Field(min_length=1, max_length=80)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Minor = Annotated[int, Field(ge=0, le=2**63 - 1)]
Mode = Annotated[str, Field(pattern=r"^(live|test)$")]


class PaymentStatus(StrEnum):
    """The states of a payment on the wire (architecture: state machine)."""

    PROCESSING = "processing"
    HELD = "held"
    REQUIRES_CUSTOMER_ACTION = "requires_customer_action"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CONFLICTED = "conflicted"


FINAL_STATUSES = frozenset(
    {
        PaymentStatus.SUCCEEDED,
        PaymentStatus.FAILED,
        PaymentStatus.CANCELLED,
        PaymentStatus.EXPIRED,
    }
)


class SealedSecrets(Contract):
    """f007 and f008, sealed at the gateway (AES-256-GCM); only payment-router can open them.

    `key_id` names the wrapping key, `wrapped_key` is the payment's data key under it, all base64.
    The payment id is the additional authenticated data.
    """

    key_id: str = Field(max_length=40)
    wrapped_key: str = Field(max_length=200)
    nonce: str = Field(max_length=40)
    ciphertext: str = Field(max_length=20_000)


class ProcessPaymentV1(Contract):
    """`payments.process.v1`: take this accepted payment to its provider.

    What it was accepted with is pinned here. `fields` are f000…f010 (and client-defined ones)
    without the secrets. No attempt starts after `send_before`. `ip` is the address the request came
    from, `device` the payer's device (f009): both are for the risk rules alone.
    """

    payment_id: Id
    client_id: Id
    mode: Mode
    app_id: Id
    service_id: Id
    directory_version: int = Field(ge=0, le=2**63 - 1)
    microservice: str = Field(max_length=63)
    service: str = Field(max_length=63)
    route: str = Field(max_length=63)
    amount_minor: Minor
    currency: Currency
    phone: str | None = Field(None, max_length=32)
    reference: str = Field(max_length=255)
    fields: dict[str, str]
    secrets: SealedSecrets | None = None
    customer_id: str | None = Field(None, max_length=255)
    product_id: str | None = Field(None, max_length=255)
    product_name: str | None = Field(None, max_length=255)
    metadata: dict[str, str] = Field(default_factory=dict)
    ip: str | None = Field(None, max_length=64)
    device: str | None = Field(None, max_length=255)
    retry_of: str | None = Field(None, max_length=80)
    accepted_at: dt.datetime
    send_before: dt.datetime


class PaymentEventV1(Contract):
    """Body of every `payment.*.v1` event: the payment as it is after the change.

    `version` rises by one with each change, so a consumer knows which news is newer. `late` marks
    a success proven after the payment had ended otherwise. `phone_masked` keeps the last 3 digits.
    `reason_words` is what a cashier may say; `reason_actor` who has to act: payer, merchant,
    operator or provider.
    """

    payment_id: Id
    client_id: Id
    mode: Mode
    app_id: Id
    service_id: Id
    microservice: str = Field(max_length=63)
    service: str = Field(max_length=63)
    route: str = Field(max_length=63)
    amount_minor: Minor
    currency: Currency
    status: PaymentStatus
    previous_status: PaymentStatus | None = None
    version: int = Field(ge=0, le=2**63 - 1)
    reference: str = Field(max_length=255)
    attempt_id: str | None = Field(None, max_length=80)
    attempts: int = Field(0, ge=0)
    provider_reference: str | None = Field(None, max_length=255)
    reason_code: str | None = Field(None, max_length=80)
    reason_message: str | None = Field(None, max_length=500)
    reason_retryable: bool | None = None
    reason_actor: str | None = Field(None, max_length=20)
    reason_words: str | None = Field(None, max_length=200)
    late: bool = False
    phone_masked: str | None = Field(None, max_length=32)
    customer_id: str | None = Field(None, max_length=255)
    product_id: str | None = Field(None, max_length=255)
    product_name: str | None = Field(None, max_length=255)
    metadata: dict[str, str] = Field(default_factory=dict)
    retry_of: str | None = Field(None, max_length=80)
    accepted_at: dt.datetime
    occurred_at: dt.datetime


class PaymentCallbackV1(Contract):
    """`payments.callback.v1`: a provider's callback, stored raw by the gateway, for the router.

    `body_base64` is the body byte for byte; `service_id` is null when the path named none we know.
    """

    callback_id: Id
    service_id: str | None = Field(None, max_length=80)
    microservice: str = Field(max_length=63)
    mode: Mode | None = None
    method: str = Field(max_length=8)
    headers: dict[str, str]
    body_base64: str = Field(max_length=200_000)
    received_at: dt.datetime


class CancelPaymentV1(Contract):
    """`payments.cancel.v1`: stop this payment if nothing was sent; a request, not an outcome.

    A payment the router has not seen yet leaves a tombstone that `payments.process.v1` respects.
    """

    payment_id: Id
    client_id: Id
    mode: Mode
    reason: str | None = Field(None, max_length=500)
    requested_at: dt.datetime


class EnquirePaymentV1(Contract):
    """`payments.enquire.v1`: ask the provider about this payment now, if it has not ended."""

    payment_id: Id
    client_id: Id
    mode: Mode
    requested_at: dt.datetime


class ReviewPaymentV1(Contract):
    """`payments.review.v1`: a person's word on a payment that risk holds.

    `release` sends it on (`processing`), `refuse` ends it (`cancelled`). `version` is the one the
    person saw: a review of anything newer is refused.
    """

    payment_id: Id
    client_id: Id
    mode: Mode
    version: int = Field(ge=0, le=2**63 - 1)
    decision: str = Field(pattern=r"^(release|refuse)$")
    note: str = Field(max_length=500)
    by: Id
    requested_at: dt.datetime


class ResolvePaymentV1(Contract):
    """`payments.resolve.v1`: what two people know about an `unknown` or `conflicted` payment.

    `evidence` says how they know (a statement line, the provider's letter). Two different people;
    bound to the `version` both saw.
    """

    payment_id: Id
    client_id: Id
    mode: Mode
    version: int = Field(ge=0, le=2**63 - 1)
    outcome: str = Field(pattern=r"^(succeeded|failed)$")
    evidence: str = Field(min_length=1, max_length=500)
    proposed_by: Id
    approved_by: Id
    requested_at: dt.datetime


class RefundStatus(StrEnum):
    """The states of a refund. `failed` may become `succeeded` (late), nothing else goes back."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


FINAL_REFUND_STATUSES = frozenset({RefundStatus.SUCCEEDED, RefundStatus.FAILED})


class RefundPaymentV1(Contract):
    """`payments.refund.v1`: give this much of a captured payment back.

    The router reserves the amount under the payment's row lock before anything is sent; what does
    not fit any more ends `failed` with `refund_too_large`, nothing sent.
    """

    refund_id: Id
    payment_id: Id
    client_id: Id
    mode: Mode
    amount_minor: Annotated[int, Field(ge=1, le=2**63 - 1)]
    currency: Currency
    reason: str | None = Field(None, max_length=500)
    requested_at: dt.datetime


class ResolveRefundV1(Contract):
    """`refunds.resolve.v1`: what two people know about a refund that stays `unknown`.

    `reason` says what they found, in words the client may read; `evidence` names what proves it (a
    statement line, the provider's letter). Two different people; bound to the `version` both saw.
    """

    refund_id: Id
    payment_id: Id
    client_id: Id
    mode: Mode
    version: int = Field(ge=0, le=2**63 - 1)
    outcome: str = Field(pattern=r"^(succeeded|failed)$")
    reason: str = Field(min_length=1, max_length=500)
    evidence: str = Field(min_length=1, max_length=500)
    proposed_by: Id
    approved_by: Id
    requested_at: dt.datetime


class RefundEventV1(Contract):
    """Body of every `refund.*.v1` event: the refund as it is after the change.

    `refunded_minor` is what of the payment has been given back with proof, this one included.
    `late` marks a success proven after the refund had failed; `over_refund` one that by then no
    longer fits in the captured amount (it is booked all the same, and alerted); `resolved` an end
    that two people proved, not the provider.
    """

    refund_id: Id
    payment_id: Id
    client_id: Id
    mode: Mode
    app_id: Id
    service_id: Id
    microservice: str = Field(max_length=63)
    service: str = Field(max_length=63)
    amount_minor: Minor
    currency: Currency
    payment_amount_minor: Minor
    refunded_minor: Minor
    status: RefundStatus
    previous_status: RefundStatus | None = None
    version: int = Field(ge=0, le=2**63 - 1)
    provider_reference: str | None = Field(None, max_length=255)
    reason: str | None = Field(None, max_length=500)
    reason_code: str | None = Field(None, max_length=80)
    reason_message: str | None = Field(None, max_length=500)
    reason_retryable: bool | None = None
    reason_actor: str | None = Field(None, max_length=20)
    reason_words: str | None = Field(None, max_length=200)
    late: bool = False
    over_refund: bool = False
    resolved: bool = False
    payment_accepted_at: dt.datetime
    requested_at: dt.datetime
    occurred_at: dt.datetime


class RiskReasonV1(Contract):
    """One reason of a risk decision; `points` add up to the score."""

    rule: str = Field(max_length=80)
    points: int
    detail: str = Field(max_length=300)


class RiskAssessedV1(Contract):
    """`payment.risk_assessed.v1`: what risk decided about a payment before its first attempt.

    `decision` is allow, hold or refuse. `by_default` says that risk could not answer in its time
    and the configured default applied.
    """

    payment_id: Id
    client_id: Id
    mode: Mode
    decision: str = Field(pattern=r"^(allow|hold|refuse)$")
    score: int
    reasons: list[RiskReasonV1] = Field(max_length=50)
    by_default: bool = False
    assessed_at: dt.datetime


class ProviderHealthV1(Contract):
    """`provider.health_changed.v1`: the circuit breaker of a connector changed its state."""

    microservice: str = Field(max_length=63)
    mode: Mode
    state: str = Field(pattern=r"^(closed|open|half_open)$")
    previous_state: str = Field(pattern=r"^(closed|open|half_open)$")
    reason: str = Field(max_length=300)
    failures: int = Field(ge=0)
    calls: int = Field(ge=0)
    changed_at: dt.datetime
