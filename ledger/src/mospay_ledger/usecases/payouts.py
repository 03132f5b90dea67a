"""Payouts: asked for by one person, decided on by another, paid, failed or returned."""

import datetime as dt
from typing import Any

import asyncpg
import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Outgoing, PayoutStatus, PayoutV1, outgoing
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_ledger.domain import Movement, TermsInvalid
from mospay_ledger.domain.settling import (
    KeyReused,
    PayoutMissing,
    StaleVersion,
    check_step,
    choose_terms,
)
from mospay_ledger.storage import payouts as storage
from mospay_ledger.storage import settlements
from mospay_ledger.usecases import posting

log = structlog.get_logger()
PAYOUTS = Counter("mospay_ledger_payouts", "Steps of payouts", ["status", "mode"])


async def create(
    tx: Tx,
    relay: Relay,
    *,
    client_id: str,
    mode: str,
    currency: str,
    amount_minor: int,
    destination: str | None,
    key: str,
    actor: str,
) -> tuple[asyncpg.Record, bool]:
    """Ask for a payout and reserve its money at once; return it, and whether it is a repeat.

    The same key with the same words is the same payout. Raises NotEnough, KeyReused, TermsInvalid
    (there is no destination).
    """
    now, named = dt.datetime.now(dt.UTC), destination
    if destination is None:
        found = await settlements.terms_for(tx, mode, client_id, currency, now)
        destination = choose_terms(found, client_id, currency).destination
    if not destination:
        raise TermsInvalid("destination", "is in neither the request nor the settlement terms")
    payout_id = new_id("po")
    row = await storage.insert(
        tx,
        payout_id=payout_id,
        client_id=client_id,
        mode=mode,
        currency=currency,
        amount_minor=amount_minor,
        destination=destination,
        key=key,
        actor=actor,
    )
    if row is None:
        before = await storage.by_key(tx, client_id, mode, key)
        assert before is not None
        same = (before["amount_minor"], before["currency"]) == (amount_minor, currency)
        if not same or named not in (None, before["destination"]):
            raise KeyReused("another payout was asked for with this key")
        return before, True
    entry, *_ = await posting.post_movements(tx, [_movement(row, "payout", now)])
    await storage.remember(
        tx, row, actor=actor, reason=None, reference=None, entry_id=entry.id, at=now
    )
    await _tell(tx, relay, row, actor)
    return row, False


async def take_step(
    tx: Tx,
    relay: Relay,
    payout_id: str,
    name: str,
    *,
    version: int,
    actor: str,
    reason: str | None = None,
    reference: str | None = None,
) -> asyncpg.Record:
    """Take one step (a key of `settling.STEPS`) and post what it means.

    Raises PayoutMissing, StaleVersion, NoSuchStep, SamePerson.
    """
    row = await storage.lock(tx, payout_id)
    if row is None:
        raise PayoutMissing(f"there is no payout {payout_id}")
    if row["version"] != version:
        raise StaleVersion(f"it is at version {row['version']} by now")
    step = check_step(name, row["status"], row["created_by"], actor)
    now = dt.datetime.now(dt.UTC)
    entry_id = None
    if step.posts is not None:
        entry, *_ = await posting.post_movements(tx, [_movement(row, step.posts, now, reason)])
        entry_id = entry.id
    after = await storage.take_step(
        tx,
        payout_id,
        step.after.value,
        decided_by=actor,
        reference=reference,
        reason=reason,
        at=now,
    )
    await storage.remember(
        tx, after, actor=actor, reason=reason, reference=reference, entry_id=entry_id, at=now
    )
    await _tell(tx, relay, after, actor)
    return after


def _movement(row: Any, kind: str, at: dt.datetime, reason: str | None = None) -> Movement:
    return Movement(
        row["id"], kind, row["client_id"], row["mode"], row["currency"], row["amount_minor"], at,
        reason,
    )  # fmt: skip


async def _tell(tx: Tx, relay: Relay, row: asyncpg.Record, actor: str) -> None:
    await relay.enqueue(tx, [_told(row)])
    status, mode = row["status"], row["mode"]
    tx.after_commit(lambda: PAYOUTS.labels(status, mode).inc())
    log.info(
        f"payout_{status}",
        payout_id=row["id"],
        client_id=row["client_id"],
        mode=mode,
        version=row["version"],
        actor=actor,
    )


def _told(row: Any) -> Outgoing:
    body = PayoutV1(
        payout_id=row["id"],
        client_id=row["client_id"],
        mode=row["mode"],
        currency=row["currency"],
        amount_minor=row["amount_minor"],
        status=PayoutStatus(row["status"]),
        destination=row["destination"],
        reference=row["reference"],
        reason=row["reason"],
        version=row["version"],
        occurred_at=row["changed_at"],
    )
    return outgoing(f"payout.{row['status']}.v1", row["id"], body, source="ledger")
