"""SQL of address rules; a deleted one stays as a tombstone."""

import datetime as dt
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

LIST_LIMIT = 10_000  # rows of one list


async def insert(tx: Tx, values: dict[str, Any]) -> asyncpg.Record | None:
    """Write a rule; `values` has id, client_id, kind, cidr, expires_at, note, version."""
    keys = ("id", "client_id", "kind", "cidr", "expires_at", "note", "version")
    return await tx.row(
        f"insert into ip_rules ({', '.join(keys)}) values ($1, $2, $3, $4, $5, $6, $7) returning *",
        *(values[key] for key in keys),
    )


async def find(tx: Tx, ip_rule_id: str) -> asyncpg.Record | None:
    """Return a rule, also a deleted one."""
    return await tx.row("select * from ip_rules where id = $1", ip_rule_id)


async def rules(tx: Tx, client_id: str | None = None) -> list[asyncpg.Record]:
    """Return the rules this transaction may see, of all or of one client, without tombstones."""
    return await tx.fetch(
        "select * from ip_rules where not deleted and ($1::text is null or client_id = $1) "
        "order by id limit $2",
        client_id,
        LIST_LIMIT,
    )


async def count(tx: Tx, client_id: str | None) -> int:
    """Return how many rules a client has; None counts those for everybody."""
    return int(
        await tx.value(
            "select count(*) from ip_rules "
            "where not deleted and client_id is not distinct from $1::text",
            client_id,
        )
    )


async def update(
    tx: Tx,
    ip_rule_id: str,
    version: int,
    *,
    expires_at: dt.datetime | None,
    note: str | None,
    active: bool,
) -> asyncpg.Record | None:
    """Change what may change of a rule; its address never does."""
    return await tx.row(
        "update ip_rules set expires_at = $3, note = $4, active = $5, version = $2 "
        "where id = $1 returning *",
        ip_rule_id,
        version,
        expires_at,
        note,
        active,
    )
