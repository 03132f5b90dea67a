"""Sale events: deduped here, told to everybody by the outbox in the same statement."""

import datetime as dt
from collections.abc import Sequence

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import columns
from mospay_shared.contracts import Outgoing

_RECORD = """
with input as (
    select * from unnest($3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bool[],
                         $9::bytea[])
        as u(dedupe_hash, sale_id, id, type, subject, command, body)
), recorded as (
    insert into sale_events (client_id, mode, dedupe_hash, id, received_at)
    select $1, $2, dedupe_hash, sale_id, $10 from input order by dedupe_hash
    on conflict do nothing returning id
), sent as (
    insert into outbox (id, type, subject, command, body)
    select i.id, i.type, i.subject, i.command, i.body from input i
    join recorded r on r.id = i.sale_id order by i.id
)
select id from recorded"""
_KNOWN = """
select id from sale_events where client_id = $1 and mode = $2 and dedupe_hash = $3"""
_FORGET = """
delete from sale_events where (client_id, mode, dedupe_hash) in (
    select client_id, mode, dedupe_hash from sale_events
    where received_at < now() - $1::interval limit 5000 for update skip locked)
returning id"""


async def record(
    tx: Tx,
    client_id: str,
    mode: str,
    hashes: Sequence[bytes],
    ids: Sequence[str],
    events: Sequence[Outgoing],
    received_at: dt.datetime,
) -> set[str]:
    """Write those that are new, each with its event; return their ids. Hashes are distinct."""
    rows = await tx.fetch(
        _RECORD, client_id, mode, list(hashes), list(ids), *columns(events), received_at
    )
    return {row["id"] for row in rows}


async def known(tx: Tx, client_id: str, mode: str, dedupe_hash: bytes) -> str | None:
    """Return the id under which an event is known."""
    found: str | None = await tx.value(_KNOWN, client_id, mode, dedupe_hash)
    return found


async def forget(tx: Tx, older_than: dt.timedelta) -> int:
    """Delete what no repetition is expected of any more."""
    return len(await tx.fetch(_FORGET, older_than))
