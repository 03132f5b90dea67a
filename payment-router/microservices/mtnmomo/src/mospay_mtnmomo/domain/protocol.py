"""The wire between the payment router and a payment microservice; copied into every connector.

ConnectorError
├── MalformedError       a field of the request is wrong; names every wrong field
├── AttemptReusedError   the attempt id belongs to another reference
└── UnsendableError      the provider can't be asked for this; nothing has left
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

# A capture is the second call of providers that first ask the payer and then take the money.
Kind = Literal["payment", "capture", "refund"]
Outcome = Literal["succeeded", "failed", "pending", "unknown"]
NEVER_SENT: Final = "never_sent"
BODY_BYTES_MAX: Final = 512 * 1024  # a callback of 256 KiB in base64; a payment is about 1 KiB
_ZERO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND".split()


class ConnectorError(Exception):
    """Root of what a connector refuses."""


class MalformedError(ConnectorError):
    """The request can't be understood; `errors` maps each wrong field to words."""

    def __init__(self, **errors: str) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


class AttemptReusedError(ConnectorError):
    """The attempt id belongs to another reference, so nothing was done."""


class UnsendableError(ConnectorError):
    """The provider can't be asked for this; raised before a byte has left."""


def _positive(text: str) -> str:
    if not Decimal(text):
        raise ValueError("more than zero")
    return text


Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
PathName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Amount = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{1,15}(\.[0-9]{1,3})?$"), AfterValidator(_positive)
]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Phone = Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{6,15}$")]
# Whoever puts one into an address checks its shape first, or it could name another one.
ProviderReference = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]


class Slot(BaseModel):
    """One field of a service payload: `{"i": 4, "v": "1000"}` is f004."""

    i: int = Field(ge=0, le=999)
    v: Any = None


class EnquiryFields(BaseModel):
    """What is read of the payload of an enquiry: f010, the reference."""

    f010: Identifier


class PaymentFields(EnquiryFields):
    """What is read of the payload of a payment; f004 is a decimal string, f005 in E.164."""

    f004: Amount
    f005: Phone | None = None


class RefundEnquiryBody(BaseModel):
    """What became of a refund; the other keys help where the answer to it was lost."""

    refund_id: Identifier
    payment_reference: Identifier | None = None
    provider_reference: ProviderReference | None = None


class RefundBody(RefundEnquiryBody):
    """A refund; `amount` is a decimal string in `currency`."""

    amount: Amount
    currency: Currency
    reason: str | None = Field(None, max_length=1000)


class CallbackBody(BaseModel):
    """A provider's callback as it came in: lower-case header names, raw body in base64."""

    headers: dict[str, str]
    body_base64: str
    method: str = "POST"

    @field_validator("headers")
    @classmethod
    def _in_lower_case(cls, given: dict[str, str]) -> dict[str, str]:
        return {name.lower(): value for name, value in given.items()}

    def raw(self) -> bytes:
        """Return the body as the provider sent it; raises MalformedError."""
        try:
            return base64.b64decode(self.body_base64, validate=True)
        except binascii.Error as error:
            raise MalformedError(body_base64="not base64") from error

    def read_object(self) -> dict[str, Any]:
        """Return the JSON object in the body, numbers exact; raises MalformedError."""
        found = parse_object(self.raw())
        if found is None:
            raise MalformedError(body_base64="the callback is not a JSON object")
        return found


class CustomerAction(BaseModel):
    """What the payer has to do; further keys are the provider's own."""

    model_config = ConfigDict(extra="allow")
    type: str
    url: str | None = None


class Answer(BaseModel):
    """What is known of a payment or refund; `amount` is the provider's word, never an echo."""

    outcome: Outcome
    reference: str | None
    provider_reference: str | None = None
    amount: str | None = None
    currency: str | None = None
    reason_code: str | None = None
    message: str = ""
    customer_action: CustomerAction | None = None
    # Enquiries only: False when the provider has no such payment.
    found: bool | None = None
    # The provider's name of the request, by which it is asked about; kept, never told.
    handle: str | None = Field(None, exclude=True)

    @property
    def never_sent(self) -> bool:
        """Whether provably nothing has left, so that another attempt may be made."""
        return self.outcome == "failed" and self.reason_code == NEVER_SENT


class Told(BaseModel):
    """A callback in our words; only a `verified` one may be believed."""

    verified: bool
    kind: Literal["payment", "refund"]
    reference: str | None
    outcome: Outcome
    provider_reference: str | None = None
    amount: str | None = None
    currency: str | None = None
    reason_code: str | None = None
    message: str = ""
    event_id: str


@dataclass(frozen=True, slots=True)
class Call:
    """A recorded request; `answer` is None while it is under way or was cut off."""

    kind: Kind
    reference: str
    attempt_id: str
    amount: str
    currency: str
    handle: str | None
    answer: Answer | None
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """A payment or refund to ask for or to ask about; enquiries know of `known` alone.

    `paid` is the payment that a refund belongs to, where its request is on record here.
    """

    kind: Kind
    reference: str
    attempt_id: str = ""
    amount: str = ""
    currency: str = ""
    phone: str | None = None
    callback_url: str | None = None
    payment_reference: str | None = None
    provider_reference: str | None = None
    reason: str | None = None
    known: Call | None = None
    paid: Call | None = None


def read_fields(payload: Sequence[Slot] | Mapping[str, Any]) -> dict[str, Any]:
    """Return `[{"i": 4, "v": …}]` and `{"f004": …}` as one shape, without empty fields."""
    if isinstance(payload, Mapping):
        return {name: value for name, value in payload.items() if value not in (None, "")}
    names = [f"f{slot.i:03}" for slot in payload]
    if twice := {name for name in names if names.count(name) > 1}:
        raise MalformedError(**dict.fromkeys(sorted(twice), "appears twice"))
    return {f"f{slot.i:03}": slot.v for slot in payload if slot.v not in (None, "")}


def parse_object(raw: bytes) -> dict[str, Any] | None:
    """Return a JSON object with exact numbers, or None for anything else."""
    try:
        found = json.loads(raw, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def text(value: object) -> str | None:
    """Return a provider's string or exact number as text, anything else as None."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    return str(value) or None


def decimals(currency: str) -> int:
    """Return how many decimals a currency has (ISO 4217)."""
    return 0 if currency in _ZERO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2


def exact(amount: str, places: int) -> str:
    """Write an amount with so many decimals; raises UnsendableError where that would round."""
    value = Decimal(amount)
    written = value.quantize(Decimal(1).scaleb(-places))
    if written != value:
        raise UnsendableError(f"{amount} can't be written with {places} decimals")
    return f"{written:f}"


def never_sent(order: Order, message: str) -> Answer:
    """Return the answer that provably nothing has left for the provider."""
    return Answer(
        outcome="failed", reference=order.reference, reason_code=NEVER_SENT, message=message
    )


def unknown(
    order: Order, message: str, reason_code: str | None = None, found: bool | None = None
) -> Answer:
    """Return the answer that anything may have happened; `found=False`: the provider has none."""
    return Answer(
        outcome="unknown",
        reference=order.reference,
        reason_code=reason_code,
        message=message,
        found=found,
    )
