"""What goes in and out of the routes of settlements."""

import datetime as dt
from typing import Annotated, Literal

from mospay_shared.ids import new_id
from pydantic import AwareDatetime, BaseModel, Field

from mospay_ledger.domain.settling import HOLD_DAYS_LIMIT, RESERVE_DAYS_LIMIT, Terms
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_TIME,
    PRINTABLE,
)

EXAMPLE_SETTLEMENT = "set_019aa51c000070008000000000000021"
CUT_OFF = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class NewTerms(BaseModel):
    """How a client is settled from now or later; a null scope member means "any".

    Basis points (100 = 1 %) of each batch are kept back for `reserve_days`. A batch below
    `minimum_minor` waits. `cut_off` is when a day ends by the client's clock, `00:00` its midnight.
    """

    mode: Literal["live", "test"] = Field(examples=["test"])
    client_id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = Field(
        None, examples=[EXAMPLE_CLIENT]
    )
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = Field(None, examples=["RWF"])
    hold_days: int = Field(ge=0, le=HOLD_DAYS_LIMIT, examples=[2])
    reserve_bps: int = Field(0, ge=0, le=10_000, examples=[500])
    reserve_days: int = Field(0, ge=0, le=RESERVE_DAYS_LIMIT, examples=[90])
    minimum_minor: int = Field(0, ge=0, le=2**62, examples=[10000])
    destination: str = Field(
        "", max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["Bank of Kigali …4410"],
        description="a label a person knows the account by; never its secrets",
    )  # fmt: skip
    cut_off: str = Field("00:00", pattern=CUT_OFF, examples=["00:00"])
    paused: bool = False
    effective_from: AwareDatetime | None = Field(None, examples=[EXAMPLE_TIME])

    def terms(self) -> Terms:
        """Return the domain's terms, with an id of their own."""
        given = self.model_dump(exclude={"cut_off", "effective_from"})
        return Terms(id=new_id("trm"), cut_off=dt.time.fromisoformat(self.cut_off), **given)


class TermsBody(NewTerms):
    """Terms as they stand; they are never changed."""

    id: str = Field(examples=["trm_019aa51c000070008000000000000020"])
    effective_from: dt.datetime = Field(examples=[EXAMPLE_TIME])
    created_by: str | None = Field(examples=["usr_a"])


class TermsPage(BaseModel):
    """A page of terms in id order; `next_cursor` is null at the end."""

    items: list[TermsBody]
    next_cursor: str | None = Field(examples=[None])


class SettlementBody(BaseModel):
    """A client's day: net = gross - fee + refund + adjustment, minor units; lines make it up.

    Refund and adjustment (chargebacks, corrections, debts paid off) are signed. Of net,
    `reserve_minor` is kept back until `reserve_due_at`.
    """

    id: str = Field(examples=[EXAMPLE_SETTLEMENT])
    client_id: str = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    currency: str = Field(examples=["RWF"])
    local_day: dt.date = Field(examples=["2026-11-20"])
    part: int = Field(examples=[1])
    time_zone: str = Field(examples=["Africa/Kigali"])
    cut_off_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    terms_id: str = Field(examples=["trm_default_test"])
    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    line_count: int = Field(examples=[3])
    gross_minor: int = Field(examples=[3000])
    fee_minor: int = Field(examples=[60])
    refund_minor: int = Field(examples=[-500])
    adjustment_minor: int = Field(examples=[0])
    net_minor: int = Field(examples=[2440])
    reserve_minor: int = Field(examples=[0])
    reserve_due_at: dt.datetime | None = Field(examples=[None])
    reserve_released_at: dt.datetime | None = Field(examples=[None])
    settled_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class OneSettlement(SettlementBody):
    """A settlement with the entry that took it back, if any."""

    reversed_by: str | None = Field(examples=[None])


class SettlementPage(BaseModel):
    """A page of settlements, newest first; `next_cursor` is null at the end."""

    items: list[SettlementBody]
    next_cursor: str | None = Field(examples=[None])


class LineBody(BaseModel):
    """A journal entry that a settlement settles; minor units."""

    number: int = Field(examples=[1])
    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    kind: str = Field(examples=["capture"])
    payment_id: str | None = Field(examples=[EXAMPLE_PAYMENT])
    refund_id: str | None = Field(examples=[None])
    occurred_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    gross_minor: int = Field(examples=[1500])
    fee_minor: int = Field(examples=[30])
    refund_minor: int = Field(examples=[0])
    adjustment_minor: int = Field(examples=[0])
    net_minor: int = Field(examples=[1470])


class LinePage(BaseModel):
    """A page of lines by number; `next_cursor` is null at the end."""

    items: list[LineBody]
    next_cursor: int | None = Field(examples=[None])


class NewRun(BaseModel):
    """Settle now, whether or not it is due; `as_of` (test mode alone) says which now is meant.

    Go on with `cursor` until the answer has none.
    """

    mode: Literal["live", "test"] = Field(examples=["test"])
    client_id: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = None
    as_of: AwareDatetime | None = Field(None, examples=[EXAMPLE_TIME])
    cursor: Annotated[str, Field(max_length=100, pattern=PRINTABLE)] | None = None


class RunBody(BaseModel):
    """What a run came to: clients looked at, settlements made, reserves given back, failures."""

    as_of: dt.datetime = Field(examples=[EXAMPLE_TIME])
    looked_at: int = Field(examples=[1])
    settlements: list[str] = Field(examples=[[EXAMPLE_SETTLEMENT]])
    reserves_released: int = Field(examples=[0])
    failed: list[str] = Field(examples=[[]])
    next_cursor: str | None = Field(examples=[None])
