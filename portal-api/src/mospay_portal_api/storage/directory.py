"""All SQL of the directory: every change takes its version from the one counter."""

from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

CLIENT_COLUMNS = """c.id, c.company_id, co.name as company_name, c.name, c.currency, c.time_zone,
    c.answer_wait_seconds, c.active, c.version, c.deleted, c.created_at,
    coalesce((select jsonb_agg(jsonb_build_object('app_id', a.app_id, 'mode', a.mode)
        order by a.mode desc) from client_apps a where a.client_id = c.id), '[]') as apps"""
_CLIENTS = f"select {CLIENT_COLUMNS} from clients c join companies co on co.id = c.company_id"


async def next_version(tx: Tx) -> int:
    """Take the next directory version; holds the counter until the transaction ends."""
    return int(await tx.value("update directory_counter set value = value + 1 returning value"))


async def current_version(tx: Tx) -> int:
    """Return the counter and hold it, so that nothing changes while a snapshot is made."""
    return int(await tx.value("select value from directory_counter for update"))


async def insert_company(tx: Tx, company_id: str, name: str, version: int) -> None:
    """Write a company."""
    await tx.run(
        "insert into companies (id, name, version) values ($1, $2, $3)", company_id, name, version
    )


async def companies(tx: Tx) -> list[asyncpg.Record]:
    """Return all companies, newest last."""
    return await tx.fetch("select * from companies order by id limit 10000")


async def company_exists(tx: Tx, company_id: str) -> bool:
    """Say whether a company is there."""
    return bool(await tx.value("select 1 from companies where id = $1 and not deleted", company_id))


async def insert_client(tx: Tx, values: dict[str, Any], apps: dict[str, str]) -> bool:
    """Write a client with its App IDs; False when an App ID is taken."""
    keys = (
        "id", "company_id", "name", "currency", "time_zone", "answer_wait_seconds", "version",
    )  # fmt: skip
    await tx.run(
        f"insert into clients ({', '.join(keys)}) values ($1, $2, $3, $4, $5, $6, $7)",
        *(values[key] for key in keys),
    )
    tag = await tx.run(
        "insert into client_apps (app_id, client_id, mode) select a, $1, m "
        "from unnest($2::text[], $3::text[]) as u(a, m) on conflict do nothing",
        values["id"],
        list(apps.values()),
        list(apps),
    )
    return tag == f"INSERT 0 {len(apps)}"


async def client(tx: Tx, client_id: str) -> asyncpg.Record | None:
    """Return a client with its App IDs."""
    return await tx.row(f"{_CLIENTS} where c.id = $1", client_id)


async def clients(tx: Tx, only: list[str] | None = None) -> list[asyncpg.Record]:
    """Return clients (tombstones included), or only these."""
    return await tx.fetch(
        f"{_CLIENTS} where $1::text[] is null or c.id = any($1) order by c.id limit 10000", only
    )


async def update_client(
    tx: Tx, client_id: str, expected: int, version: int, name: str | None, active: bool | None
) -> bool:
    """Change a client that still has the version the person saw."""
    tag = await tx.run(
        "update clients set name = coalesce($4, name), active = coalesce($5, active), "
        "version = $3 where id = $1 and version = $2",
        client_id,
        expected,
        version,
        name,
        active,
    )
    return tag == "UPDATE 1"


async def insert_service(
    tx: Tx, service_id: str, microservice: str, name: str, body: dict[str, Any], version: int
) -> bool:
    """Write a service; False when that microservice has one of this name."""
    tag = await tx.run(
        "insert into services (id, microservice, name, body, version) values ($1, $2, $3, $4, $5) "
        "on conflict do nothing",
        service_id,
        microservice,
        name,
        body,
        version,
    )
    return tag == "INSERT 0 1"


async def services(tx: Tx) -> list[asyncpg.Record]:
    """Return all services (tombstones included)."""
    return await tx.fetch("select * from services order by id limit 10000")


async def service(tx: Tx, service_id: str) -> asyncpg.Record | None:
    """Return a service."""
    return await tx.row("select * from services where id = $1", service_id)


async def update_service(
    tx: Tx, service_id: str, expected: int, version: int, body: dict[str, Any], active: bool
) -> bool:
    """Change a service that still has the version the person saw."""
    tag = await tx.run(
        "update services set body = $4, active = $5, version = $3 where id = $1 and version = $2",
        service_id,
        expected,
        version,
        body,
        active,
    )
    return tag == "UPDATE 1"


async def insert_assignment(
    tx: Tx, assignment_id: str, client_id: str, service_id: str, version: int
) -> bool:
    """Write an assignment; False when the client has the service already."""
    tag = await tx.run(
        "insert into assignments (id, client_id, service_id, version) values ($1, $2, $3, $4) "
        "on conflict do nothing",
        assignment_id,
        client_id,
        service_id,
        version,
    )
    return tag == "INSERT 0 1"


async def assignments(tx: Tx, clients_only: list[str] | None = None) -> list[asyncpg.Record]:
    """Return assignments (tombstones included), or only those of these clients."""
    return await tx.fetch(
        "select * from assignments where $1::text[] is null or client_id = any($1) "
        "order by id limit 10000",
        clients_only,
    )


async def update_assignment(
    tx: Tx, assignment_id: str, expected: int, version: int, active: bool
) -> asyncpg.Record | None:
    """Switch an assignment on or off; None when it has another version by now."""
    return await tx.row(
        "update assignments set active = $4, version = $3 where id = $1 and version = $2 "
        "returning *",
        assignment_id,
        expected,
        version,
        active,
    )


async def app_id(tx: Tx, client_id: str, mode: str) -> str | None:
    """Return a client's App ID in a mode."""
    found: str | None = await tx.value(
        "select app_id from client_apps where client_id = $1 and mode = $2", client_id, mode
    )
    return found


async def insert_credential(tx: Tx, values: dict[str, Any]) -> None:
    """Write a credential; only its hash."""
    keys = ("id", "client_id", "app_id", "mode", "kind", "lookup", "secret_hash", "version")
    await tx.run(
        f"insert into credentials ({', '.join(keys)}) values ($1, $2, $3, $4, $5, $6, $7, $8)",
        *(values[key] for key in keys),
    )


async def credentials(tx: Tx, client_id: str | None = None) -> list[asyncpg.Record]:
    """Return credentials, newest first, all or of one client."""
    return await tx.fetch(
        "select * from credentials where $1::text is null or client_id = $1 "
        "order by created_at desc, id limit 10000",
        client_id,
    )


async def revoke_credential(tx: Tx, credential_id: str, version: int) -> asyncpg.Record | None:
    """Revoke a credential; None when there is none that still holds."""
    return await tx.row(
        "update credentials set revoked = true, revoked_at = now(), version = $2 "
        "where id = $1 and not revoked returning *",
        credential_id,
        version,
    )
