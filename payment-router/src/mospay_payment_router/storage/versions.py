"""Versions of provider functions: their rows, their bodies in schema fx, options of mappings."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.errors import SourceRefused
from mospay_payment_router.domain.functions import Key
from mospay_payment_router.domain.sources import Source
from mospay_payment_router.domain.versions import Version, kind_of, stems
from mospay_payment_router.storage.functions import Mapping, mapping_of

# What PostgreSQL may say of a body: syntax, names, types, values, limits; all else is ours.
_FAULTS_OF_A_BODY = ("42", "22", "0A", "2F", "39", "54")
_MAPPING = """
select app_id, microservice, service, route, client_id, mode, service_id, call_name, response_name,
    enquiry_name, enquiry_response_name, version, refused, final_on_2xx, failed_statuses
from provider_functions"""
_PAGE = f"""
{_MAPPING}
where ($1::text is null or client_id = $1) and ($2::text is null or mode = $2)
    and ($3::text is null or service_id = $3)
    and ($4::text is null or position(lower($4) in lower(call_name)) > 0)
    and ($5::text is null or (app_id, microservice, service, route) > ($5, $6, $7, $8))
order by app_id, microservice, service, route limit $9"""
_BY_NAME = f"{_MAPPING} where call_name = any($1) order by app_id, microservice, service, route"
_BY_KEY = f"""
{_MAPPING} where app_id = $1 and microservice = $2 and service = $3 and route = $4"""
_SIBLING = f"""
{_MAPPING} where client_id = $1 and microservice = $2 and service = $3 and route = $4
    and mode <> $5 and refused is null order by app_id limit 2"""
_SHOWN = """
name, version, kind, state, origin, author, note, reads_secrets, created_at, passed_at,
tested_at, live_at, retired_at, previous"""
_IN_USE = f"""
select {_SHOWN} from function_versions
where name = any($1) and state <> 'retired' order by name, version"""
_VERSIONS = f"select {_SHOWN} from function_versions where name = $1 order by version desc"
_ONE = """
select name, version, call_name, state, origin, passed_at is not null as passed, reads_secrets,
    previous, act from function_versions"""
_FIND = f"{_ONE} where name = $1 and version = $2"
_LIVE = f"{_ONE} where name = $1 and state = 'live'"
_LOCK = f"{_ONE} where name = any($1) order by name, version for update"
_SOURCE = "select source from function_versions where name = $1 and version = $2"
_DEFINITION = """
select pg_get_functiondef(p.oid) from pg_proc p
where p.pronamespace = 'fx'::regnamespace and p.proname = $1 order by p.pronargs limit 1"""
_PRESENT = """
select distinct p.proname::text as name from pg_proc p
where p.pronamespace = 'fx'::regnamespace and p.proname = any($1::text[]::name[])"""
_INSERT = """
insert into function_versions (name, version, state, origin, call_name, kind, client_id, mode,
    source, author, note, reads_secrets)
values ($1, $2, 'draft', $3, $4, $5, $6, $7, $8, $9, $10, $11)"""
_INSTALL = "select fx.install_version($1, $2, $3, $4, $5, $6)"
_PASSED = """
update function_versions set passed_at = clock_timestamp(), changed_at = clock_timestamp()
where name = $1 and version = $2"""
_TESTED = """
update function_versions set state = 'tested', tested_at = clock_timestamp(),
    changed_at = clock_timestamp()
where name = $1 and version = $2 and state = 'draft'"""
_RETIRE = """
update function_versions set state = 'retired', retired_at = clock_timestamp(),
    changed_at = clock_timestamp()
where name = $1 and state = 'live'"""
_GO_LIVE = """
update function_versions set state = 'live', live_at = clock_timestamp(), retired_at = null,
    previous = coalesce($3, previous), act = coalesce($4, act), changed_at = clock_timestamp()
where name = $1 and version = $2"""
_READS = """
update function_versions set reads_secrets = $3, changed_at = clock_timestamp()
where name = $1 and version = $2"""
_OPTIONS = """
update provider_functions set final_on_2xx = $5, failed_statuses = $6, changed_by = $7,
    version = version + 1, changed_at = clock_timestamp()
where app_id = $1 and microservice = $2 and service = $3 and route = $4 and version = $8
returning version"""


async def page(
    tx: Tx, filters: Sequence[str | None], after: Sequence[str] | None, limit: int
) -> list[Mapping]:
    """Return mappings by key; `filters` are client, mode, service and a part of the name."""
    start = after or (None, None, None, None)
    return [mapping_of(row) for row in await tx.fetch(_PAGE, *filters, *start, limit)]


async def mapping_by_name(tx: Tx, name: str) -> Mapping | None:
    """Return a mapping that a function belongs to."""
    for row in await tx.fetch(_BY_NAME, stems(name)):
        mapping = mapping_of(row)
        if mapping.refused is None and kind_of(mapping.pair, name) is not None:
            return mapping
    return None


async def mapping_by_key(tx: Tx, key: Key) -> Mapping | None:
    """Return the mapping of a key."""
    row = await tx.row(_BY_KEY, key.app_id, key.microservice, key.service, key.route)
    return None if row is None else mapping_of(row)


async def siblings(tx: Tx, mapping: Mapping) -> list[Mapping]:
    """Return the mappings of the same client, service and route in the other mode."""
    key = mapping.key
    rows = await tx.fetch(
        _SIBLING, mapping.client_id, key.microservice, key.service, key.route, mapping.mode
    )
    return [mapping_of(row) for row in rows]


async def in_use(tx: Tx, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the versions of these functions that are not retired, as they may be shown."""
    return [dict(row) for row in await tx.fetch(_IN_USE, list(names))]


async def shown(tx: Tx, name: str) -> list[dict[str, Any]]:
    """Return a function's versions, the newest first, without their sources."""
    return [dict(row) for row in await tx.fetch(_VERSIONS, name)]


async def present(tx: Tx, names: Sequence[str]) -> set[str]:
    """Return which of these functions are in schema fx."""
    return {row["name"] for row in await tx.fetch(_PRESENT, list(names))}


async def find(tx: Tx, name: str, version: int) -> Version | None:
    """Return a version."""
    row = await tx.row(_FIND, name, version)
    return None if row is None else Version(**dict(row))


async def live(tx: Tx, name: str) -> Version | None:
    """Return the live version of a function."""
    row = await tx.row(_LIVE, name)
    return None if row is None else Version(**dict(row))


async def lock(tx: Tx, names: Sequence[str]) -> dict[tuple[str, int], Version]:
    """Return all versions of these functions under their row locks, by name and version."""
    rows = await tx.fetch(_LOCK, sorted(names))
    return {(row["name"], row["version"]): Version(**dict(row)) for row in rows}


async def source(tx: Tx, name: str, version: int) -> str | None:
    """Return the source of a version as it was posted, or found when it was first seen."""
    found: str | None = await tx.value(_SOURCE, name, version)
    return found


async def definition(tx: Tx, call_name: str) -> str | None:
    """Return how a body reads in schema fx right now (for the worker role alone)."""
    found: str | None = await tx.value(_DEFINITION, call_name)
    return found


async def insert(
    tx: Tx,
    one: Version,
    kind: str,
    owner: tuple[str, str],
    text: str,
    author: str,
    note: str | None,
) -> None:
    """Insert a draft; `owner` is client and mode."""
    await tx.run(
        _INSERT,
        *(one.name, one.version, one.origin, one.call_name, kind, *owner),
        *(text, author, note, one.reads_secrets),
    )


async def install(tx: Tx, call_name: str, made: Source) -> None:
    """Make the body of a version; raises SourceRefused with what PostgreSQL says about it."""
    try:
        async with tx.connection.transaction():  # a savepoint: the refusal costs this alone
            await tx.run(
                _INSTALL,
                *(call_name, list(made.arguments), made.language),
                *(made.volatility, made.strict, made.body),
            )
    except asyncpg.PostgresError as error:
        state = str(error.sqlstate)
        if not state.startswith(_FAULTS_OF_A_BODY):
            raise
        context = (getattr(error, "context", None) or "").split("\n")[0]
        near = context[context.index(" near line") :] if " near line" in context else ""
        raise SourceRefused("does_not_compile", f"{error}{near} ({state})"[:500]) from error


async def passed(tx: Tx, name: str, version: int) -> None:
    """Note that a version has passed a dry-run."""
    await tx.run(_PASSED, name, version)


async def tested(tx: Tx, name: str, version: int) -> None:
    """Make a draft tested; what is further on stays where it is."""
    await tx.run(_TESTED, name, version)


async def swap(
    tx: Tx, name: str, version: int, *, previous: int | None = None, act: str | None = None
) -> None:
    """Make a version live in place of the one that is.

    `previous` and `act` are what a roll back goes by; None leaves what the version has.
    """
    await tx.run(_RETIRE, name)
    await tx.run(_GO_LIVE, name, version, previous, act)


async def set_reads_secrets(tx: Tx, name: str, version: int, *, reads: bool) -> None:
    """Say whether a version gets f007 and f008."""
    await tx.run(_READS, name, version, reads)


async def set_options(
    tx: Tx,
    key: Key,
    final_on_2xx: bool | None,
    failed_statuses: Sequence[int] | None,
    by: str,
    expected: int,
) -> int | None:
    """Keep a person's marks on a mapping; None when it has changed since it was read."""
    statuses = None if failed_statuses is None else list(failed_statuses)
    found: int | None = await tx.value(
        _OPTIONS,
        *(key.app_id, key.microservice, key.service, key.route),
        *(final_on_2xx, statuses, by, expected),
    )
    return found
