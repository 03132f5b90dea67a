"""The mapping of routes to provider functions, their versions, and the making of default pairs.

Memory follows these tables by what changed lately: nothing here grows with the number of clients
from one look to the next.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.following import HORIZON, NEWER

from mospay_payment_router.domain.functions import Key, Pair

# One pass over the catalogue: how many there are, and the names of those made since the last look.
# Versions (`name@v3`) never change, so what they read is in their own row.
_LOOK = """
select count(*) as total, pg_snapshot_xmin(pg_current_snapshot())::xid::text as horizon,
    array_agg(p.proname::text) filter (
        where $1::text is not null and age(p.xmin) <= age($1::text::xid)) as fresh
from pg_proc p
where p.pronamespace = 'fx'::regnamespace and p.prokind = 'f' and position('@' in p.proname) = 0"""
_READING = """
select p.proname as name, bool_or(p.prosrc ~ 'f00[78]') as secrets
from pg_proc p
where p.pronamespace = 'fx'::regnamespace and p.prokind = 'f' and position('@' in p.proname) = 0
    and ($1::text[] is null or p.proname = any($1::text[]::name[]))
group by p.proname"""
_FOREIGN = """
select p.proname as name from pg_proc p
where p.pronamespace = 'fx'::regnamespace and p.prokind = 'f'
    and p.proname = any($1::text[]::name[]) and not exists (
        select 1 from function_versions v where v.name = p.proname and v.origin = 'default')"""
_COLUMNS = """
app_id, microservice, service, route, client_id, mode, service_id, call_name, response_name,
enquiry_name, enquiry_response_name, version, refused, final_on_2xx, failed_statuses"""
_MAPPINGS = f"select {_COLUMNS} from provider_functions where {NEWER}"
_INSERT = """
insert into provider_functions (app_id, microservice, service, route, client_id, mode, service_id,
    call_name, response_name, enquiry_name, enquiry_response_name, refused)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing"""
_VERSION = """
insert into function_versions (name, version, state, origin, call_name, kind, client_id, mode,
    source, live_at)
select u.name, 1, 'live', case when u.made then 'default' else 'existing' end, u.name, u.kind,
    $4, $5, case when not u.made then (
        select pg_get_functiondef(p.oid) from pg_proc p
        where p.pronamespace = 'fx'::regnamespace and p.proname = u.name
        order by p.pronargs limit 1) end, clock_timestamp()
from unnest($1::text[], $2::text[], $3::bool[]) as u(name, kind, made) on conflict do nothing"""
_LIVE = f"""
select name, version, call_name, reads_secrets from function_versions
where state = 'live' and {NEWER} and ($1 <> '0' or version > 1 or reads_secrets)"""


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which functions serve a key; `refused` says why none do.

    `final_on_2xx` and `failed_statuses` are a person's marks, None where the connector's hold.
    `version` counts the changes of these marks.
    """

    key: Key
    pair: Pair
    version: int
    refused: str | None
    client_id: str
    mode: str
    service_id: str
    final_on_2xx: bool | None
    failed_statuses: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Live:
    """The version of a function that serves payments; its body is `call_name` in schema fx."""

    version: int
    call_name: str
    reads_secrets: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What schema fx holds: how many functions, a horizon for the next look, names made since."""

    total: int
    horizon: str
    fresh: tuple[str, ...]


async def look(tx: Tx, horizon: str | None) -> Look:
    """Look at schema fx; `horizon` is that of the last look."""
    row = await tx.row(_LOOK, horizon)
    assert row is not None
    return Look(row["total"], row["horizon"], tuple(row["fresh"] or ()))


async def reading(tx: Tx, names: Collection[str] | None) -> dict[str, bool]:
    """Return functions of schema fx by name (None: all), and whether each reads f007 or f008."""
    rows = await tx.fetch(_READING, None if names is None else list(names))
    return {row["name"]: row["secrets"] for row in rows}


async def foreign_functions(tx: Tx, names: Sequence[str]) -> set[str]:
    """Return which of these are in schema fx and were not made from the default template."""
    return {row["name"] for row in await tx.fetch(_FOREIGN, list(names))}


async def horizon(tx: Tx) -> int:
    """Return where the look after this one starts (chassis.following); asked before it reads."""
    return int(await tx.value(f"select {HORIZON}"))


async def mappings_since(tx: Tx, since: int) -> list[Mapping]:
    """Return mappings that are new or changed since a look; 0 returns all."""
    return [mapping_of(row) for row in await tx.fetch(_MAPPINGS, str(since))]


def mapping_of(row: asyncpg.Record) -> Mapping:
    """Return the mapping a row holds."""
    values = dict(row)
    statuses = values["failed_statuses"]
    return Mapping(
        Key(values["app_id"], values["microservice"], values["service"], values["route"]),
        Pair(
            values["call_name"],
            values["response_name"],
            values["enquiry_name"],
            values["enquiry_response_name"],
        ),
        values["version"],
        values["refused"],
        values["client_id"],
        values["mode"],
        values["service_id"],
        values["final_on_2xx"],
        None if statuses is None else tuple(statuses),
    )


async def live_since(tx: Tx, since: int) -> dict[str, Live]:
    """Return live versions that are new or changed since a look.

    The first time (0), those that say no more than their name are left out: they are most.
    """
    rows = await tx.fetch(_LIVE, str(since))
    return {r["name"]: Live(r["version"], r["call_name"], r["reads_secrets"]) for r in rows}


async def add_mapping(
    tx: Tx, key: Key, pair: Pair, owner: tuple[str, str, str], refused: str | None
) -> None:
    """Map a key to a pair; `owner` is client, mode and service. Known keys stay as they are."""
    await tx.run(
        _INSERT,
        *(key.app_id, key.microservice, key.service, key.route),
        *owner,
        *pair.names,
        refused,
    )


async def make_pair(tx: Tx, call: str, response: str) -> list[str]:
    """Make the default pair where it is missing; return the names that were made."""
    rows = await tx.fetch("select fx.create_default_pair($1, $2) as name", call, response)
    return [row["name"] for row in rows]


async def make_refund_pair(tx: Tx, call: str) -> list[str]:
    """Make the default refund functions of a pair where they are missing; return their names."""
    rows = await tx.fetch("select fx.create_default_refund_pair($1) as name", call)
    return [row["name"] for row in rows]


async def add_versions(
    tx: Tx, kinds: dict[str, str], made: Collection[str], owner: tuple[str, str]
) -> None:
    """Record version 1 of functions by kind; those not among `made` were there before us.

    `owner` is client and mode. What is recorded already stays as it is.
    """
    await tx.run(
        _VERSION,
        list(kinds.values()),
        list(kinds),
        [name in made for name in kinds.values()],
        *owner,
    )
