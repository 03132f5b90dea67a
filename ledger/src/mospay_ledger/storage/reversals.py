"""SQL of reversals: proposed by one person, decided on once."""

import asyncpg
from mospay_shared.chassis.database import Tx

_INSERT = """
insert into reversals (id, entry_id, kind, reason, proposed_by) values ($1, $2, $3, $4, $5)
on conflict do nothing returning id"""
_LOCK = "select * from reversals where id = $1 for update"
_DECIDE = """
update reversals set state = $2, decided_by = $3, decided_at = now(), reversal_entry_id = $4
where id = $1"""
_SHOWN = """
select r.id, r.entry_id, r.kind, r.reason, r.state, r.proposed_by, r.proposed_at, r.decided_by,
    r.decided_at, r.reversal_entry_id, e.kind as entry_kind, e.client_id, e.mode, e.currency,
    e.amount_minor
from reversals r join journal_entries e on e.id = r.entry_id"""
_PAGE = f"""{_SHOWN}
where ($1 = '' or r.state = $1) and ($2 = '' or e.mode = $2) and ($3 = '' or r.entry_id = $3)
    and ($4 = '' or e.client_id = $4) and ($5 = '' or r.id < $5) order by r.id desc limit $6"""


async def insert(
    tx: Tx, reversal_id: str, *, entry_id: str, kind: str, reason: str, by: str
) -> bool:
    """Write a proposal; False where another of this entry is open."""
    return await tx.value(_INSERT, reversal_id, entry_id, kind, reason, by) is not None


async def lock(tx: Tx, reversal_id: str) -> asyncpg.Record | None:
    """Lock and return a proposal."""
    return await tx.row(_LOCK, reversal_id)


async def decide(
    tx: Tx, reversal_id: str, state: str, *, by: str, reversal_entry_id: str | None
) -> None:
    """End a locked proposal; the database refuses who approves their own."""
    await tx.run(_DECIDE, reversal_id, state, by, reversal_entry_id)


async def shown(tx: Tx, reversal_id: str) -> asyncpg.Record:
    """Return a proposal that is there, with what it would take back."""
    row = await tx.row(f"{_SHOWN} where r.id = $1", reversal_id)
    assert row is not None
    return row


async def page(
    tx: Tx, *, state: str, mode: str, entry_id: str, client_id: str, before: str, limit: int
) -> list[asyncpg.Record]:
    """Return proposals, newest first, those before the id `before`; an empty filter takes all."""
    return await tx.fetch(_PAGE, state, mode, entry_id, client_id, before, limit)
