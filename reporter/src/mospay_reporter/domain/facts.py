"""What becomes of messages about one payment: which news counts, what entries add.

Errors: FactError → Unstorable, ForeignPayment; none of them is cured by another try.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mospay_shared.contracts import LedgerEntryPostedV1, PaymentEventV1, PaymentStatus
from mospay_shared.ids import id_time

BIGINT = 2**63
EPOCH = dt.date(1970, 1, 1)
STATUSES = tuple(status.value for status in PaymentStatus)
COUNTED_KIND = "capture"  # a second capture is owed back: neither a fee nor income of the client


class FactError(Exception):
    """A message that can't become a fact, whenever it is tried."""

    code = "fact_error"


class Unstorable(FactError):
    """A value that no column can hold, or a time without its zone."""

    code = "unstorable"


class ForeignPayment(FactError):
    """A message that names another client, mode or currency than the payment has."""

    code = "foreign_payment"


def month_of(payment_id: str) -> dt.date:
    """Return the first day of the month written in a payment id (EPOCH when none is)."""
    try:
        return id_time(payment_id).date().replace(day=1)
    except (ValueError, OverflowError):  # a time beyond the calendar
        return EPOCH


Identity = tuple[str, str, str]  # client, mode, currency: never change in a payment's life


def identity(body: PaymentEventV1 | LedgerEntryPostedV1) -> Identity:
    """Return whose payment a message speaks of."""
    return body.client_id, body.mode, body.currency


Newness = tuple[int, dt.datetime, str]


def newness(event: PaymentEventV1) -> Newness:
    """Order news of one payment: by version; the rest makes a tie end the same way every time."""
    return event.version, event.occurred_at, event.status.value


def _same(known: Identity | None, body: PaymentEventV1 | LedgerEntryPostedV1) -> None:
    if known is not None and known != identity(body):
        raise ForeignPayment(f"{body.payment_id} has another client, mode or currency")


def newest(events: Iterable[PaymentEventV1]) -> list[PaymentEventV1]:
    """Return the newest event of each payment, in the order in which rows are locked.

    Raises Unstorable, and ForeignPayment when events of one payment disagree whose it is.
    """
    found: dict[str, PaymentEventV1] = {}
    for event in events:
        if event.accepted_at.tzinfo is None or event.occurred_at.tzinfo is None:
            raise Unstorable("accepted_at and occurred_at need a time zone")
        if max(event.version, event.attempts) >= BIGINT:
            raise Unstorable("version or attempts is beyond 64 bits")
        known = found.get(event.payment_id)
        if known is not None:
            _same(identity(known), event)
        if known is None or newness(known) < newness(event):
            found[event.payment_id] = event
    return sorted(found.values(), key=lambda e: (month_of(e.payment_id), e.payment_id))


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a payment; `newness` is None while only its books are known."""

    identity: Identity
    newness: Newness | None
    entry_ids: frozenset[str]


def news(events: Sequence[PaymentEventV1], known: dict[str, Known]) -> list[PaymentEventV1]:
    """Return the events that tell more than what is stored; raises ForeignPayment."""
    fresh = []
    for event in events:
        stored = known[event.payment_id]
        _same(stored.identity, event)
        if stored.newness is None or stored.newness < newness(event):
            fresh.append(event)
    return fresh


@dataclass(frozen=True, slots=True)
class Booking:
    """What journal entries add to one payment; minor units. `entry` is the first of them."""

    entry: LedgerEntryPostedV1
    entry_ids: tuple[str, ...]
    fee_minor: int
    net_minor: int

    @property
    def payment_id(self) -> str:
        """The payment they belong to."""
        return self.entry.payment_id


def bookings(
    entries: Iterable[LedgerEntryPostedV1], known: dict[str, Known] | None = None
) -> list[Booking]:
    """Sum up entries by payment, each entry once, in the order in which rows are locked.

    Entries that `known` has already are left out. Raises Unstorable and ForeignPayment.
    """
    groups: dict[str, dict[str, LedgerEntryPostedV1]] = {}
    for entry in entries:
        if not -BIGINT <= entry.net_minor < BIGINT:
            raise Unstorable("net_minor is beyond 64 bits")
        group = groups.setdefault(entry.payment_id, {})
        if group:
            _same(identity(next(iter(group.values()))), entry)
        stored = known[entry.payment_id] if known is not None else None
        if stored is not None:
            _same(stored.identity, entry)
        if stored is None or entry.entry_id not in stored.entry_ids:
            group[entry.entry_id] = entry
    summed = []
    for group in groups.values():
        if group:
            counted = [e for e in group.values() if e.kind == COUNTED_KIND]
            summed.append(
                Booking(
                    next(iter(group.values())),
                    tuple(sorted(group)),
                    sum(e.fee_minor for e in counted),
                    sum(e.net_minor for e in counted),
                )
            )
    return sorted(summed, key=lambda b: (month_of(b.payment_id), b.payment_id))


T = TypeVar("T", str, str | None)


def storable(text: T) -> T:
    """Replace NUL, which PostgreSQL can't hold in a text, by U+FFFD."""
    return text.replace("\0", "\ufffd") if text else text
