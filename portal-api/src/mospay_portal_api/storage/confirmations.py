"""SQL of what the gateway has yet to acknowledge: credentials and clients, by version."""

from collections.abc import Sequence

import asyncpg
from mospay_shared.chassis.database import Database, Tx

from mospay_portal_api.storage.directory import clients_by_id

TABLES = {"credential": "credentials", "client": "clients"}


async def unconfirmed(database: Database) -> dict[str, int]:
    """Return by kind how many the gateway has not acknowledged: asked four times a second."""
    rows = await database.fetch(
        "select 'credential' as kind, count(*) as n from credentials "
        "where confirmed_version < version "
        "union all select 'client', count(*) from clients where confirmed_version < version"
    )
    return {row["kind"]: row["n"] for row in rows}


async def claim(tx: Tx, kind: str, seconds: float, limit: int) -> list[asyncpg.Record]:
    """Return what is due to be pushed and set it aside for some seconds."""
    table = TABLES[kind]
    rows = await tx.fetch(
        f"update {table} set push_after = now() + make_interval(secs => $1) where id = any(array("
        f"select id from {table} where confirmed_version < version and push_after <= now() "
        "order by push_after limit $2 for update skip locked)) returning *",
        seconds,
        limit,
    )
    if kind == "client":
        return await clients_by_id(tx, [row["id"] for row in rows])
    return rows


async def confirm(tx: Tx, kind: str, ids: Sequence[str], versions: Sequence[int]) -> None:
    """Note what the gateway acknowledged; a version that came since is still to be pushed."""
    table = TABLES[kind]
    await tx.run(
        f"update {table} set confirmed_version = greatest({table}.confirmed_version, u.version), "
        "push_after = now() from unnest($1::text[], $2::bigint[]) as u(id, version) "
        f"where {table}.id = u.id",
        list(ids),
        list(versions),
    )
