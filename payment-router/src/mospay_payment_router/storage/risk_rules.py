"""What people set for risk: rules, entries of lists, thresholds, and their version."""

import datetime as dt
from typing import Any

from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.risk import BODIES, Entry, Rule, Thresholds

_VERSION = "select version from risk_version"
# Also the lock under which everything here changes: what is read with a version is of that version.
_BUMP = "update risk_version set version = version + 1 returning version"
_RULES = """
select id, client_id, mode, body as rule, active, version, updated_by, updated_at
from risk_rules
where not deleted and ($1::text is null or client_id = $1) and ($2::text is null or mode = $2)
order by id limit 1001"""
_COUNT_RULES = "select count(*) from risk_rules where not deleted"
_PUT_RULE = """
insert into risk_rules as r (id, client_id, mode, body, active, version, updated_by)
select $1, $2, $3, $4, $5, 1, $6 where $7 = 0
on conflict (id) do nothing returning version"""
_CHANGE_RULE = """
update risk_rules set client_id = $2, mode = $3, body = $4, active = $5, version = version + 1,
    updated_by = $6, updated_at = clock_timestamp()
where id = $1 and version = $7 and not deleted returning version"""
_RULE_VERSION = "select version from risk_rules where id = $1 and not deleted"
_DROP_RULE = """
update risk_rules set deleted = true, active = false, version = version + 1, updated_by = $3,
    updated_at = clock_timestamp()
where id = $1 and version = $2 and not deleted returning version"""
_ENTRIES = """
select id, client_id, mode, list, kind, subject, extract(epoch from expires_at)::float8 as until
from risk_entries where deleted_at is null and (expires_at is null or expires_at > now())"""
_COUNT_ENTRIES = """
select count(*) from risk_entries
where deleted_at is null and (expires_at is null or expires_at > now())"""
_ADD_ENTRY = """
insert into risk_entries (id, client_id, mode, list, kind, subject, shown, reason, expires_at,
    added_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (coalesce(client_id, ''), mode, list, kind, subject) where deleted_at is null
do nothing returning id"""
# One that has expired makes room for its successor.
_RETIRE_EXPIRED = """
update risk_entries set deleted_at = clock_timestamp(), deleted_by = 'expiry'
where deleted_at is null and expires_at <= now() and coalesce(client_id, '') = coalesce($1, '')
    and mode = $2 and list = $3 and kind = $4 and subject = $5"""
_DROP_ENTRY = """
update risk_entries set deleted_at = clock_timestamp(), deleted_by = $2
where id = $1 and deleted_at is null returning id"""
_ENTRY_PAGE = """
select id, client_id, mode, list, kind, shown, reason, expires_at, added_by, added_at
from risk_entries
where deleted_at is null and ($1::text is null or list = $1) and ($2::text is null or kind = $2)
    and ($3::text is null or client_id = $3) and ($4::text is null or mode = $4)
    and ($5::text is null or id < $5)
order by id desc limit $6"""
_THRESHOLDS = """
select client_id, mode, hold_at, refuse_at, version, updated_by, updated_at from risk_thresholds
order by client_id nulls first, mode limit 10000"""
_PUT_THRESHOLDS = """
insert into risk_thresholds (client_id, mode, hold_at, refuse_at, version, updated_by)
select $1, $2, $3, $4, 1, $5 where $6 = 0
on conflict (coalesce(client_id, ''), mode) do nothing returning version"""
_CHANGE_THRESHOLDS = """
update risk_thresholds set hold_at = $3, refuse_at = $4, version = version + 1, updated_by = $5,
    updated_at = clock_timestamp()
where coalesce(client_id, '') = coalesce($1, '') and mode = $2 and version = $6
returning version"""


async def version(tx: Tx) -> int:
    """Return the number that rises with every change."""
    return int(await tx.value(_VERSION))


async def bump(tx: Tx) -> int:
    """Raise that number; until the commit nobody else changes anything here."""
    return int(await tx.value(_BUMP))


async def in_force(
    tx: Tx,
) -> tuple[list[Rule], list[Entry], dict[tuple[str | None, str], Thresholds]]:
    """Return active rules, entries that have not expired, thresholds by (client, mode)."""
    rules = [
        Rule(r["id"], r["client_id"], r["mode"], BODIES.validate_python(r["rule"]))
        for r in await tx.fetch(_RULES, None, None)
        if r["active"]
    ]
    entries = [Entry(**dict(row)) for row in await tx.fetch(_ENTRIES)]
    thresholds = {
        (row["client_id"], row["mode"]): Thresholds(row["hold_at"], row["refuse_at"])
        for row in await tx.fetch(_THRESHOLDS)
    }
    return rules, entries, thresholds


async def rules(tx: Tx, client_id: str | None, mode: str | None) -> list[dict[str, Any]]:
    """Return the rules that are not deleted."""
    return [dict(row) for row in await tx.fetch(_RULES, client_id, mode)]


async def count_rules(tx: Tx) -> int:
    """Return how many rules there are."""
    return int(await tx.value(_COUNT_RULES))


async def add_rule(tx: Tx, values: tuple[Any, ...], by: str) -> int | None:
    """Insert a rule: id, client, mode, body, active. None when there is (or was) one of that id."""
    found: int | None = await tx.value(_PUT_RULE, *values, by, 0)
    return found


async def change_rule(tx: Tx, values: tuple[Any, ...], by: str, expected: int) -> int | None:
    """Replace a rule whose version was read; None when it has moved on or is gone."""
    found: int | None = await tx.value(_CHANGE_RULE, *values, by, expected)
    return found


async def rule_version(tx: Tx, rule_id: str) -> int | None:
    """Return a rule's version, None when there is none."""
    found: int | None = await tx.value(_RULE_VERSION, rule_id)
    return found


async def drop_rule(tx: Tx, rule_id: str, expected: int, by: str) -> bool:
    """Delete a rule whose version was read; False when it has moved on or is gone."""
    return await tx.value(_DROP_RULE, rule_id, expected, by) is not None


async def count_entries(tx: Tx) -> int:
    """Return how many entries are in force."""
    return int(await tx.value(_COUNT_ENTRIES))


async def add_entry(
    tx: Tx,
    entry: Entry,
    shown: str,
    reason: str,
    expires_at: dt.datetime | None,
    by: str,
) -> bool:
    """Add an entry; False when there is one in force for the same subject."""
    place = (entry.client_id, entry.mode, entry.list, entry.kind, entry.subject)
    await tx.run(_RETIRE_EXPIRED, *place)
    return await tx.value(_ADD_ENTRY, entry.id, *place, shown, reason, expires_at, by) is not None


async def drop_entry(tx: Tx, entry_id: str, by: str) -> bool:
    """Take an entry off its list; False when it is not on it."""
    return await tx.value(_DROP_ENTRY, entry_id, by) is not None


async def entries(
    tx: Tx,
    name: str | None,
    kind: str | None,
    client_id: str | None,
    mode: str | None,
    before: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return a page of entries, newest first; `before` is the last id seen."""
    rows = await tx.fetch(_ENTRY_PAGE, name, kind, client_id, mode, before, limit)
    return [dict(row) for row in rows]


async def thresholds(tx: Tx) -> list[dict[str, Any]]:
    """Return all thresholds, those for all clients first."""
    return [dict(row) for row in await tx.fetch(_THRESHOLDS)]


async def put_thresholds(
    tx: Tx, client_id: str | None, mode: str, hold_at: int, refuse_at: int, by: str, expected: int
) -> int | None:
    """Set thresholds (expected 0: new) or change those that were read; None when they moved on."""
    sql = _CHANGE_THRESHOLDS if expected else _PUT_THRESHOLDS
    found: int | None = await tx.value(sql, client_id, mode, hold_at, refuse_at, by, expected)
    return found
