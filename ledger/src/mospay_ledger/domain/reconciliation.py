"""Exceptions of reconciliation: their kinds, what may be done about each, and what that posts.

`delta` is what a clearing account lacks to say what the provider says. A resolution that posts
moves it there, against an account of the operator's (docs/ledger.md, Reconciliation).

LedgerError
├── ReconciliationMissing   no such import, exception or mapping
├── NotNow                  its state does not allow that (any more)
├── NotAllowed              that does not resolve an exception of this kind; `field` says where
└── SecondPersonNeeded      who approves must be another than who proposed
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mospay_shared.ids import new_id

from mospay_ledger.domain.accounts import (
    Account,
    clearing,
    provider_fees,
    suspense,
    write_offs,
)
from mospay_ledger.domain.entries import Entry, Posting
from mospay_ledger.domain.errors import LedgerError

EXCEPTION_KINDS = (
    "missing_here",
    "missing_there",
    "amount_differs",
    "currency_differs",
    "duplicate",
    "provider_fee",
)
POSTS = ("write_off", "suspense_in", "confirm_fee")
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "missing_here": ("suspense_in", "write_off"),
    "missing_there": ("suspense_in", "write_off"),
    "amount_differs": ("confirm_fee", "suspense_in", "write_off"),
    "currency_differs": ("suspense_in", "write_off"),
    "duplicate": ("duplicate_dismiss", "suspense_in", "write_off"),
    "provider_fee": ("confirm_fee",),
}
_ENTRY_KINDS = {
    "write_off": "write_off",
    "suspense_in": "suspense_in",
    "confirm_fee": "provider_fee",
}


class ReconciliationMissing(LedgerError):
    """There is no such import, exception or mapping."""

    code = "reconciliation_missing"


class NotNow(LedgerError):
    """Its state does not allow that, or not any more."""

    code = "not_now"


class NotAllowed(LedgerError):
    """A value that can't be right here; `field` names it."""

    code = "not_allowed"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


class SecondPersonNeeded(LedgerError):
    """Who approves must be another than who proposed."""

    code = "second_person"


@dataclass(frozen=True, slots=True)
class Difference:
    """What an exception is about, in minor units as the clearing account counts them.

    `stated_minor` in `currency` is what the provider says, `expected_minor` in
    `expected_currency` what the books say; 0 where one of them says nothing.
    """

    exception_id: str
    kind: str
    microservice: str
    mode: str
    currency: str
    stated_minor: int
    expected_currency: str | None
    expected_minor: int
    reference: str | None
    payment_id: str | None
    occurred_at: dt.datetime

    @property
    def legs(self) -> dict[str, int]:
        """What clearing lacks, by currency, without what cancels."""
        sums = {self.currency: self.stated_minor}
        other = self.expected_currency or self.currency
        sums[other] = sums.get(other, 0) - self.expected_minor
        return {currency: minor for currency, minor in sums.items() if minor}


def check_resolution(difference: Difference, resolution: str) -> None:
    """Raise NotAllowed where a resolution does not fit."""
    allowed = ALLOWED[difference.kind]
    if resolution not in allowed:
        say = f"a {difference.kind} is resolved by one of: {', '.join(allowed)}"
        raise NotAllowed("resolution", say)
    if resolution == "confirm_fee" and any(minor > 0 for minor in difference.legs.values()):
        raise NotAllowed("resolution", "the provider gave more, not less: that is no fee")


def needs_two(difference: Difference, resolution: str, limits: Mapping[str, int]) -> bool:
    """Say whether a second person must approve: what posts above its currency's limit.

    A currency without a limit has the limit 0.
    """
    return resolution in POSTS and any(
        abs(minor) > limits.get(currency, 0) for currency, minor in difference.legs.items()
    )


def _against(resolution: str, currency: str, mode: str) -> Account:
    account = {"write_off": write_offs, "suspense_in": suspense, "confirm_fee": provider_fees}
    return account[resolution](currency, mode)


def entries_of(difference: Difference, resolution: str, reason: str) -> list[Entry]:
    """Return what a resolution posts: one balanced entry a currency, each once for ever."""
    if resolution not in POSTS:
        return []
    return [
        Entry(
            id=new_id("ent"),
            kind=_ENTRY_KINDS[resolution],
            effect_key=f"{difference.exception_id}:{currency}:resolved",
            client_id="",
            mode=difference.mode,
            currency=currency,
            amount_minor=abs(minor),
            postings=(
                Posting(clearing(difference.microservice, currency, difference.mode), minor),
                Posting(_against(resolution, currency, difference.mode), -minor),
            ),
            occurred_at=difference.occurred_at,
            payment_id=difference.payment_id,
            provider_reference=difference.reference,
            reason=reason[:300],
        )
        for currency, minor in difference.legs.items()
    ]


def taken_back(entries: Sequence[Entry], reason: str, at: dt.datetime) -> list[Entry]:
    """Return the entries that undo resolutions whose reason is gone: the match came after all."""
    return [
        Entry(
            id=new_id("ent"),
            kind="reversal",
            effect_key=f"{entry.id}:reversed",
            client_id="",
            mode=entry.mode,
            currency=entry.currency,
            amount_minor=entry.amount_minor,
            postings=tuple(Posting(s.account, -s.amount_minor) for s in entry.postings),
            occurred_at=at,
            payment_id=entry.payment_id,
            provider_reference=entry.provider_reference,
            reverses=entry.id,
            reason=reason,
        )
        for entry in entries
    ]


def limits_of(texts: Sequence[str]) -> dict[str, int]:
    """Return limits by currency of texts such as `RWF=50000`; ValueError for what is none."""
    found: dict[str, int] = {}
    for text in texts:
        currency, equals, minor = text.partition("=")
        if not equals or len(currency) != 3 or not currency.isupper() or not minor.isdecimal():
            raise ValueError(f"{text!r} must be such as RWF=50000, in minor units")
        found[currency] = int(minor)
    return found
