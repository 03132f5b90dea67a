"""Payouts: one row each, its life a step at a time, every step kept."""

import datetime as dt
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

_INSERT = """
insert into payouts (id, client_id, mode, currency, amount_minor, destination, status,
    idempotency_key, created_by)
values ($1, $2, $3, $4, $5, $6, 'created', $7, $8) on conflict do nothing returning *"""
_BY_KEY = """
select * from payouts where client_id = $1 and mode = $2 and idempotency_key = $3"""
_LOCK = "select * from payouts where id = $1 for update"
_STEP = """
update payouts set status = $2, version = version + 1, decided_by = coalesce(decided_by, $3),
    reference = coalesce($4, reference), reason = coalesce($5, reason), changed_at = $6
where id = $1 returning *"""
_REMEMBER = """
insert into payout_steps (payout_id, version, client_id, mode, status, actor, reason, reference,
    entry_id, at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
_ONE = """
select * from payouts where id = $1 and ($2 = '' or client_id = $2) and ($3 = '' or mode = $3)"""
_STEPS = """
select version, status, actor, reason, reference, entry_id, at from payout_steps
where payout_id = $1 order by version limit 10"""
_PAGE = """
select * from payouts
where ($1 = '' or client_id = $1) and ($2 = '' or mode = $2) and ($3 = '' or currency = $3)
    and ($4 = '' or status = $4) and ($5 = '' or id < $5) order by id desc limit $6"""


async def insert(
    tx: Tx,
    *,
    payout_id: str,
    client_id: str,
    mode: str,
    currency: str,
    amount_minor: int,
    destination: str,
    key: str,
    actor: str,
) -> asyncpg.Record | None:
    """Write a payout; None where its idempotency key is taken."""
    return await tx.row(
        _INSERT, payout_id, client_id, mode, currency, amount_minor, destination, key, actor
    )


async def by_key(tx: Tx, client_id: str, mode: str, key: str) -> asyncpg.Record | None:
    """Return the payout of an idempotency key."""
    return await tx.row(_BY_KEY, client_id, mode, key)


async def lock(tx: Tx, payout_id: str) -> asyncpg.Record | None:
    """Lock and return a payout."""
    return await tx.row(_LOCK, payout_id)


async def take_step(
    tx: Tx,
    payout_id: str,
    status: str,
    *,
    decided_by: str,
    reference: str | None,
    reason: str | None,
    at: dt.datetime,
) -> asyncpg.Record:
    """Move a locked payout on; the database refuses what is no step."""
    row = await tx.row(_STEP, payout_id, status, decided_by, reference, reason, at)
    assert row is not None
    return row


async def remember(
    tx: Tx,
    payout: Any,
    *,
    actor: str,
    reason: str | None,
    reference: str | None,
    entry_id: str | None,
    at: dt.datetime,
) -> None:
    """Keep who took a step, why, and what it posted."""
    await tx.run(
        _REMEMBER, payout["id"], payout["version"], payout["client_id"], payout["mode"],
        payout["status"], actor, reason, reference, entry_id, at,
    )  # fmt: skip


async def one(tx: Tx, payout_id: str, client_id: str, mode: str) -> asyncpg.Record | None:
    """Return a payout, or None where it is not there or not the tenant's."""
    return await tx.row(_ONE, payout_id, client_id, mode)


async def steps(tx: Tx, payout_id: str) -> list[asyncpg.Record]:
    """Return the steps a payout took, oldest first."""
    return await tx.fetch(_STEPS, payout_id)


async def page(
    tx: Tx,
    *,
    client_id: str,
    mode: str,
    currency: str,
    status: str,
    before: str,
    limit: int,
) -> list[asyncpg.Record]:
    """Return payouts, newest first, those before the id `before`; an empty filter takes all."""
    return await tx.fetch(_PAGE, client_id, mode, currency, status, before, limit)
