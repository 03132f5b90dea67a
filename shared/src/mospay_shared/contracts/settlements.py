"""Events of settlements and payouts. Amounts are minor units of `currency`; times aware UTC."""

import datetime as dt
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mospay_shared.contracts.envelope import Contract
from mospay_shared.contracts.payments import Currency, Id, Minor, Mode

Signed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class PayoutStatus(StrEnum):
    """The states of a payout; rejected, failed and returned end it and give the money back."""

    CREATED = "created"
    APPROVED = "approved"
    REJECTED = "rejected"
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"


class SettlementV1(Contract):
    """`settlement.processed.v1`, `settlement.reserve_released.v1`: what a client's day came to.

    net = gross - fee + refund + adjustment: refund and adjustment are signed, fee is negative where
    more was given back than taken. Of net, `reserve_minor` is kept back until `reserve_due_at`.
    """

    settlement_id: Id
    client_id: Id
    mode: Mode
    currency: Currency
    local_day: dt.date
    part: int = Field(ge=1)
    time_zone: str = Field(max_length=64)
    cut_off_at: dt.datetime
    lines: int = Field(ge=1)
    gross_minor: Minor
    fee_minor: Signed
    refund_minor: Signed
    adjustment_minor: Signed
    net_minor: Minor
    reserve_minor: Minor
    reserve_due_at: dt.datetime | None = None
    reserve_released_at: dt.datetime | None = None
    version: int = Field(ge=1)
    occurred_at: dt.datetime


class PayoutV1(Contract):
    """`payout.*.v1`: a transfer to a client was asked for, decided on, made, or came back."""

    payout_id: Id
    client_id: Id
    mode: Mode
    currency: Currency
    amount_minor: Minor
    status: PayoutStatus
    destination: str = Field(max_length=120)
    reference: str | None = Field(None, max_length=120)
    reason: str | None = Field(None, max_length=300)
    version: int = Field(ge=1)
    occurred_at: dt.datetime
