"""What becomes of messages about refunds: which news counts, and whose payment it is about."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mospay_shared.contracts import RefundEventV1

from mospay_reporter.domain.facts import BIGINT, ForeignPayment, Identity, Unstorable, month_of


@dataclass(frozen=True, slots=True)
class KnownRefund:
    """What is stored of a refund."""

    identity: Identity
    payment_id: str
    newness: tuple[int, dt.datetime, str]


def newness(event: RefundEventV1) -> tuple[int, dt.datetime, str]:
    """Order news of one refund: by version; the rest makes a tie end the same way every time."""
    return event.version, event.occurred_at, event.status.value


def identity(event: RefundEventV1) -> Identity:
    """Return whose refund a message speaks of."""
    return event.client_id, event.mode, event.currency


def newest(events: Iterable[RefundEventV1]) -> list[RefundEventV1]:
    """Return the newest event of each refund, by id; raises Unstorable and ForeignPayment."""
    found: dict[str, RefundEventV1] = {}
    for event in events:
        if any(at.tzinfo is None for at in (event.requested_at, event.occurred_at)):
            raise Unstorable("requested_at and occurred_at need a time zone")
        if event.version >= BIGINT:
            raise Unstorable("version is beyond 64 bits")
        known = found.get(event.refund_id)
        if known is not None:
            _same(KnownRefund(identity(known), known.payment_id, newness(known)), event)
        if known is None or newness(known) < newness(event):
            found[event.refund_id] = event
    return [found[refund_id] for refund_id in sorted(found)]


def news(events: Sequence[RefundEventV1], known: dict[str, KnownRefund]) -> list[RefundEventV1]:
    """Return the events that tell more than what is stored; raises ForeignPayment."""
    fresh = []
    for event in events:
        stored = known.get(event.refund_id)
        if stored is not None:
            _same(stored, event)
        if stored is None or stored.newness < newness(event):
            fresh.append(event)
    return fresh


def by_payment(events: Iterable[RefundEventV1]) -> list[RefundEventV1]:
    """Return one event for each payment, in the order in which payments are locked."""
    one = {event.payment_id: event for event in events}
    return sorted(one.values(), key=lambda e: (month_of(e.payment_id), e.payment_id))


def _same(stored: KnownRefund, event: RefundEventV1) -> None:
    if (stored.identity, stored.payment_id) != (identity(event), event.payment_id):
        raise ForeignPayment(f"{event.refund_id} has another payment, client, mode or currency")
