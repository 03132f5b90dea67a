"""SQL of the directory: every change takes its version from the one counter, under its lock."""

from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

LIST_LIMIT = 10_000  # rows of one list; a snapshot has no limit
_CLIENTS = """
select c.id, c.company_id, co.name as company_name, c.name, c.currency, c.time_zone,
    c.answer_wait_seconds, c.rate_per_minute, c.active, c.version, c.deleted, c.created_at,
    c.confirmed_version >= c.version as confirmed,
    coalesce((select jsonb_agg(jsonb_build_object('app_id', a.app_id, 'mode', a.mode)
        order by a.mode desc) from client_apps a where a.client_id = c.id), '[]') as apps
from clients c join companies co on co.id = c.company_id"""
_LIVE = "select * from {} where not deleted order by id limit $1"
_CREDENTIAL_SHOWN_COLUMNS = """
select id, client_id, app_id, mode, kind, lookup, expires_at, revoked, rate_per_minute, version,
    created_at, confirmed_version >= version as confirmed
from credentials"""
_CREDENTIAL_SHOWN = (
    f"{_CREDENTIAL_SHOWN_COLUMNS} where client_id = $1 order by created_at desc, id limit $2"
)


async def next_version(tx: Tx) -> int:
    """Take the next directory version; holds the counter until the transaction ends.

    Called first in every change, so what is read after it is what no other change touches.
    """
    return int(await tx.value("update directory_counter set value = value + 1 returning value"))


async def current_version(tx: Tx) -> int:
    """Return the counter and hold it, so that nothing changes while a snapshot is made."""
    return int(await tx.value("select value from directory_counter for update"))


async def everything(tx: Tx, table: str) -> list[asyncpg.Record]:
    """Return all rows of a table of the directory, tombstones included."""
    return await tx.fetch(
        f"{_CLIENTS if table == 'clients' else f'select * from {table}'} order by id"
    )


async def all_credentials(tx: Tx) -> list[asyncpg.Record]:
    """Return all credentials with their hashes, revoked ones included."""
    return await tx.fetch("select * from credentials order by id")


async def insert_company(tx: Tx, company_id: str, name: str, version: int) -> asyncpg.Record | None:
    """Write a company."""
    return await tx.row(
        "insert into companies (id, name, version) values ($1, $2, $3) returning *",
        company_id,
        name,
        version,
    )


async def companies(tx: Tx) -> list[asyncpg.Record]:
    """Return the companies this transaction may see, oldest first."""
    return await tx.fetch(_LIVE.format("companies"), LIST_LIMIT)


async def company(tx: Tx, company_id: str) -> asyncpg.Record | None:
    """Return a company that is not deleted."""
    return await tx.row("select * from companies where id = $1 and not deleted", company_id)


async def clients_of(tx: Tx, company_id: str) -> int:
    """Return how many clients a company has."""
    return int(
        await tx.value(
            "select count(*) from clients where company_id = $1 and not deleted", company_id
        )
    )


async def insert_client(tx: Tx, values: dict[str, Any], apps: dict[str, str]) -> set[str]:
    """Write a client with its App IDs by mode; return the modes whose App ID is taken.

    An App ID is never free again: payments and function names carry it.
    """
    keys = (
        "id", "company_id", "name", "currency", "time_zone", "answer_wait_seconds",
        "rate_per_minute", "version",
    )  # fmt: skip
    await tx.run(
        f"insert into clients ({', '.join(keys)}) values ($1, $2, $3, $4, $5, $6, $7, $8)",
        *(values[key] for key in keys),
    )
    rows = await tx.fetch(
        "insert into client_apps (app_id, client_id, mode) select a, $1, m "
        "from unnest($2::text[], $3::text[]) as u(a, m) on conflict do nothing returning mode",
        values["id"],
        list(apps.values()),
        list(apps),
    )
    return set(apps) - {row["mode"] for row in rows}


async def client(tx: Tx, client_id: str) -> asyncpg.Record | None:
    """Return a client with its App IDs, also a deleted one."""
    return await tx.row(f"{_CLIENTS} where c.id = $1", client_id)


async def clients_by_id(tx: Tx, ids: list[str]) -> list[asyncpg.Record]:
    """Return clients with their App IDs, also deleted ones."""
    return await tx.fetch(f"{_CLIENTS} where c.id = any($1::text[]) order by c.id", ids)


async def clients(tx: Tx) -> list[asyncpg.Record]:
    """Return the clients this transaction may see, with their App IDs."""
    return await tx.fetch(f"{_CLIENTS} where not c.deleted order by c.id limit $1", LIST_LIMIT)


async def client_names(tx: Tx, ids: list[str]) -> dict[str, str]:
    """Return the names of those of these clients that this transaction may see."""
    rows = await tx.fetch("select id, name from clients where id = any($1::text[])", ids)
    return {row["id"]: row["name"] for row in rows}


async def active_counts(tx: Tx, client_id: str | None) -> tuple[int, int]:
    """Return numbers of services in use and of active clients, all that is seen or of one."""
    row = await tx.row(
        "select (select count(distinct a.service_id) from assignments a "
        "join services s on s.id = a.service_id where a.active and not a.deleted "
        "and s.active and not s.deleted and ($1::text is null or a.client_id = $1)), "
        "(select count(*) from clients c where c.active and not c.deleted "
        "and ($1::text is null or c.id = $1))",
        client_id,
    )
    assert row is not None
    return row[0], row[1]


async def update_client(
    tx: Tx,
    client_id: str,
    version: int,
    *,
    name: str,
    active: bool,
    answer_wait_seconds: int,
    rate_per_minute: int | None,
) -> None:
    """Change a client; the gateway is told at once."""
    await tx.run(
        "update clients set name = $3, active = $4, answer_wait_seconds = $5, "
        "rate_per_minute = $6, version = $2, push_after = now() where id = $1",
        client_id,
        version,
        name,
        active,
        answer_wait_seconds,
        rate_per_minute,
    )


async def insert_service(
    tx: Tx, service_id: str, body: dict[str, Any], version: int
) -> asyncpg.Record | None:
    """Write a service; None when that microservice has one of this name."""
    return await tx.row(
        "insert into services (id, microservice, name, body, version) values ($1, $2, $3, $4, $5) "
        "on conflict do nothing returning *",
        service_id,
        body["microservice"],
        body["name"],
        body,
        version,
    )


async def services(tx: Tx) -> list[asyncpg.Record]:
    """Return the services."""
    return await tx.fetch(_LIVE.format("services"), LIST_LIMIT)


async def service(tx: Tx, service_id: str) -> asyncpg.Record | None:
    """Return a service, also a deleted one."""
    return await tx.row("select * from services where id = $1", service_id)


async def update_service(
    tx: Tx, service_id: str, version: int, body: dict[str, Any], active: bool
) -> asyncpg.Record | None:
    """Replace a service's body."""
    return await tx.row(
        "update services set body = $3, active = $4, version = $2 where id = $1 returning *",
        service_id,
        version,
        body,
        active,
    )


async def insert_assignment(tx: Tx, values: dict[str, Any]) -> asyncpg.Record | None:
    """Write an assignment; None when the client has the service already."""
    keys = ("id", "client_id", "service_id", "limits", "answer_wait_seconds", "version")
    return await tx.row(
        f"insert into assignments ({', '.join(keys)}) values ($1, $2, $3, $4, $5, $6) "
        "on conflict do nothing returning *",
        *(values[key] for key in keys),
    )


async def assignments(tx: Tx) -> list[asyncpg.Record]:
    """Return the assignments this transaction may see."""
    return await tx.fetch(_LIVE.format("assignments"), LIST_LIMIT)


async def assignment(tx: Tx, assignment_id: str) -> asyncpg.Record | None:
    """Return an assignment, also a deleted one."""
    return await tx.row("select * from assignments where id = $1", assignment_id)


async def assignments_of(tx: Tx, column: str, entity_id: str) -> list[asyncpg.Record]:
    """Return what is assigned by `client_id` or `service_id`, without tombstones."""
    return await tx.fetch(
        f"select * from assignments where {column} = $1 and not deleted order by id", entity_id
    )


async def update_assignment(
    tx: Tx,
    assignment_id: str,
    version: int,
    *,
    active: bool,
    limits: dict[str, Any],
    answer_wait_seconds: int | None,
) -> asyncpg.Record | None:
    """Change an assignment."""
    return await tx.row(
        "update assignments set active = $3, limits = $4, answer_wait_seconds = $5, version = $2 "
        "where id = $1 returning *",
        assignment_id,
        version,
        active,
        limits,
        answer_wait_seconds,
    )


async def bury(tx: Tx, table: str, entity_id: str, version: int) -> None:
    """Turn an entity into a tombstone: its row stays, so that no replica keeps it alive."""
    active = "" if table == "companies" else "active = false, "
    active += "push_after = now(), " if table == "clients" else ""
    await tx.run(
        f"update {table} set {active}deleted = true, version = $2 where id = $1",
        entity_id,
        version,
    )


async def app_id(tx: Tx, client_id: str, mode: str) -> str | None:
    """Return the App ID of a client that is not deleted, in a mode."""
    found: str | None = await tx.value(
        "select a.app_id from client_apps a join clients c on c.id = a.client_id "
        "where c.id = $1 and a.mode = $2 and not c.deleted",
        client_id,
        mode,
    )
    return found


async def insert_credential(tx: Tx, values: dict[str, Any]) -> asyncpg.Record | None:
    """Write a credential; only its hash."""
    keys = (
        "id", "client_id", "app_id", "mode", "kind", "lookup", "secret_hash", "rate_per_minute",
        "version",
    )  # fmt: skip
    return await tx.row(
        f"insert into credentials ({', '.join(keys)}) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning *",
        *(values[key] for key in keys),
    )


async def credentials(tx: Tx, client_id: str) -> list[asyncpg.Record]:
    """Return a client's credentials without their hashes, newest first: the history."""
    return await tx.fetch(_CREDENTIAL_SHOWN, client_id, LIST_LIMIT)


async def valid_credentials(tx: Tx, client_id: str) -> list[str]:
    """Return the ids of a client's credentials that are not revoked."""
    rows = await tx.fetch(
        "select id from credentials where client_id = $1 and not revoked order by id", client_id
    )
    return [row["id"] for row in rows]


async def revoke_credential(tx: Tx, credential_id: str, version: int) -> asyncpg.Record | None:
    """Revoke a credential; None when there is none that still holds."""
    return await tx.row(
        "update credentials set revoked = true, revoked_at = now(), version = $2, "
        "push_after = now() where id = $1 and not revoked returning *",
        credential_id,
        version,
    )


async def credential(tx: Tx, credential_id: str) -> asyncpg.Record | None:
    """Return a credential with its hash, also a revoked one."""
    return await tx.row("select * from credentials where id = $1", credential_id)


async def credential_shown(tx: Tx, credential_id: str) -> asyncpg.Record | None:
    """Return a credential without its hash."""
    return await tx.row(f"{_CREDENTIAL_SHOWN_COLUMNS} where id = $1", credential_id)


async def update_credential(
    tx: Tx, credential_id: str, version: int, rate_per_minute: int | None
) -> asyncpg.Record | None:
    """Change the rate of a credential; the gateway is told at once."""
    return await tx.row(
        "update credentials set rate_per_minute = $3, version = $2, push_after = now() "
        "where id = $1 returning *",
        credential_id,
        version,
        rate_per_minute,
    )
