"""Wishes about payments: cancel requests (tombstones), resolutions, epochs of this database."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.chassis.database import Tx
from mospay_shared.contracts import CancelPaymentV1, ResolvePaymentV1, ResolveRefundV1

_WISH = """
insert into cancel_requests (payment_id, client_id, mode, reason, requested_at, state,
    next_action_at)
select *, 'waiting', clock_timestamp()
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
on conflict (payment_id) do nothing"""
_WISHED = """
select payment_id, client_id, mode from cancel_requests
where payment_id = any($1) and state in ('waiting', 'unseen')"""
_CLAIM = """
update cancel_requests c set next_action_at = clock_timestamp() + make_interval(secs => $2)
where c.payment_id in (
    select payment_id from cancel_requests where state = 'waiting' and next_action_at <= now()
    order by next_action_at limit $1 for update skip locked)
returning c.payment_id, c.client_id, c.mode, c.reason, c.requested_at"""
_END = """
update cancel_requests set state = $2, next_action_at = null, ended_at = clock_timestamp()
where payment_id = any($1) and state = 'waiting'"""
_RESOLVE = """
insert into resolutions (payment_id, version, client_id, mode, outcome, evidence, proposed_by,
    approved_by, requested_at, applied)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing returning payment_id"""
_RESOLVE_REFUND = """
insert into refund_resolutions (refund_id, version, payment_id, client_id, mode, outcome, reason,
    evidence, proposed_by, approved_by, requested_at, applied)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing
returning refund_id"""
_EPOCH = """
select nullif(started_at, '-infinity') as started_at, identity from epochs
order by number desc limit 1 for update"""
_IDENTITY = """
select (select system_identifier::text from pg_control_system()) || ':'
    || (select timeline_id::text from pg_control_checkpoint()) || ':'
    || (select oid::text from pg_database where datname = current_database())"""
_NAME_EPOCH = """
update epochs set identity = $1 where number = (select max(number) from epochs)"""
_NEW_EPOCH = """
insert into epochs (started_at, reason, identity) values (clock_timestamp(), $1, $2)"""
_ASK_NOW = """
update payments set next_action_at = clock_timestamp()
where id = any($1) and status in ('unknown', 'requires_customer_action', 'processing')
    and next_action_at > clock_timestamp()"""


@dataclass(frozen=True, slots=True)
class Wish:
    """A cancel request that has found no end yet."""

    payment_id: str
    client_id: str
    mode: str
    reason: str | None
    requested_at: dt.datetime


async def wish_cancels(tx: Tx, commands: Sequence[CancelPaymentV1]) -> None:
    """Write cancel requests down, one a payment for ever."""
    await tx.run(
        _WISH,
        [c.payment_id for c in commands],
        [c.client_id for c in commands],
        [c.mode for c in commands],
        [c.reason for c in commands],
        [c.requested_at for c in commands],
    )


async def wished_cancels(tx: Tx, payment_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return which of these payments are to be cancelled, with client and mode of the wish."""
    rows = await tx.fetch(_WISHED, list(payment_ids))
    return {row["payment_id"]: (row["client_id"], row["mode"]) for row in rows}


async def claim_cancels(tx: Tx, limit: int, again_seconds: float) -> list[Wish]:
    """Claim waiting cancel requests; each is due again in so many seconds unless it ends."""
    return [Wish(**dict(row)) for row in await tx.fetch(_CLAIM, limit, again_seconds)]


async def end_cancels(tx: Tx, payment_ids: Sequence[str], state: str) -> None:
    """End cancel requests: `applied`, `too_late` or `unseen` (the tombstone stays)."""
    await tx.run(_END, list(payment_ids), state)


async def add_resolution(tx: Tx, command: ResolvePaymentV1, applied: bool) -> bool:
    """Record what two people said about a payment's version; False when it was said before."""
    return (
        await tx.value(
            _RESOLVE,
            *(command.payment_id, command.version, command.client_id, command.mode),
            *(command.outcome, command.evidence, command.proposed_by, command.approved_by),
            *(command.requested_at, applied),
        )
        is not None
    )


async def add_refund_resolution(tx: Tx, command: ResolveRefundV1, applied: bool) -> bool:
    """Record what two people said about a refund's version; False when it was said before."""
    return (
        await tx.value(
            _RESOLVE_REFUND,
            *(command.refund_id, command.version, command.payment_id, command.client_id),
            *(command.mode, command.outcome, command.reason, command.evidence),
            *(command.proposed_by, command.approved_by, command.requested_at, applied),
        )
        is not None
    )


async def epoch(tx: Tx) -> tuple[dt.datetime | None, str | None]:
    """Return when this epoch began (None for the first) and the database it began in."""
    row = await tx.row(_EPOCH)
    assert row is not None, "the migration writes the first epoch"
    return row["started_at"], row["identity"]


async def identity(tx: Tx) -> str:
    """Return what tells a restored database from its original: system, timeline, database."""
    found: str = await tx.value(_IDENTITY)
    return found


async def name_epoch(tx: Tx, identity: str) -> None:
    """Say in which database the epoch began."""
    await tx.run(_NAME_EPOCH, identity)


async def begin_epoch(tx: Tx, reason: str, identity: str) -> None:
    """Begin a new epoch: what was accepted before now is only ever asked about."""
    await tx.run(_NEW_EPOCH, reason, identity)


async def ask_now(tx: Tx, payment_ids: Sequence[str]) -> None:
    """Let the provider be asked about open payments at once."""
    await tx.run(_ASK_NOW, list(payment_ids))
