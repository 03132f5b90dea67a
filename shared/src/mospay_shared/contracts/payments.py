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
    without the secrets. No attempt starts after `send_before`.
    """

    payment_id: Id
    client_id: Id
    mode: Mode
    app_id: Id
    service_id: Id
    directory_version: int = Field(ge=0)
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
    accepted_at: dt.datetime
    send_before: dt.datetime


class PaymentEventV1(Contract):
    """Body of every `payment.*.v1` event: the payment as it is after the change.

    `version` rises by one with each change, so a consumer knows which news is newer. `late` marks
    a success proven after the payment had ended otherwise. `phone_masked` keeps the last 3 digits.
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
    version: int = Field(ge=0)
    reference: str = Field(max_length=255)
    attempt_id: str | None = Field(None, max_length=80)
    attempts: int = Field(0, ge=0)
    provider_reference: str | None = Field(None, max_length=255)
    reason_code: str | None = Field(None, max_length=80)
    reason_message: str | None = Field(None, max_length=500)
    late: bool = False
    phone_masked: str | None = Field(None, max_length=32)
    customer_id: str | None = Field(None, max_length=255)
    product_id: str | None = Field(None, max_length=255)
    product_name: str | None = Field(None, max_length=255)
    metadata: dict[str, str] = Field(default_factory=dict)
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
