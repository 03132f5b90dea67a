"""Epochs: a restored database has forgotten what it sent, so what is older is only asked about."""

import datetime as dt

import structlog
from mospay_shared.chassis.database import Database, Tx

from mospay_payment_router.storage import operations

log = structlog.get_logger()


async def current_epoch(database: Database) -> dt.datetime | None:
    """Return when this epoch began, None for the first one; a restored database begins a new one.

    A restore shows by another timeline, cluster or database than the epoch began in. A copy of the
    files on the same timeline does not show: `python -m mospay_payment_router new-epoch` says it.
    """
    async with database.transaction() as tx:
        started_at, known = await operations.epoch(tx)
        here = await operations.identity(tx)
        if known is None:
            await operations.name_epoch(tx, here)
        elif known != here:
            await operations.begin_epoch(tx, f"database changed from {known} to {here}", here)
            started_at, _ = await operations.epoch(tx)
            log.warning("epoch_began", started_at=str(started_at), before=known, now=here)
    return started_at


async def new_epoch(tx: Tx, reason: str) -> None:
    """Begin a new epoch because a person restored the database."""
    await operations.epoch(tx)
    await operations.begin_epoch(tx, reason, await operations.identity(tx))
