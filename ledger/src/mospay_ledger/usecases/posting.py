"""Posting: money events into entries, one transaction over a sequence of them."""

import asyncio
import datetime as dt
from collections import Counter as Tally
from collections.abc import Sequence

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.inbox import Permanent
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import (
    Event,
    LedgerEntryPostedV1,
    Outgoing,
    PaymentEventV1,
    PostingV1,
    RefundEventV1,
    outgoing,
)
from prometheus_client import Counter

from mospay_ledger import domain
from mospay_ledger.domain import (
    Account,
    Books,
    ClientBooks,
    Entry,
    EntryMissing,
    Facts,
    FeePlan,
    FeePlanMissing,
    LedgerError,
    MoneyEvent,
    Movement,
    VoidEffect,
)
from mospay_ledger.storage import chain, plans, posting, reads

log = structlog.get_logger()
POSTED = Counter("mospay_ledger_entries_posted", "Journal entries written", ["kind", "mode"])
REFUND_EFFECTS = ("reserved", "released", "refund")
# Proven money in the wrong place: a person has to look. The value is what the log says.
ALERTS = {"second_capture": "second_capture", "over_refund": "over_refund"}


async def post_events(tx: Tx, relay: Relay, events: Sequence[Event[MoneyEvent]]) -> list[Entry]:
    """Book payments and refunds, each effect once, and tell of the new entries.

    Raises Permanent for what can't be booked by trying again, FeePlanMissing for what can.
    """
    try:
        entries = await _book(tx, relay, events)
    except FeePlanMissing:
        raise
    except LedgerError as error:
        raise Permanent(str(error)) from error
    tx.after_commit(lambda: _count(entries))
    return entries


async def _book(tx: Tx, relay: Relay, events: Sequence[Event[MoneyEvent]]) -> list[Entry]:
    for event in events:
        domain.check_postable(event.envelope.type, event.data)
    chosen = await _fee_plans(tx, events)
    # Locks come before the look at what is booked: whoever books for one of these clients holds
    # its pending account, so what is seen below stays true until the commit.
    locked_at = await posting.open_and_lock(
        tx,
        [
            account
            for event, plan in zip(events, chosen, strict=True)
            for account in domain.accounts_of(event.data, plan)
        ],
    )
    facts, seen_at = await _facts(tx, events)
    books = Books(facts)
    entries: list[Entry] = []
    causes: list[Event[MoneyEvent]] = []
    voids: list[VoidEffect] = []
    posted_at = max(dt.datetime.now(dt.UTC), locked_at, seen_at)
    for event, plan in zip(events, chosen, strict=True):
        outcome = (
            books.payment(event.data, plan)
            if isinstance(event.data, PaymentEventV1)
            else books.refund(event.data)
        )
        if isinstance(outcome, VoidEffect):
            voids.append(outcome)
        elif outcome is not None:
            entries.append(outcome)
            causes.append(event)
    if voids:
        await posting.write_voids(tx, voids)
    if entries:
        # The news are put into words while the database writes; the locks are held that much less.
        _, told = await asyncio.gather(
            _write(tx, entries, posted_at), _news(entries, causes, posted_at)
        )
        await relay.enqueue(tx, told)
    return entries


async def _news(
    entries: Sequence[Entry], causes: Sequence[Event[MoneyEvent]], posted_at: dt.datetime
) -> list[Outgoing]:
    return [_told(e, posted_at, cause) for e, cause in zip(entries, causes, strict=True)]


async def _fee_plans(tx: Tx, events: Sequence[Event[MoneyEvent]]) -> list[FeePlan | None]:
    payments = [e.data for e in events if isinstance(e.data, PaymentEventV1)]
    if not payments:
        return [None] * len(events)
    found = await plans.fee_plans(tx, {p.client_id for p in payments})
    return [found.choose(e.data) if isinstance(e.data, PaymentEventV1) else None for e in events]


async def _facts(tx: Tx, events: Sequence[Event[MoneyEvent]]) -> tuple[Facts, dt.datetime]:
    """Read what is booked about these events; the locks are held."""
    bodies = [event.data for event in events]
    payments = [body for body in bodies if isinstance(body, PaymentEventV1)]
    refunds = [body for body in bodies if isinstance(body, RefundEventV1)]
    subjects = sorted({body.payment_id for body in bodies})
    facts, seen_at = await posting.read_facts(
        tx,
        accounts=sorted({a.id for body in bodies for a in domain.possible_accounts(body)}),
        effects=[domain.capture_key(body) for body in payments],
        payments=subjects,
    )
    if refunds:
        await posting.read_refunds(
            tx,
            facts,
            refunds=sorted({body.refund_id for body in refunds}),
            effects=[
                domain.refund_key(body.refund_id, what)
                for body in refunds
                for what in REFUND_EFFECTS
            ],
            payments=subjects,
        )
    return facts, seen_at


async def _write(tx: Tx, entries: Sequence[Entry], posted_at: dt.datetime) -> None:
    """Open what a client has no account for yet and write; its `pending` is held already."""
    touched = {side.account for entry in entries for side in entry.postings}
    missing = [a for a in touched if a.kind in domain.CLIENT_KINDS and a.kind != "pending"]
    if missing:
        await posting.open_accounts(tx, missing)
    for entry in entries:
        assert domain.is_balanced(entry.postings), entry.id
        if entry.kind in ALERTS:
            log.error(
                ALERTS[entry.kind],
                payment_id=entry.payment_id,
                refund_id=entry.refund_id,
                entry_id=entry.id,
            )
    await posting.write_entries(tx, entries, posted_at)


async def post_movements(tx: Tx, movements: Sequence[Movement]) -> list[Entry]:
    """Book settlements and payouts, each once; raises NotEnough, nothing is written then."""
    books_of = [ClientBooks(m.client_id, m.currency, m.mode) for m in movements]
    shared = [account for m in movements for account in m.shared_accounts]
    locked_at = await posting.open_and_lock(
        tx, [*(b.account("pending") for b in books_of), *shared]
    )
    facts, seen_at = await posting.read_facts(
        tx,
        accounts=sorted({b.account(k).id for b in books_of for k in domain.CLIENT_KINDS}),
        effects=[m.effect_key for m in movements],
        payments=[],
    )
    books = Books(facts)
    entries = [entry for m in movements if (entry := books.move(m)) is not None]
    if entries:
        await _write(tx, entries, max(dt.datetime.now(dt.UTC), locked_at, seen_at))
        tx.after_commit(lambda: _count(entries))
    return entries


async def post_entries(tx: Tx, entries: Sequence[Entry]) -> list[Entry]:
    """Book entries between a provider and the operator, each effect once; return the new ones.

    None may touch a client's account: whether one may is decided under its lock, elsewhere.
    """
    accounts = {side.account for entry in entries for side in entry.postings}
    assert not any(account.client_id for account in accounts)
    locked_at = await posting.open_and_lock(tx, list(accounts))
    facts, seen_at = await posting.read_facts(
        tx,
        accounts=sorted(account.id for account in accounts),
        effects=[entry.effect_key for entry in entries],
        payments=[],
    )
    fresh = [entry for entry in entries if entry.effect_key not in facts.effects]
    if fresh:
        await _write(tx, fresh, max(dt.datetime.now(dt.UTC), locked_at, seen_at))
        tx.after_commit(lambda: _count(fresh))
    return fresh


async def reversible(tx: Tx, entry_id: str, *, keep_fee: bool) -> Entry:
    """Return an entry that may be taken back, as far as can be told before the locks.

    Raises EntryMissing, AlreadyReversed, NotReversible.
    """
    found = await reads.entry(tx, entry_id)
    if found is None:
        raise EntryMissing(f"there is no entry {entry_id}")
    if found["reversed_by"] is not None:
        raise domain.AlreadyReversed(f"by {found['reversed_by']}")
    original = reads.rebuilt(found)
    domain.check_reversible(original, keep_fee=keep_fee)
    return original


async def reverse(
    tx: Tx, relay: Relay, entry_id: str, *, keep_fee: bool, reason: str, by: tuple[str, str]
) -> Entry:
    """Take an entry back by an entry of its own, once; `by` are the two people who say so.

    Raises EntryMissing, NotReversible, AlreadyReversed, NotEnough.
    """
    original = await reversible(tx, entry_id, keep_fee=keep_fee)
    books = ClientBooks(original.client_id, original.currency, original.mode)
    shared = [s.account for s in original.postings if s.account.client_id is None]
    locked_at = await posting.open_and_lock(
        tx,
        [books.account("pending"), domain.refunds(original.currency, original.mode), *shared],
    )
    facts, seen_at = await posting.read_facts(
        tx,
        accounts=[books.account(kind).id for kind in domain.CLIENT_KINDS],
        effects=[f"{entry_id}:reversed"],
        payments=[original.payment_id or ""],
    )
    if facts.effects:  # by whom the lock was waited for
        raise domain.AlreadyReversed("by another call, just now")
    await posting.read_due(tx, facts, [original.payment_id or ""])
    now = dt.datetime.now(dt.UTC)
    said = f"{reason} ({by[0]}, approved by {by[1]})"
    entry = Books(facts).reverse(original, keep_fee=keep_fee, reason=said, at=now)
    posted_at = max(now, locked_at, seen_at)
    await _write(tx, [entry], posted_at)
    if entry.payment_id is not None:
        await relay.enqueue(tx, [_told(entry, posted_at)])
    log.warning(entry.kind, entry_id=entry.id, reverses=entry_id, by=by[0], approved_by=by[1])
    tx.after_commit(lambda: _count([entry]))
    return entry


async def check_books(tx: Tx) -> tuple[int, int, int]:
    """Return recent entries off balance, accounts adrift (0 and 0), entries not sealed yet."""
    return (
        await reads.count_unbalanced(tx),
        await reads.count_adrift(tx),
        await chain.count_unsealed(tx),
    )


def _count(entries: Sequence[Entry]) -> None:
    for (kind, mode), count in Tally((e.kind, e.mode) for e in entries).items():
        POSTED.labels(kind, mode).inc(count)


def _client_side(account: Account) -> bool:
    return account.client_id is not None and account.kind != "refund_due"


def _told(entry: Entry, posted_at: dt.datetime, event: Event[MoneyEvent] | None = None) -> Outgoing:
    """Return the news of an entry: the fee it took, what the client has more (or less) now."""
    net = -sum(side.amount_minor for side in entry.postings if _client_side(side.account))
    if entry.kind == "second_capture":
        net = entry.amount_minor  # owed back to the payer
    body = LedgerEntryPostedV1(
        entry_id=entry.id,
        kind=entry.kind,
        payment_id=entry.payment_id or "",
        attempt_id=entry.attempt_id,
        client_id=entry.client_id,
        mode=entry.mode,
        currency=entry.currency,
        amount_minor=entry.amount_minor,
        fee_minor=entry.fee_minor,
        net_minor=net,
        postings=[
            PostingV1(account=p.account.id, amount_minor=p.amount_minor) for p in entry.postings
        ],
        posted_at=posted_at,
    )
    return outgoing(
        "ledger.entry_posted.v1",
        body.payment_id,
        body,
        source="ledger",
        causation_id=event.id if event else None,
        correlation_id=event.envelope.correlation_id if event else None,
        traceparent=event.envelope.traceparent if event else None,
    )
