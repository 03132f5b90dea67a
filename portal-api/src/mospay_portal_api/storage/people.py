"""All SQL of people, sessions, audit and the live stream."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.ids import new_id

from mospay_portal_api.domain import Person

_USER = """
select id, audience, company_id, name, email, role, password_hash, active, failed_attempts,
    locked_until from users where audience = $1 and lower(email) = lower($2) for update"""
_PERSON = """
with seen as (
    update sessions set seen_at = now()
    where token_hash = $1 and expires_at > now() and seen_at > now() - make_interval(secs => $2)
    returning user_id, csrf_token, expires_at)
select u.id, u.name, u.email, u.role, u.audience, u.company_id, s.csrf_token, s.expires_at,
    case when u.audience = 'client' then (
        select coalesce(array_agg(c.id), '{}') from clients c
        where c.company_id = u.company_id and not c.deleted) end as client_ids
from seen s join users u on u.id = s.user_id where u.active"""
_STREAM = """
select id, topic, client_id, mode, payload from stream_rows where id > $1 order by id limit $2"""


async def user_for_update(tx: Tx, audience: str, email: str) -> asyncpg.Record | None:
    """Return a login, locked until the transaction ends."""
    return await tx.row(_USER, audience, email)


async def login_failed(tx: Tx, user_id: str, allowed: int, lock_seconds: int) -> asyncpg.Record:
    """Count a wrong password; lock when there were too many. Returns the new counters."""
    row = await tx.row(
        "update users set failed_attempts = case when failed_attempts + 1 >= $2 then 0 "
        "else failed_attempts + 1 end, locked_until = case when failed_attempts + 1 >= $2 "
        "then now() + make_interval(secs => $3) end where id = $1 "
        "returning failed_attempts, locked_until",
        user_id,
        allowed,
        float(lock_seconds),
    )
    assert row is not None
    return row


async def login_succeeded(tx: Tx, user_id: str, new_hash: str | None) -> None:
    """Reset the counters; keep an upgraded hash when there is one."""
    await tx.run(
        "update users set failed_attempts = 0, locked_until = null, last_login_at = now(), "
        "password_hash = coalesce($2, password_hash) where id = $1",
        user_id,
        new_hash,
    )


async def insert_user(tx: Tx, values: dict[str, Any]) -> bool:
    """Write a user; False when the address is taken for that audience."""
    tag = await tx.run(
        "insert into users (id, audience, company_id, name, email, role, password_hash) "
        "values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        *(
            values[key]
            for key in ("id", "audience", "company_id", "name", "email", "role", "password_hash")
        ),
    )
    return tag != "INSERT 0 0"


async def insert_session(
    tx: Tx, token_hash: str, user_id: str, csrf: str, seconds: int, ip: str | None
) -> None:
    """Open a session."""
    await tx.run(
        "insert into sessions (token_hash, user_id, csrf_token, expires_at, ip) "
        "values ($1, $2, $3, now() + make_interval(secs => $4), $5)",
        token_hash,
        user_id,
        csrf,
        float(seconds),
        ip,
    )


async def person_of(tx: Tx, token_hash: str, idle_seconds: int) -> Person | None:
    """Return who a session belongs to and note that it is used; None when it has ended."""
    row = await tx.row(_PERSON, token_hash, float(idle_seconds))
    if row is None:
        return None
    ids = row["client_ids"]
    return Person(
        user_id=row["id"],
        name=row["name"],
        email=row["email"],
        role=row["role"],
        audience=row["audience"],
        company_id=row["company_id"],
        csrf_token=row["csrf_token"],
        expires_at=row["expires_at"],
        client_ids=None if ids is None else frozenset(ids),
    )


async def delete_session(tx: Tx, token_hash: str) -> None:
    """End one session."""
    await tx.run("delete from sessions where token_hash = $1", token_hash)


async def delete_sessions(tx: Tx, user_id: str) -> None:
    """End all sessions of a user."""
    await tx.run("delete from sessions where user_id = $1", user_id)


async def delete_old(tx: Tx, stream_seconds: int) -> None:
    """Drop ended sessions and stream rows past their time."""
    await tx.run("delete from sessions where expires_at < now()")
    await tx.run(
        "delete from stream_rows where at < now() - make_interval(secs => $1)",
        float(stream_seconds),
    )


async def audit(
    tx: Tx,
    action: str,
    *,
    actor: str | None,
    subject: str | None = None,
    before: Any = None,
    after: Any = None,
    ip: str | None = None,
) -> None:
    """Write down what a person did; never a secret."""
    await tx.run(
        "insert into audit_log (id, actor, action, subject, before, after, ip) "
        "values ($1, $2, $3, $4, $5, $6, $7)",
        new_id("aud"),
        actor,
        action,
        subject,
        before,
        after,
        ip,
    )


async def insert_stream(tx: Tx, rows: Sequence[tuple[str, str, str, Any]]) -> None:
    """Write live rows (topic, client, mode, payload); one writer at a time, so ids commit in order.

    Readers go by `id > last seen`, which is only safe while ids become visible in their order.
    """
    await tx.run("select pg_advisory_xact_lock(7226100)")
    await tx.run(
        "insert into stream_rows (topic, client_id, mode, payload) "
        "select * from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[])",
        *([row[n] for row in rows] for n in range(4)),
    )


async def stream_after(tx: Tx, after: int, limit: int) -> list[asyncpg.Record]:
    """Return live rows after an id, in order."""
    return await tx.fetch(_STREAM, after, limit)


async def stream_bounds(tx: Tx) -> tuple[int, int]:
    """Return the ids of the oldest and the newest live row (0, 0 when there is none)."""
    row = await tx.row("select coalesce(min(id), 0), coalesce(max(id), 0) from stream_rows")
    assert row is not None
    return row[0], row[1]
