"""Statements in the database: chunks as they came, lines kept aside, lines that are in.

Whoever works on an import holds its lease; every write asks for it again, in its transaction.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain.statements import Fault, StatementLine

WHOLE_FILE_SECONDS = 120.0  # of the few statements that look at all lines of a file
_OPEN = """
insert into statement_imports (id, microservice, mode, file_name, mapping, mapping_version, preset,
    state, review, covers_from, covers_until, uploaded_by, lease_until)
values ($1, $2, $3, $4, $5, $6, $7, 'uploading', $8, $9, $10, $11, now() + $12 * interval '1 s')"""
_ADD_CHUNK = """
with held as (
    update statement_imports set chunks = chunks + 1, size_bytes = size_bytes + $4,
        lease_until = now() + $5 * interval '1 s'
    where id = $1 and state = 'uploading' and chunks = $2 returning id)
insert into statement_chunks (import_id, number, body) select id, $2, $3 from held returning 1"""
_SAME_FILE = """
select id from statement_imports where microservice = $1 and mode = $2 and file_sha256 = $3
    and state not in ('uploading', 'discarded', 'cancelled', 'failed')"""
_RECEIVED = """
update statement_imports set state = 'parsing', file_sha256 = $2, lease_until = '-infinity'
where id = $1 and state = 'uploading' returning id"""
_CLAIM = """
update statement_imports set lease_by = $1, lease_until = now() + $2 * interval '1 s'
where id = (
    select id from statement_imports
    where lease_until < now() and (state in ('uploading', 'parsing', 'accepting')
        or (not cleaned and state in ('discarded', 'cancelled', 'failed')))
    order by created_at, id for update skip locked limit 1)
returning *"""
_HOLD = """
update statement_imports set lease_until = now() + $3 * interval '1 s'
where id = $1 and lease_by = $2 and state = any($4::text[]) returning *"""
_RELEASE = """
update statement_imports set lease_until = '-infinity' where id = $1 and lease_by = $2"""
_PARSED = """
update statement_imports set next_chunk = $3 + 1, bytes_done = bytes_done + $4, carry = $5,
    parse_state = $6, lines_good = lines_good + $7, lines_bad = lines_bad + $8,
    lines_skipped = lines_skipped + $9, lease_until = now() + $10 * interval '1 s'
where id = $1 and lease_by = $2 and state = 'parsing' and next_chunk = $3
returning lines_bad"""
_OCCURRENCES = """
update statement_staged s set occurrence = d.n
from (select line_no, row_number() over (partition by fingerprint order by line_no) as n
      from statement_staged where import_id = $1) d
where s.import_id = $1 and s.line_no = d.line_no and d.n > 1"""
_COVERAGE = """
insert into statement_coverage (import_id, microservice, mode, currency, kinds, covers_from,
    covers_until)
select i.id, i.microservice, i.mode, s.currency, $2::text[],
    coalesce(i.covers_from, min(s.occurred_at)), coalesce(i.covers_until, max(s.occurred_at))
from statement_staged s join statement_imports i on i.id = s.import_id
where s.import_id = $1 group by i.id, s.currency
on conflict do nothing"""
# By fingerprint: two files that share lines then wait for each other in one order alone.
_ACCEPT = """
with part as (
    select max(line_no) as last from (select line_no from statement_staged
        where import_id = $1 order by line_no limit $2) p),
moved as (
    delete from statement_staged s
    where s.import_id = $1 and s.line_no <= (select last from part) returning s.*),
fresh as (
    insert into statement_lines (import_id, line_no, microservice, mode, fingerprint, occurrence,
        kind, reference, our_reference, amount_minor, currency, fee_minor, occurred_at, state)
    select import_id, line_no, $3, $4, fingerprint, occurrence, kind, reference, our_reference,
        amount_minor, currency, fee_minor, occurred_at,
        case when kind in ('payment', 'refund') then 'open' else 'noted' end
    from moved order by fingerprint, occurrence
    on conflict do nothing returning 1)
select (select count(*) from moved) as moved, (select count(*) from fresh) as fresh"""
_ACCEPTED = """
update statement_imports set lines_accepted = lines_accepted + $2,
    lines_repeated = lines_repeated + $3, state = case when $4 then 'matching' else state end
where id = $1"""
_WANT = """
insert into reconciliation_streams (microservice, mode) values ($1, $2)
on conflict (microservice, mode) do update set asked = reconciliation_streams.asked + 1"""
_DECIDE = """
update statement_imports set state = $3, decided_by = $4,
    fault = case when $3 = 'accepting' then fault else coalesce(fault, $3) end,
    finished_at = case when $3 = 'accepting' then null else now() end,
    lease_until = '-infinity'
where id = $1 and state = any($2::text[]) returning id"""
_DROP_STAGED = """
delete from statement_staged where ctid = any(array(
    select ctid from statement_staged where import_id = $1 limit $2))"""
_FAULTS = """
insert into statement_faults (import_id, line_no, column_name, code, message)
select $1, * from unnest($2::bigint[], $3::text[], $4::text[], $5::text[])
on conflict do nothing"""
LINE_COLUMNS = (
    "import_id", "line_no", "fingerprint", "kind", "reference", "our_reference", "amount_minor",
    "currency", "fee_minor", "occurred_at",
)  # fmt: skip


async def open_import(
    tx: Tx,
    *,
    import_id: str,
    microservice: str,
    mode: str,
    file_name: str,
    mapping: dict[str, Any],
    mapping_version: int | None,
    preset: str | None,
    review: bool,
    covers: tuple[dt.datetime | None, dt.datetime | None],
    by: str,
    lease_seconds: float,
) -> None:
    """Open an import that chunks can be added to."""
    await tx.run(
        _OPEN, import_id, microservice, mode, file_name, mapping, mapping_version, preset, review,
        covers[0], covers[1], by, lease_seconds,
    )  # fmt: skip


async def add_chunk(tx: Tx, import_id: str, number: int, body: bytes, lease_seconds: float) -> bool:
    """Add the next chunk; False when the import is not being uploaded any more."""
    return bool(await tx.value(_ADD_CHUNK, import_id, number, body, len(body), lease_seconds))


async def received(tx: Tx, import_id: str, digest: bytes) -> bool:
    """Let the parser have an import; False when it is not being uploaded any more.

    Raises asyncpg.UniqueViolationError when the same file is in, or on its way.
    """
    return await tx.value(_RECEIVED, import_id, digest) is not None


async def same_file(tx: Tx, microservice: str, mode: str, digest: bytes) -> str | None:
    """Return the import of a file that is in, or on its way."""
    found: str | None = await tx.value(_SAME_FILE, microservice, mode, digest)
    return found


async def claim(tx: Tx, token: str, lease_seconds: float) -> asyncpg.Record | None:
    """Take the oldest import that has work and nobody at it."""
    return await tx.row(_CLAIM, token, lease_seconds)


async def hold(
    tx: Tx, import_id: str, token: str, lease_seconds: float, *states: str
) -> asyncpg.Record | None:
    """Renew a lease and lock the import; None when it is another's, or no longer in `states`."""
    return await tx.row(_HOLD, import_id, token, lease_seconds, list(states))


async def release(tx: Tx, import_id: str, token: str) -> None:
    """Let somebody else have an import at once."""
    await tx.run(_RELEASE, import_id, token)


async def chunk(tx: Tx, import_id: str, number: int) -> bytes | None:
    """Return a chunk as it came."""
    found: bytes | None = await tx.value(
        "select body from statement_chunks where import_id = $1 and number = $2",
        import_id,
        number,
    )
    return found


async def note_parsed(
    tx: Tx,
    import_id: str,
    token: str,
    number: int,
    *,
    size: int,
    carry: bytes,
    state: dict[str, Any],
    good: int,
    bad: int,
    skipped: int,
    lease_seconds: float,
) -> int | None:
    """Note that a chunk was parsed; None when it was, or may not be, by this worker.

    Returns how many lines of the file were bad so far.
    """
    found: int | None = await tx.value(
        _PARSED, import_id, token, number, size, carry, state, good, bad, skipped, lease_seconds
    )
    return found


async def stage(tx: Tx, import_id: str, lines: Sequence[StatementLine]) -> None:
    """Keep lines aside, by COPY."""
    await tx.connection.copy_records_to_table(
        "statement_staged",
        columns=LINE_COLUMNS,
        records=[
            (
                import_id, s.line_no, s.fingerprint, s.kind, s.reference, s.our_reference,
                s.amount_minor, s.currency, s.fee_minor, s.occurred_at,
            )
            for s in lines
        ],
    )  # fmt: skip


async def add_faults(tx: Tx, import_id: str, faults: Sequence[Fault]) -> None:
    """Write down faults."""
    await tx.run(
        _FAULTS,
        import_id,
        [f.line_no for f in faults],
        [f.column for f in faults],
        [f.code for f in faults],
        [f.message for f in faults],
    )


async def count_occurrences(tx: Tx, import_id: str) -> None:
    """Number equal lines of one file, so that the second is not taken for the first."""
    # A join of what no statistics know yet: line by line it would take for ever.
    await tx.run("select set_config('enable_nestloop', 'off', true)")
    await tx.connection.execute(_OCCURRENCES, import_id, timeout=WHOLE_FILE_SECONDS)
    await tx.run("select set_config('enable_nestloop', 'on', true)")


async def cover(tx: Tx, import_id: str, kinds: Sequence[str]) -> None:
    """Note which period of which currency a file covers."""
    await tx.connection.execute(_COVERAGE, import_id, list(kinds), timeout=WHOLE_FILE_SECONDS)


async def drop_chunks(tx: Tx, import_id: str) -> None:
    """Forget the file as it came."""
    await tx.connection.execute(
        "delete from statement_chunks where import_id = $1", import_id, timeout=WHOLE_FILE_SECONDS
    )


async def accept(
    tx: Tx, import_id: str, microservice: str, mode: str, limit: int
) -> tuple[int, int, bool]:
    """Take in the next lines kept aside: how many, how many of them new, and whether that is all.

    When it is, the matcher is told.
    """
    row = await tx.row(_ACCEPT, import_id, limit, microservice, mode)
    assert row is not None
    moved, fresh = int(row["moved"]), int(row["fresh"])
    done = moved < limit
    await tx.run(_ACCEPTED, import_id, fresh, moved - fresh, done)
    if done:
        await tx.run(_WANT, microservice, mode)
    return moved, fresh, done


async def move_on(
    tx: Tx, import_id: str, state: str, *, fault: str | None = None, ended: bool = False
) -> None:
    """Set an import's state; its lease is held."""
    await tx.run(
        """update statement_imports set state = $2, fault = coalesce($3, fault),
            finished_at = case when $4 then now() end where id = $1""",
        import_id,
        state,
        fault,
        ended,
    )


async def decide(tx: Tx, import_id: str, to: str, by: str) -> bool:
    """Accept, discard or cancel by a person; False when its state does not allow that.

    What is being parsed can only be cancelled; what is staged be accepted or discarded.
    """
    states = {"cancelled": ("uploading", "parsing", "staged")}.get(to, ("staged",))
    return await tx.value(_DECIDE, import_id, list(states), to, by) is not None


async def drop_staged(tx: Tx, import_id: str, limit: int) -> int:
    """Forget lines kept aside, at most `limit`; return how many."""
    return int((await tx.run(_DROP_STAGED, import_id, limit)).rpartition(" ")[2])


async def cleaned(tx: Tx, import_id: str) -> None:
    """Note that nothing of an import that did not go in is left."""
    await tx.run(
        "update statement_imports set cleaned = true, told = true where id = $1", import_id
    )


async def lock_mappings(tx: Tx, microservice: str) -> None:
    """Let nobody else add a version to a microservice's mapping until the transaction ends."""
    await tx.run(
        "select pg_advisory_xact_lock(hashtextextended('statement_mappings:' || $1, 0))",
        microservice,
    )


async def add_mapping(
    tx: Tx, microservice: str, mapping: dict[str, Any], by: str
) -> asyncpg.Record:
    """Add the next version of a microservice's mapping."""
    row = await tx.row(
        """insert into statement_mappings (microservice, version, mapping, created_by)
        select $1, coalesce(max(version), 0) + 1, $2, $3 from statement_mappings
        where microservice = $1 returning *""",
        microservice,
        mapping,
        by,
    )
    assert row is not None
    return row


async def mapping(tx: Tx, microservice: str, version: int | None) -> asyncpg.Record | None:
    """Return a version of a mapping, the newest when `version` is None."""
    return await tx.row(
        """select * from statement_mappings where microservice = $1
            and ($2::int is null or version = $2) order by version desc limit 1""",
        microservice,
        version,
    )


async def mappings(
    tx: Tx, microservice: str, after: tuple[str, int], limit: int
) -> list[asyncpg.Record]:
    """Return mappings in microservice and version order, those past `after`."""
    return await tx.fetch(
        """select * from statement_mappings where ($1 = '' or microservice = $1)
            and (microservice, version) > ($2, $3) order by microservice, version limit $4""",
        microservice,
        *after,
        limit,
    )


_SHOWN = """
select id, microservice, mode, file_name, encode(file_sha256, 'hex') as file_sha256, size_bytes,
    bytes_done, mapping_version, preset, state, review, covers_from, covers_until, lines_good,
    lines_bad, lines_skipped, lines_accepted, lines_repeated, fault, uploaded_by, decided_by,
    created_at, finished_at
from statement_imports"""


async def shown(tx: Tx, import_id: str) -> asyncpg.Record | None:
    """Return an import as people see it, or None."""
    return await tx.row(f"{_SHOWN} where id = $1", import_id)


async def page(
    tx: Tx, *, microservice: str, mode: str, state: str, before: str, limit: int
) -> list[asyncpg.Record]:
    """Return imports, newest first, below the id `before`; an empty filter takes all."""
    return await tx.fetch(
        f"""{_SHOWN} where ($1 = '' or microservice = $1) and ($2 = '' or mode = $2)
            and ($3 = '' or state = $3) and ($4 = '' or id < $4) order by id desc limit $5""",
        microservice,
        mode,
        state,
        before,
        limit,
    )


async def faults(
    tx: Tx, import_id: str, after: tuple[int, str], limit: int
) -> list[asyncpg.Record]:
    """Return an import's faults by line and column, those past `after`."""
    return await tx.fetch(
        """select line_no, column_name, code, message from statement_faults
        where import_id = $1 and (line_no, column_name) > ($2, $3)
        order by line_no, column_name limit $4""",
        import_id,
        *after,
        limit,
    )


async def lines(
    tx: Tx, import_id: str, *, state: str, after: int, limit: int
) -> list[asyncpg.Record]:
    """Return an import's lines that are in, by number; those kept aside while state is staged."""
    columns = """line_no, kind, reference, our_reference, amount_minor, currency, fee_minor,
        occurred_at"""
    if state == "staged":
        return await tx.fetch(
            f"""select {columns}, 'staged' as state, null as entry_id, null as matched_by
            from statement_staged where import_id = $1 and line_no > $2
            order by line_no limit $3""",
            import_id,
            after,
            limit,
        )
    return await tx.fetch(
        f"""select {columns}, state, entry_id, matched_by from statement_lines
        where import_id = $1 and line_no > $2 and ($3 = '' or state = $3)
        order by line_no limit $4""",
        import_id,
        after,
        state,
        limit,
    )
