"""The hash chain over the journal: sealing and reading it back."""

import asyncpg
from mospay_shared.chassis.database import Tx

LOCK = 7_226_010  # one sealer at a time, whoever else runs
_LAST = "select id, hash, live_entries, test_entries from blocks order by id desc limit 1"
# By what is there, never by number or time: an entry that committed late is taken late, never left
# out. An entry that is gone again (it can't be) would stay and be seen waiting.
_SEAL = """
with taken as (
    delete from unsealed_entries where ctid = any(array(
        select u.ctid from unsealed_entries u cross join lateral (
            select from journal_entries e where e.id = u.entry_id limit 1) e limit $1))
    returning entry_id),
digests as materialized (
    select e.id, e.mode, entry_digest_v1(e) as digest
    from (select distinct entry_id from taken) t join journal_entries e on e.id = t.entry_id),
sealed as (
    insert into journal_seals (block_id, entry_id, digest) select $2, id, digest from digests)
insert into blocks (id, previous_hash, hash, entries, live_entries, test_entries)
select $2, $3, sha256($3 || int8send($2) || int4send(count(*)::int)
        || string_agg(digest, ''::bytea order by id)),
    count(*), $4 + count(*) filter (where mode = 'live'),
    $5 + count(*) filter (where mode = 'test')
from digests having count(*) > 0
returning id, hash, entries"""
_HEADERS = """
select b.id, b.previous_hash, b.hash, b.entries, s.entries as found,
    sha256(b.previous_hash || int8send(b.id) || int4send(s.entries) || s.digests) as computed
from blocks b cross join lateral (
    select count(*)::int as entries, coalesce(string_agg(digest, ''::bytea order by entry_id), '')
        as digests
    from journal_seals where block_id = b.id) s
where b.id >= $1 order by b.id limit $2"""
_FIRST_BAD = """
select s.block_id, s.entry_id, e.id is null as missing
from journal_seals s left join journal_entries e on e.id = s.entry_id
where s.block_id between $1 and $2 and (e.id is null or entry_digest_v1(e) <> s.digest)
order by s.block_id, s.entry_id limit 1"""
_HASH = "select hash from blocks where id = $1"
_HEAD = "select coalesce(max(id), 0) from blocks"
_UNSEALED = "select count(*) from (select from unsealed_entries limit 100000) u"
_STRANGER = """
select e.id from journal_entries e
where not exists (select from journal_seals s where s.entry_id = e.id)
    and not exists (select from unsealed_entries u where u.entry_id = e.id) order by e.id limit 1"""


async def sealing_lock(tx: Tx) -> bool:
    """Say whether this transaction is the one that seals."""
    return bool(await tx.value("select pg_try_advisory_xact_lock($1)", LOCK))


async def seal(tx: Tx, limit: int) -> asyncpg.Record | None:
    """Put at most `limit` unsealed entries into the next block; None when there are none."""
    last = await tx.row(_LAST)
    number, previous, live, test = (
        (last["id"] + 1, last["hash"], last["live_entries"], last["test_entries"])
        if last
        else (1, b"\0" * 32, 0, 0)
    )
    return await tx.row(_SEAL, limit, number, previous, live, test)


async def headers(tx: Tx, first: int, limit: int) -> list[asyncpg.Record]:
    """Return blocks from `first` on with the hash their seals give."""
    return await tx.fetch(_HEADERS, first, limit)


async def hash_of(tx: Tx, block_id: int) -> bytes | None:
    """Return a block's hash."""
    found: bytes | None = await tx.value(_HASH, block_id)
    return found


async def head(tx: Tx) -> int:
    """Return the number of the newest block, 0 where there is none."""
    return int(await tx.value(_HEAD))


async def first_bad(tx: Tx, first: int, last: int) -> asyncpg.Record | None:
    """Return the first entry of these blocks that is not what was sealed."""
    return await tx.row(_FIRST_BAD, first, last)


async def count_unsealed(tx: Tx) -> int:
    """Return how many entries wait for their block (at most 100,000)."""
    return int(await tx.value(_UNSEALED))


async def stranger(tx: Tx) -> str | None:
    """Return an entry that came into the journal past its triggers, or None; a full scan."""
    found: str | None = await tx.value(_STRANGER)
    return found
