"""Settlements and payouts: terms, where a client's days end, what a batch comes to, whose step.

Money is settled when it is older than the hold at the end of one of the client's days; what was
taken from a client (refunds, chargebacks) is taken from the first batch there is. So a batch never
comes to more than what is pending.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from mospay_shared.contracts import PayoutStatus

from mospay_ledger.domain.errors import LedgerError
from mospay_ledger.domain.fees import BASIS, share

HOLD_DAYS_LIMIT = 180
RESERVE_DAYS_LIMIT = 540  # the longest a card scheme lets a payer dispute
MIDNIGHT = dt.time(0)


class TermsInvalid(LedgerError):
    """Terms contradict themselves; `field` names the member."""

    code = "terms_invalid"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


class PayoutMissing(LedgerError):
    """There is no such payout."""

    code = "payout_missing"


class StaleVersion(LedgerError):
    """Somebody else took a step since this version was read."""

    code = "stale_version"


class SamePerson(LedgerError):
    """Who asked for a payout does not decide on it."""

    code = "second_person"


class NoSuchStep(LedgerError):
    """A payout in this state takes no such step."""

    code = "no_such_step"


class KeyReused(LedgerError):
    """The idempotency key belongs to another payout."""

    code = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a client is settled; a version is never changed. None in a scope field means "any".

    `cut_off` is when a day ends by the client's clock: at midnight that of the day's own end, else
    that hour of the day itself.
    """

    id: str
    mode: str
    client_id: str | None
    currency: str | None
    hold_days: int
    reserve_bps: int = 0
    reserve_days: int = 0
    minimum_minor: int = 0
    destination: str = ""
    cut_off: dt.time = MIDNIGHT
    paused: bool = False
    effective_from: dt.datetime = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

    def check(self) -> None:
        """Raise TermsInvalid where the terms contradict themselves."""
        if self.minimum_minor and self.currency is None:
            raise TermsInvalid("minimum_minor", "an amount needs the terms to name a currency")
        if (self.reserve_bps == 0) != (self.reserve_days == 0):
            raise TermsInvalid("reserve_days", "a reserve has both a share and a number of days")
        if self.cut_off.tzinfo is not None or self.cut_off.second or self.cut_off.microsecond:
            raise TermsInvalid("cut_off", "is a time of day by the client's clock, as HH:MM")


def choose_terms(found: Iterable[Terms], client_id: str, currency: str) -> Terms:
    """Return the nearest terms of one mode and instant: client before any, currency before any.

    Of one scope the newest; `found` holds only terms in force, the operator's default among them.
    """
    return max(
        (t for t in found if t.client_id in (client_id, None) and t.currency in (currency, None)),
        key=lambda t: (t.client_id is not None, t.currency is not None, t.effective_from),
    )


def day_end(day: dt.date, zone: ZoneInfo, cut_off: dt.time) -> dt.datetime:
    """Return the instant a local day ends, in UTC.

    A time the clocks skip counts as if they had not been moved yet, one they show twice is the
    first of the two (PEP 495, fold 0): the ends of days never go back.
    """
    ends_on = day + dt.timedelta(days=1) if cut_off == MIDNIGHT else day
    return dt.datetime.combine(ends_on, cut_off, tzinfo=zone).astimezone(dt.UTC)


def last_ended_day(at: dt.datetime, zone: ZoneInfo, cut_off: dt.time) -> dt.date:
    """Return the last local day that has ended at an instant."""
    day = at.astimezone(zone).date()
    while day_end(day, zone, cut_off) > at:
        day -= dt.timedelta(days=1)
    return day


@dataclass(frozen=True, slots=True)
class Totals:
    """What is ripe of one client's pending money, by what it is; minor units of one currency."""

    lines: int
    gross_minor: int
    fee_minor: int
    refund_minor: int
    adjustment_minor: int

    @property
    def net_minor(self) -> int:
        """What the batch comes to; negative where more was taken than came in."""
        return self.gross_minor - self.fee_minor + self.refund_minor + self.adjustment_minor


def worth_settling(totals: Totals, terms: Terms) -> bool:
    """Say whether a batch is made, or waits for a later day with more."""
    return not terms.paused and totals.net_minor > 0 and totals.net_minor >= terms.minimum_minor


def reserve_of(net_minor: int, terms: Terms) -> int:
    """Return what is kept back of a batch, rounded half to even."""
    return share(net_minor, terms.reserve_bps, BASIS)


@dataclass(frozen=True, slots=True)
class Step:
    """A step in a payout's life: from where to where, and which template it posts."""

    before: PayoutStatus
    after: PayoutStatus
    posts: str | None  # kind of movement
    second_person: bool = False
    needs: str | None = None  # `reason` or `reference`


# A payout's life (docs/ledger.md); whatever is not here is refused.
STEPS = {
    "approve": Step(PayoutStatus.CREATED, PayoutStatus.APPROVED, None, second_person=True),
    "reject": Step(
        PayoutStatus.CREATED,
        PayoutStatus.REJECTED,
        "payout_returned",
        second_person=True,
        needs="reason",
    ),
    "pay": Step(PayoutStatus.APPROVED, PayoutStatus.PAID, "payout_paid", needs="reference"),
    "fail": Step(PayoutStatus.APPROVED, PayoutStatus.FAILED, "payout_returned", needs="reason"),
    "return": Step(PayoutStatus.PAID, PayoutStatus.RETURNED, "payout_bounced", needs="reason"),
}


def check_step(name: str, status: str, created_by: str, actor: str) -> Step:
    """Return a step that may be taken; raises NoSuchStep or SamePerson."""
    step = STEPS[name]
    if status != step.before:
        raise NoSuchStep(f"a payout that is {status} can't take the step {name}")
    if step.second_person and actor == created_by:
        raise SamePerson("who asked for a payout can't decide on it")
    return step
