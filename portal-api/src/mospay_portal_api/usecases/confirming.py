"""Credentials and clients on their second way to the gateway: claimed, pushed, acknowledged."""

from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis.database import Database

from mospay_portal_api.storage import confirmations as store
from mospay_portal_api.usecases.bodies import BODIES

KINDS = tuple(store.TABLES)
PUSH_LIMIT = 100  # entities a call; the gateway takes no more


async def waiting(database: Database) -> dict[str, int]:
    """Return by kind how many the gateway has not acknowledged."""
    return await store.unconfirmed(database)


async def claim(database: Database, kind: str, retry_seconds: float) -> list[dict[str, Any]]:
    """Return what is due to be pushed as it travels; nobody else gets it for `retry_seconds`."""
    async with database.transaction() as tx:
        rows = await store.claim(tx, kind, retry_seconds, PUSH_LIMIT)
    return [BODIES[kind](row).model_dump(mode="json") for row in rows]


async def confirm(database: Database, kind: str, bodies: Sequence[dict[str, Any]]) -> None:
    """Note that the gateway acknowledged these, in the versions that were pushed."""
    ids = [str(body[f"{kind}_id"]) for body in bodies]
    async with database.transaction() as tx:
        await store.confirm(tx, kind, ids, [int(body["version"]) for body in bodies])
