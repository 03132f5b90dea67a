"""How a provider's CSV export is read: which column says what, and the presets we ship."""

import datetime as dt
import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from mospay_shared.money import MoneyError, exponent
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LINE_KINDS = ("payment", "refund", "fee", "payout", "other")
LineKind = Literal["payment", "refund", "fee", "payout", "other"]
PLACES = ("iso", "unix_seconds", "unix_milliseconds")
# What strptime may be asked for: nothing that depends on the machine's locale but month names.
_DIRECTIVES = frozenset("YymdHIMSfpzbB%")
_PROBE = dt.datetime(2024, 2, 29, 13, 5, 7)  # noqa: DTZ001 - only ever formatted
Header = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Value = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class StatementMapping(BaseModel):
    """Columns of an export by their header, and the way its values are written.

    Headers are compared without case and outer blanks; a header that occurs twice is `Currency`
    and `Currency#2`. Either `amount` or `credit` and `debit`. `sign`: `as_is` (money to us is
    positive), `inverted`, or `by_kind` (the amount has none; refunds, fees and payouts go out).
    `amount_is` net: the fee was taken off already and is added again. `only` keeps lines whose
    column has one of these values; the others are skipped, not faulty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    delimiter: Literal[",", ";", "|", "\t"] = Field(",", examples=[","])
    encoding: Literal["utf-8", "utf-16-le", "utf-16-be", "iso-8859-1", "windows-1252"] = "utf-8"
    skip_lines: int = Field(0, ge=0, le=100)  # lines above the header
    reference: Header | None = Field(None, examples=["Transaction ID"])
    our_reference: Header | None = Field(None, examples=["Custom Number"])
    amount: Header | None = Field(None, examples=["Gross"])
    credit: Header | None = None
    debit: Header | None = None
    sign: Literal["as_is", "inverted", "by_kind"] = "as_is"
    amount_is: Literal["gross", "net"] = "gross"
    unit: Literal["decimal", "minor"] = "decimal"
    decimal_mark: Literal[".", ","] = "."
    grouping: Literal["", ",", ".", " ", "'"] = ""
    currency: Header | None = Field(None, examples=["Currency"])
    default_currency: str | None = Field(None, pattern="^[A-Z]{3}$", examples=[None])
    fees: tuple[Header, ...] = Field((), max_length=4, examples=[["Fee"]])
    occurred_at: tuple[Header, ...] = Field(min_length=1, max_length=3, examples=[["Date", "Time"]])
    date_format: str = Field("iso", min_length=2, max_length=40, examples=["%d/%m/%Y %H:%M:%S"])
    time_zone: str = Field("UTC", max_length=60, examples=["Africa/Kigali"])
    kind: Header | None = Field(None, examples=["Type"])
    kinds: dict[Value, LineKind] = Field(default_factory=dict, max_length=100)
    other_kinds: LineKind | None = None  # of values that `kinds` lacks; null: they are faults
    only: dict[Header, tuple[Value, ...]] = Field(default_factory=dict, max_length=5)
    covers: tuple[Literal["payment", "refund"], ...] = Field(
        ("payment", "refund"), max_length=2
    )  # what the export lists; only that can be missing in it

    @field_validator("default_currency")
    @classmethod
    def _known_currency(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                exponent(value)
            except MoneyError as error:
                raise ValueError(str(error)) from error
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("is no IANA time zone such as Africa/Kigali") from error
        return value

    @field_validator("date_format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value in PLACES:
            return value
        asked = set(re.findall(r"%(.?)", value))
        if not asked <= _DIRECTIVES or not {"m", "b", "B"} & asked or "d" not in asked:
            raise ValueError(f"must be one of {', '.join(PLACES)} or a pattern of day and month")
        try:
            dt.datetime.strptime(_PROBE.strftime(value), value)  # noqa: DTZ007
        except ValueError as error:
            raise ValueError("can't be read back") from error
        return value

    @model_validator(mode="after")
    def _whole(self) -> "StatementMapping":
        if (self.amount is None) == (self.credit is None or self.debit is None):
            raise ValueError("name either amount, or credit and debit")
        if (self.currency is None) == (self.default_currency is None):
            raise ValueError("name either currency, or default_currency")
        if self.reference is None and self.our_reference is None:
            raise ValueError("name reference, our_reference or both")
        if self.sign == "by_kind" and self.kind is None:
            raise ValueError("sign by_kind needs kind")
        if self.kind is not None and not self.kinds and self.other_kinds is None:
            raise ValueError("kind needs kinds or other_kinds")
        if self.grouping == self.decimal_mark:
            raise ValueError("grouping and decimal_mark must differ")
        return self

    def headers(self) -> list[str]:
        """Return the headers this mapping reads, each once."""
        named = (
            self.reference, self.our_reference, self.amount, self.credit, self.debit,
            self.currency, *self.fees, *self.occurred_at, self.kind, *self.only,
        )  # fmt: skip
        return list(dict.fromkeys(name for name in named if name is not None))


def _simulator() -> StatementMapping:
    """Our own simulator's export: one line an effect, written for tests and the demo."""
    return StatementMapping(
        reference="provider_reference",
        our_reference="reference",
        amount="amount",
        currency="currency",
        fees=("fee",),
        occurred_at=("occurred_at",),
        kind="kind",
        kinds={k: k for k in LINE_KINDS},
        sign="as_is",
    )


def _mtnmomo() -> StatementMapping:
    """MTN MoMo, transaction report of the partner portal, in its days' local time (Rwanda).

    MTN documents that the external id of a request is in this report (momodeveloper.mtn.com,
    Collection API, `externalId`) but not its headers; they differ by country, so this is a start
    to copy and correct, not a promise. Our external id is the payment's; the id is MTN's
    `financialTransactionId`, which the connector keeps as the provider's reference.
    """
    return StatementMapping(
        reference="Id",
        our_reference="External Transaction Id",
        amount="Amount",
        currency="Currency",
        fees=("Fee",),
        occurred_at=("Date",),
        date_format="%Y-%m-%d %H:%M:%S",
        time_zone="Africa/Kigali",
        grouping=",",
        kind="Type",
        kinds={"Debit": "payment", "Payment": "payment", "Refund": "refund"},
        other_kinds="other",
        sign="by_kind",
        only={"Status": ("Successful", "SUCCESSFUL")},
    )


def _paypal() -> StatementMapping:
    """PayPal, Activity Download (PayPal: Activity Download Specification 3.0, November 2018).

    Gross and fee are signed (a fee is negative); Custom Number is the `custom_id` we send. Times
    are those of the account's own zone: copy this and set `time_zone`.
    """
    return StatementMapping(
        reference="Transaction ID",
        our_reference="Custom Number",
        amount="Gross",
        grouping=",",
        currency="Currency",
        fees=("Fee",),
        occurred_at=("Date", "Time"),
        date_format="%m/%d/%Y %H:%M:%S",
        time_zone="America/Los_Angeles",
        kind="Type",
        kinds={
            "Express Checkout Payment": "payment",
            "Website Payment": "payment",
            "General Payment": "payment",
            "Payment Refund": "refund",
            "Payment Reversal": "refund",
            "General Withdrawal": "payout",
        },
        other_kinds="other",
        only={"Status": ("Completed",)},
    )


def _razorpay() -> StatementMapping:
    """Razorpay, settlement recon (razorpay.com/docs/api/settlements/fetch-recon: its members).

    `entity_id` is Razorpay's id of the payment or refund, `order_receipt` what we sent; debit and
    credit are net of the fee in the settlement, `amount` is gross, without a sign; the tax is part
    of the fee. Amounts are decimals in the dashboard's file; times are India's.
    """
    return StatementMapping(
        reference="entity_id",
        our_reference="order_receipt",
        amount="amount",
        currency="currency",
        fees=("fee",),
        occurred_at=("created_at",),
        date_format="%d/%m/%Y %H:%M:%S",
        time_zone="Asia/Kolkata",
        grouping=",",
        kind="type",
        kinds={"payment": "payment", "refund": "refund", "transfer": "payout"},
        other_kinds="other",
        sign="by_kind",
    )


PRESETS = {
    "mtnmomo": _mtnmomo(),
    "paypal": _paypal(),
    "razorpay": _razorpay(),
    "simulator": _simulator(),
}


def preset_of(microservice: str) -> str | None:
    """Return the name of the preset for a microservice, by how its name begins (mtnmomorwa)."""
    return next((name for name in PRESETS if microservice.startswith(name)), None)
