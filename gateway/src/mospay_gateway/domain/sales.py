"""Sale events that merchants report: what one may say, and what makes two of them the same."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from mospay_shared.contracts import SaleEventV1
from mospay_shared.money import MoneyError, exponent, parse_minor
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mospay_gateway.domain.errors import Fault
from mospay_gateway.domain.times import Instant

BATCH_LIMIT = 1000  # events a request
_EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_AHEAD = dt.timedelta(days=1)  # a client's clock may be wrong by that much
_KINDS = ("payment_created", "payment_succeeded", "payment_failed", "payment_refunded")

Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
# an exact JSON decimal: never through a float
Amount = int | Decimal | Annotated[str, Field(max_length=40)]


class SaleEvent(BaseModel):
    """A sale as a merchant's own system saw it. `amount` and `fee` are exact decimals."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "transaction_id": "txn-789",
                    "customer_id": "cust-456",
                    "event_type": "payment_succeeded",
                    "amount": 1000,
                    "currency": "XOF",
                    "fee": 30,
                    "payment_method": "mobile_money",
                    "product_id": "prod-123",
                    "product_name": "Premium Package",
                }
            ]
        },
    )
    transaction_id: Text
    event_type: str = Field(
        pattern=r"^payment[_.](created|succeeded|failed|refunded)$",
        description="`payment_succeeded`; `payment.succeeded` is the same",
    )
    customer_id: Text | None = None
    amount: Amount | None = None
    fee: Amount | None = None
    currency: str | None = Field(
        None, pattern=r"^[A-Z]{3}$", description="ISO 4217; default: your own currency"
    )
    payment_method: Annotated[Text, Field(max_length=80)] | None = None
    product_id: Text | None = None
    product_name: Text | None = None
    event_id: Text | None = Field(None, description="Your own id of this event: the dedupe key")
    occurred_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose events they are, and the currency where none is said."""

    client_id: str
    mode: str
    currency: str


def read_sale(
    raw: Any, tenant: Tenant, sale_event_id: str, received_at: dt.datetime
) -> tuple[SaleEventV1 | None, list[Fault]]:
    """Return a sale event, or everything that is wrong with what was sent."""
    if not isinstance(raw, Mapping):
        return None, [Fault("body", "not_an_object", "must be a JSON object")]
    try:
        event = SaleEvent.model_validate(raw)
    except ValidationError as error:
        return None, _shape_faults(error)
    currency = event.currency or tenant.currency
    amount, faults = _minor("amount", event.amount, currency)
    fee, more = _minor("fee", event.fee, currency)
    faults = list({(f.field, f.code): f for f in (*faults, *more)}.values())
    occurred_at = event.occurred_at or received_at
    if not _EARLIEST <= occurred_at <= received_at + _AHEAD:
        message = "must lie between the year 2000 and tomorrow"
        faults.append(Fault("occurred_at", "out_of_range", message))
    if faults:
        return None, faults
    kind = event.event_type.replace(".", "_")
    return (
        SaleEventV1(
            sale_event_id=sale_event_id,
            client_id=tenant.client_id,
            mode=tenant.mode,
            dedupe_key=_dedupe_key(event, kind),
            transaction_id=event.transaction_id,
            kind=kind,
            customer_id=event.customer_id,
            amount_minor=amount,
            fee_minor=fee,
            currency=currency,
            payment_method=event.payment_method,
            product_id=event.product_id,
            product_name=event.product_name,
            occurred_at=occurred_at,
            received_at=received_at,
        ),
        [],
    )


def _dedupe_key(event: SaleEvent, kind: str) -> str:
    if event.event_id is not None:
        return f"event:{event.event_id}"
    return f"transaction:{kind}:{event.transaction_id}"


def _minor(name: str, value: Amount | None, currency: str) -> tuple[int | None, list[Fault]]:
    """Return minor units of an exact decimal, or why it can't be that."""
    try:
        exponent(currency)
    except MoneyError as error:
        return None, [Fault("currency", error.code, "is not an ISO 4217 code this system knows")]
    if value is None:
        return None, []
    try:
        return parse_minor(_plain(value), currency), []
    except MoneyError as error:
        return None, [Fault(name, error.code, str(error))]


def _plain(value: Amount) -> str:
    """Write a decimal without an exponent; what is too long for one is no amount."""
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > 30 or len(value.as_tuple().digits) > 38:
            return "?"
        return format(value, "f")
    return value if isinstance(value, str) else str(value) if abs(value) < 10**38 else "?"


def _shape_faults(error: ValidationError) -> list[Fault]:
    faults: dict[str, Fault] = {}
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        # a member whose name is no text (half a character) is a fault of the whole
        name = str(next(iter(fault["loc"]), "body"))[:100]
        code, words = fault["type"], fault["msg"]
        if code == "missing":
            code, words = "required", "is required"
        elif code == "extra_forbidden":
            words = "is not a field of a sale event"
        elif name in ("amount", "fee"):
            code, words = "invalid_amount", "must be a plain decimal such as 1000 or 10.50"
        elif name == "event_type":
            code, words = "unknown_event_type", "must be one of " + ", ".join(_KINDS)
        faults.setdefault(name, Fault(name, code, words))
    return list(faults.values())
