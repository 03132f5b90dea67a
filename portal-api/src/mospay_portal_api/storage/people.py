"""SQL of people, their logins and sessions."""

from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_portal_api.domain.people import Person

# A try is counted before the password is looked at, so that tries made at once all count; a
# right password takes its count back. A lock that has run out starts a new count. More tries than
# are allowed say that the login was locked before this one.
_TRIES = "case when {0}.locked_until <= now() then 1 else least({0}.failed_attempts + 1, 1000) end"
_UNTIL = f"""case when {{0}}.locked_until > now() then {{0}}.locked_until
    when {_TRIES} >= $3 then now() + make_interval(secs => $4) end"""
_COUNT_KNOWN = f"""
update users u set failed_attempts = {_TRIES.format("u")}, locked_until = {_UNTIL.format("u")}
where u.audience = $1 and lower(u.email) = lower($2)
returning id, active, password_hash, failed_attempts as tries, locked_until"""
_COUNT_UNKNOWN = f"""
insert into unknown_logins as k (audience, address_hash, failed_attempts, locked_until)
values ($1, $2, 1, case when $3::int <= 1 then now() + make_interval(secs => $4) end)
on conflict (audience, address_hash) do update set at = now(),
    failed_attempts = {_TRIES.format("k")}, locked_until = {_UNTIL.format("k")}
returning failed_attempts as tries, locked_until"""
# $1 the token's hash, $2 the idle limit in seconds, $3 whether this is a use of the session.
SESSION = """
with found as (
    select s.token_hash, s.user_id, s.csrf_token, s.seen_at, s.expires_at
    from sessions s
    where s.token_hash = $1 and s.expires_at > now()
        and s.seen_at > now() - make_interval(secs => $2)),
touched as (
    update sessions s set seen_at = now() from found f
    where s.token_hash = f.token_hash and $3 and f.seen_at < now() - interval '20 s')"""
_PERSON = f"""{SESSION}
select u.id, u.name, u.email, u.role, u.audience, u.company_id, f.csrf_token,
    least(f.expires_at, case when $3 then now() else f.seen_at end
        + make_interval(secs => $2)) as expires_at,
    case when u.audience = 'client' then (
        select coalesce(array_agg(c.id), '{{}}') from clients c
        where c.company_id = u.company_id and not c.deleted) end as client_ids
from found f join users u on u.id = f.user_id
where u.active and u.audience in ('admin', 'client')"""


async def count_try(
    tx: Tx, audience: str, email: str, allowed: int, lock_seconds: int
) -> asyncpg.Record | None:
    """Count a try at a login before its password is checked; None when nobody has the address.

    The row has the user's id, hash, the `tries` so far and `locked_until`.
    """
    return await tx.row(_COUNT_KNOWN, audience, email, allowed, float(lock_seconds))


async def count_unknown(
    tx: Tx, audience: str, address_hash: str, allowed: int, lock_seconds: int
) -> asyncpg.Record:
    """Count a try at an address nobody has, by the same rules."""
    row = await tx.row(_COUNT_UNKNOWN, audience, address_hash, allowed, float(lock_seconds))
    assert row is not None
    return row


async def forget_unknown(tx: Tx, audience: str, address_hash: str) -> None:
    """Reset the count of an address."""
    await tx.run(
        "delete from unknown_logins where audience = $1 and address_hash = $2",
        audience,
        address_hash,
    )


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
    keys = ("id", "audience", "company_id", "name", "email", "role", "password_hash")
    tag = await tx.run(
        f"insert into users ({', '.join(keys)}) values ($1, $2, $3, $4, $5, $6, $7) "
        "on conflict do nothing",
        *(values[key] for key in keys),
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


async def person_of(tx: Tx, token_hash: str, idle_seconds: int, touch: bool) -> Person | None:
    """Return who a session belongs to; None when it has ended, or is a payer's.

    `touch` says that it is used.
    """
    row = await tx.row(_PERSON, token_hash, float(idle_seconds), touch)
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


async def close_company(tx: Tx, company_id: str) -> int:
    """Deactivate a company's users and end their sessions; return how many users."""
    rows = await tx.fetch(
        "update users set active = false where company_id = $1 and active returning id", company_id
    )
    await tx.run(
        "delete from sessions where user_id in (select id from users where company_id = $1)",
        company_id,
    )
    return len(rows)


async def forget_ended(tx: Tx, idle_seconds: int) -> None:
    """Drop ended sessions, and counts of unknown addresses after a day."""
    await tx.run(
        "delete from sessions where expires_at < now() "
        "or seen_at < now() - make_interval(secs => $1)",
        float(idle_seconds),
    )
    await tx.run("delete from unknown_logins where at < now() - interval '1 day'")
