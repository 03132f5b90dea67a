"""Settlements and payouts as browsers see them; amounts are minor units."""

import datetime as dt

from pydantic import BaseModel, Field


class Settlement(BaseModel):
    """A client's day, minor units: net = gross - fee + refund + adjustment."""

    id: str
    client_id: str
    mode: str
    currency: str
    local_day: dt.date
    part: int
    time_zone: str
    cut_off_at: dt.datetime
    entry_id: str
    line_count: int
    gross_minor: int
    fee_minor: int
    refund_minor: int
    adjustment_minor: int
    net_minor: int
    reserve_minor: int
    reserve_due_at: dt.datetime | None
    reserve_released_at: dt.datetime | None
    settled_at: dt.datetime
    reversed_by: str | None = None


class SettlementPage(BaseModel):
    """A page of settlements, newest first; `next_cursor` is null at the end."""

    items: list[Settlement]
    next_cursor: str | None


class SettlementLine(BaseModel):
    """A journal entry that a settlement settles."""

    number: int
    entry_id: str
    kind: str
    payment_id: str | None
    refund_id: str | None
    occurred_at: dt.datetime
    gross_minor: int
    fee_minor: int
    refund_minor: int
    adjustment_minor: int
    net_minor: int


class SettlementLines(BaseModel):
    """A page of lines by number; `next_cursor` is null at the end."""

    items: list[SettlementLine]
    next_cursor: int | None


class SettlementTerms(BaseModel):
    """How a client is settled; null in client or currency means "any"."""

    mode: str = Field(pattern=r"^(live|test)$")
    client_id: str | None = Field(None, max_length=80)
    currency: str | None = Field(None, pattern="^[A-Z]{3}$")
    hold_days: int = Field(ge=0, le=180)
    reserve_bps: int = Field(0, ge=0, le=10_000)
    reserve_days: int = Field(0, ge=0, le=540)
    minimum_minor: int = Field(0, ge=0, le=2**62)
    destination: str = Field("", max_length=120)
    cut_off: str = Field("00:00", max_length=5)
    paused: bool = False
    effective_from: dt.datetime | None = None


class SettlementTermsOut(SettlementTerms):
    """Terms as they stand; they are never changed."""

    id: str
    created_by: str | None


class SettlementTermsPage(BaseModel):
    """A page of terms in id order; `next_cursor` is null at the end."""

    items: list[SettlementTermsOut]
    next_cursor: str | None


class SettlementRun(BaseModel):
    """Settle now; `as_of` (test mode alone) says which now is meant."""

    mode: str = Field(pattern=r"^(live|test)$")
    client_id: str | None = Field(None, max_length=80)
    as_of: dt.datetime | None = None
    cursor: str | None = Field(None, max_length=100)


class SettlementRunOut(BaseModel):
    """What a run came to; go on with `next_cursor` until there is none."""

    as_of: dt.datetime
    looked_at: int
    settlements: list[str]
    reserves_released: int
    failed: list[str]
    next_cursor: str | None


class NewPayout(BaseModel):
    """A transfer of what is available, minor units; a client user's client may be left out."""

    client_id: str | None = Field(None, max_length=80, pattern="^[A-Za-z0-9_]+$")
    mode: str = Field(pattern=r"^(live|test)$")
    currency: str = Field(pattern="^[A-Z]{3}$")
    amount_minor: int = Field(gt=0, le=2**63 - 1)
    destination: str | None = Field(None, min_length=1, max_length=120)


class PayoutStepIn(BaseModel):
    """A step on a payout whose version was read."""

    version: int = Field(ge=1, le=2**31 - 1)
    reason: str | None = Field(None, min_length=1, max_length=300)
    reference: str | None = Field(None, min_length=1, max_length=120)


class Payout(BaseModel):
    """A payout; `version` rises with every step."""

    id: str
    client_id: str
    mode: str
    currency: str
    amount_minor: int
    destination: str
    status: str
    version: int
    created_by: str
    decided_by: str | None
    reference: str | None
    reason: str | None
    created_at: dt.datetime
    changed_at: dt.datetime


class PayoutStep(BaseModel):
    """One step of a payout: who, why, and the journal entry it posted."""

    version: int
    status: str
    actor: str
    reason: str | None
    reference: str | None
    entry_id: str | None
    at: dt.datetime


class OnePayout(Payout):
    """A payout with its steps, oldest first."""

    steps: list[PayoutStep]


class PayoutPage(BaseModel):
    """A page of payouts, newest first; `next_cursor` is null at the end."""

    items: list[Payout]
    next_cursor: str | None
