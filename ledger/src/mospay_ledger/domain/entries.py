"""Journal entries and their sides. An entry sums to zero in one currency and one mode."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mospay_shared.contracts import PaymentEventV1

from mospay_ledger.domain.accounts import Account
from mospay_ledger.domain.errors import NotReversible
from mospay_ledger.domain.fees import Fee

ENTRY_KINDS = (
    "capture",
    "second_capture",
    "refund_reserved",
    "refund_released",
    "refund",
    "over_refund",
    "reversal",
    "chargeback",
    "settlement",
    "payout",
    "payout_returned",
    "payout_paid",
    "payout_bounced",
    "reserve_kept",
    "reserve_released",
    "write_off",
    "suspense_in",
    "provider_fee",
)
REVERSIBLE = ("capture", "second_capture", "refund", "over_refund", "settlement")


class Posting(NamedTuple):
    """One side of an entry."""

    account: Account
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A balanced journal entry that is about to be written. `effect_key` happens once for ever.

    `fee_returned_minor` is what of the fee was given back; `fee_base_minor` the part of a refund
    the client bore, which that is a share of. Without a `client_id` it is the operator's own.
    """

    id: str
    kind: str
    effect_key: str
    client_id: str
    mode: str
    currency: str
    amount_minor: int
    postings: tuple[Posting, ...]
    occurred_at: dt.datetime
    payment_id: str | None = None
    attempt_id: str | None = None
    refund_id: str | None = None
    service_id: str | None = None
    provider_reference: str | None = None
    reverses: str | None = None
    reason: str | None = None
    fee: Fee | None = None
    fee_returned_minor: int = 0
    fee_base_minor: int = 0
    late: bool = False
    resolved: bool = False
    accepted_at: dt.datetime | None = None

    @property
    def fee_minor(self) -> int:
        """The fee this entry takes."""
        return self.fee.minor if self.fee else 0


@dataclass(frozen=True, slots=True)
class VoidEffect:
    """An effect that happened and moved nothing: what comes for it later must not move anything."""

    effect_key: str
    client_id: str
    mode: str
    payment_id: str
    refund_id: str


def capture_key(payment: PaymentEventV1) -> str:
    """Return the natural key of a capture: one per attempt, whatever event tells of it."""
    return f"{payment.attempt_id or payment.payment_id}:capture"


def refund_key(refund_id: str, what: str) -> str:
    """Return the natural key of a refund's `reserved`, `released` or `refund`."""
    return f"{refund_id}:{what}"


def check_reversible(entry: Entry, *, keep_fee: bool) -> None:
    """Raise NotReversible for what ends by its own follower, or goes with what it was posted for.

    With `keep_fee` it is a chargeback, which only a capture has.
    """
    kinds = ("capture",) if keep_fee else REVERSIBLE
    if entry.kind not in kinds or not entry.client_id:
        what = "charged back" if keep_fee else "taken back"
        raise NotReversible(f"{entry.id} is a {entry.kind}; {', '.join(kinds)} can be {what}")


def merged(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """Add up the sides of one account and leave out those that cancel."""
    sums: dict[Account, int] = {}
    for posting in postings:
        sums[posting.account] = sums.get(posting.account, 0) + posting.amount_minor
    return tuple(Posting(account, amount) for account, amount in sums.items() if amount)


def is_balanced(postings: Sequence[Posting]) -> bool:
    """Say whether postings sum to zero in each currency and mode."""
    sums: dict[tuple[str, str], int] = {}
    for posting in postings:
        books = (posting.account.currency, posting.account.mode)
        sums[books] = sums.get(books, 0) + posting.amount_minor
    return not any(sums.values())
