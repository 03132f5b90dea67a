"""SQL of the live stream: rows in the order they become visible, and what was pruned of them."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

_INSERT = """
insert into stream_rows (topic, client_id, mode, payment_id, payload, event)
select 'payment', u.client_id, u.mode, u.payment_id, u.payload, u.event
from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[])
    with ordinality as u(client_id, mode, payment_id, payload, event, n) order by n"""
_AFTER = """
select id, topic, client_id, mode, payload from stream_rows where id > $1 order by id limit $2"""
_PRUNE = """
with gone as (
    delete from stream_rows where id in (
        select id from stream_rows where at < now() - make_interval(secs => $1)
        order by id limit $2)
    returning id),
marked as (
    update stream_mark set pruned_through = greatest(pruned_through, (select max(id) from gone))
    where exists (select 1 from gone))
select count(*) from gone"""
_LATEST = """
select event from stream_rows where payment_id = $1 and event is not null
order by (event ->> 'version')::bigint desc, id desc limit 1"""


async def insert(tx: Tx, rows: Sequence[tuple[str, str, str, Any, Any]]) -> None:
    """Write rows (client, mode, payment, what browsers get, whole event).

    One writer at a time: readers go by `id > last seen`, which is only safe while ids become
    visible in their order.
    """
    await tx.run("select pg_advisory_xact_lock(7226100)")
    await tx.run(_INSERT, *([row[n] for row in rows] for n in range(5)))


async def after(tx: Tx, last: int, limit: int) -> list[asyncpg.Record]:
    """Return live rows after an id, in order."""
    return await tx.fetch(_AFTER, last, limit)


async def bounds(tx: Tx) -> tuple[int, int]:
    """Return the last id that was pruned and the newest id there ever was (0 for none)."""
    row = await tx.row(
        "select pruned_through, greatest(pruned_through, "
        "(select coalesce(max(id), 0) from stream_rows)) from stream_mark"
    )
    assert row is not None
    return row[0], row[1]


async def prune(tx: Tx, kept_seconds: int, limit: int) -> int:
    """Drop at most `limit` rows past their time and remember how far; return how many."""
    return int(await tx.value(_PRUNE, float(kept_seconds), limit))


async def latest_event(tx: Tx, payment_id: str) -> dict[str, Any] | None:
    """Return the newest `payment.*` body kept of a payment, by its version."""
    found: dict[str, Any] | None = await tx.value(_LATEST, payment_id)
    return found
