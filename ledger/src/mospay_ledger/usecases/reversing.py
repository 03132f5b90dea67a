"""Taking an entry back: one person proposes it, another approves it, and it posts then."""

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.ids import new_id

from mospay_ledger.domain import AlreadyProposed, ReversalMissing
from mospay_ledger.domain.reconciliation import NotNow, SecondPersonNeeded
from mospay_ledger.storage import reversals
from mospay_ledger.usecases import posting

log = structlog.get_logger()


async def propose(tx: Tx, entry_id: str, kind: str, reason: str, by: str) -> str:
    """Keep what a person wants taken back, and why; return the proposal's id. Nothing is posted.

    Raises EntryMissing, NotReversible, AlreadyReversed, AlreadyProposed.
    """
    await posting.reversible(tx, entry_id, keep_fee=kind == "chargeback")
    reversal_id = new_id("rev")
    if not await reversals.insert(
        tx, reversal_id, entry_id=entry_id, kind=kind, reason=reason, by=by
    ):
        raise AlreadyProposed(f"a reversal of {entry_id} is open; decide on that first")
    log.info("reversal_proposed", reversal_id=reversal_id, entry_id=entry_id, by=by)
    return reversal_id


async def decide(tx: Tx, relay: Relay, reversal_id: str, by: str, *, approve: bool) -> None:
    """Approve what another person proposed and post it, or reject it (one's own as well).

    Raises ReversalMissing, NotNow, SecondPersonNeeded and, approving, what `posting.reverse` does:
    the proposal stays open then.
    """
    row = await reversals.lock(tx, reversal_id)
    if row is None:
        raise ReversalMissing(f"there is no reversal {reversal_id}")
    if row["state"] != "open":
        raise NotNow(f"the reversal is {row['state']}")
    if not approve:
        await reversals.decide(tx, reversal_id, "rejected", by=by, reversal_entry_id=None)
        return
    if row["proposed_by"] == by:
        raise SecondPersonNeeded("who approves must be another than who proposed")
    entry = await posting.reverse(
        tx,
        relay,
        row["entry_id"],
        keep_fee=row["kind"] == "chargeback",
        reason=row["reason"],
        by=(row["proposed_by"], by),
    )
    await reversals.decide(tx, reversal_id, "approved", by=by, reversal_entry_id=entry.id)
