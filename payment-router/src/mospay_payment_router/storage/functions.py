"""The mapping of routes to provider functions, their versions, and the making of default pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.functions import Key, Pair

_EXISTING = """
select p.proname as name, bool_or(p.prosrc ~ 'f00[78]') as secrets
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'fx' and p.prokind = 'f' group by p.proname"""
_FOREIGN = """
select p.proname as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'fx' and p.prokind = 'f' and not exists (
    select 1 from function_versions v where v.name = p.proname and v.origin = 'default')"""
_MAPPINGS = """
select app_id, microservice, service, route, call_name, response_name, enquiry_name,
       enquiry_response_name, version, refused
from provider_functions"""
_INSERT = """
insert into provider_functions (app_id, microservice, service, route, client_id, mode, service_id,
    call_name, response_name, enquiry_name, enquiry_response_name, refused)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing"""
_VERSION = """
insert into function_versions (name, version, state, origin)
select name, 1, 'live', case when name = any($2::text[]) then 'default' else 'existing' end
from unnest($1::text[]) as u(name) on conflict do nothing"""


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which functions serve a key, pinned by version; `refused` says why none do."""

    key: Key
    pair: Pair
    version: int
    refused: str | None


async def existing_functions(tx: Tx) -> dict[str, bool]:
    """Return the functions in schema fx by name, and whether each reads f007 or f008."""
    return {row["name"]: row["secrets"] for row in await tx.fetch(_EXISTING)}


async def foreign_functions(tx: Tx) -> set[str]:
    """Return the functions in schema fx that were not made from the default template."""
    return {row["name"] for row in await tx.fetch(_FOREIGN)}


async def mappings(tx: Tx) -> list[Mapping]:
    """Return the whole mapping table."""
    return [
        Mapping(
            Key(row["app_id"], row["microservice"], row["service"], row["route"]),
            Pair(
                row["call_name"],
                row["response_name"],
                row["enquiry_name"],
                row["enquiry_response_name"],
            ),
            row["version"],
            row["refused"],
        )
        for row in await tx.fetch(_MAPPINGS)
    ]


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


async def add_versions(tx: Tx, names: Sequence[str], made: Sequence[str]) -> None:
    """Record version 1 of functions; those not among `made` were there before us."""
    await tx.run(_VERSION, list(names), list(made))
