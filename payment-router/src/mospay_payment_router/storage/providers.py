"""Provider credentials, routing rules and provider health."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.following import HORIZON, NEWER

from mospay_payment_router.domain.breaker import Change

_CREDENTIALS = f"""
select client_id, mode, microservice, sealed, version, deleted, {HORIZON}
from provider_credentials where {NEWER}"""
_PUT_CREDENTIAL = """
insert into provider_credentials as c
    (client_id, mode, microservice, sealed, names, version, updated_by)
values ($1, $2, $3, $4, $5, 1, $6)
on conflict (client_id, mode, microservice) do update set sealed = excluded.sealed,
    names = excluded.names, version = c.version + 1, updated_by = excluded.updated_by,
    updated_at = clock_timestamp(), deleted = false
returning version"""
_DROP_CREDENTIAL = """
update provider_credentials set sealed = '{}', names = '{}', deleted = true,
    version = version + 1, updated_by = $4, updated_at = clock_timestamp()
where client_id = $1 and mode = $2 and microservice = $3 and not deleted returning version"""
_SHOWN = """
select client_id, mode, microservice, names, version, updated_by, updated_at
from provider_credentials where not deleted order by client_id, mode, microservice limit 1000"""
_RULES = """
select id, client_id, mode, service_id, priority, rule, active, version, updated_by, updated_at
from routing_rules where not deleted order by priority, id limit 5000"""
_RULES_CHANGED = "select count(*), max(updated_at) from routing_rules"
_PUT_RULE = """
insert into routing_rules as r
    (id, client_id, mode, service_id, priority, rule, active, version, updated_by)
values ($1, $2, $3, $4, $5, $6, $7, 1, $8)
on conflict (id) do update set client_id = excluded.client_id, mode = excluded.mode,
    service_id = excluded.service_id, priority = excluded.priority, rule = excluded.rule,
    active = excluded.active, version = r.version + 1, updated_by = excluded.updated_by,
    updated_at = clock_timestamp()
where r.version = $9 and not r.deleted returning version"""
_DROP_RULE = """
update routing_rules set deleted = true, active = false, version = version + 1, updated_by = $3,
    updated_at = clock_timestamp()
where id = $1 and version = $2 and not deleted returning version"""
_HEALTH = """
insert into provider_health (microservice, mode, state, reason, failures, calls, changed_at)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (microservice, mode) do update set state = excluded.state, reason = excluded.reason,
    failures = excluded.failures, calls = excluded.calls, changed_at = excluded.changed_at"""
_HEALTH_SHOWN = """
select microservice, mode, state, reason, failures, calls, changed_at from provider_health
order by microservice, mode limit 1000"""


async def credentials_since(tx: Tx, horizon: int) -> list[Any]:
    """Return sealed credentials changed since a look (chassis.following), deleted ones too."""
    rows: list[Any] = await tx.fetch(_CREDENTIALS, str(horizon))
    return rows


async def put_credential(
    tx: Tx, key: tuple[str, str, str], sealed: dict[str, Any], names: Sequence[str], by: str
) -> int:
    """Store a client's sealed credentials with a connector; return their version."""
    return int(await tx.value(_PUT_CREDENTIAL, *key, sealed, list(names), by))


async def drop_credential(tx: Tx, key: tuple[str, str, str], by: str) -> bool:
    """Erase a client's credentials with a connector; False when there are none."""
    return await tx.value(_DROP_CREDENTIAL, *key, by) is not None


async def shown_credentials(tx: Tx) -> list[Any]:
    """Return what may be shown of credentials: names of their parts, never the parts."""
    rows: list[Any] = await tx.fetch(_SHOWN)
    return rows


async def rules(tx: Tx) -> list[Any]:
    """Return the routing rules that are not deleted."""
    rows: list[Any] = await tx.fetch(_RULES)
    return rows


async def rules_mark(tx: Tx) -> tuple[Any, ...]:
    """Return what changes when any rule does."""
    row = await tx.row(_RULES_CHANGED)
    assert row is not None
    return tuple(row)


async def put_rule(tx: Tx, values: tuple[Any, ...], by: str, expected: int) -> int | None:
    """Insert a rule (expected 0) or replace the version that was read; None when it has moved on.

    `values` are id, client, mode, service, priority, body, active.
    """
    found: int | None = await tx.value(_PUT_RULE, *values, by, expected)
    return found


async def drop_rule(tx: Tx, rule_id: str, expected: int, by: str) -> bool:
    """Delete a rule whose version was read; False when it has moved on."""
    return await tx.value(_DROP_RULE, rule_id, expected, by) is not None


async def save_health(tx: Tx, change: Change, at: dt.datetime) -> None:
    """Keep a connector's latest health."""
    mode, _, microservice = change.lane.partition("/")
    await tx.run(
        _HEALTH, microservice, mode, change.state, change.reason, change.failures, change.calls, at
    )


async def shown_health(tx: Tx) -> list[Any]:
    """Return the connectors whose breaker has ever moved, with their latest health."""
    rows: list[Any] = await tx.fetch(_HEALTH_SHOWN)
    return rows
