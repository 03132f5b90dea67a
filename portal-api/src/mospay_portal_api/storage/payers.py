"""SQL of payers: their accounts (what the ledger says of customers), logins, links, counts."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_portal_api.domain.payers import AUDIENCE, LOGINS_LIMIT, Payer
from mospay_portal_api.storage.people import SESSION

_FIELDS = (
    "customer_id", "issuer_id", "client_id", "recipient_client_id", "mode", "name", "email",
    "locale", "active", "portal_enabled", "version",
)  # fmt: skip
_TYPES = ("text",) * 8 + ("bool", "bool", "bigint")
_CHANGED = ("name", "email", "locale", "active", "portal_enabled", "version")
_LIVE = "(active and portal_enabled and email is not null)"
# Rows are held in id order, so that two batches never wait for each other.
_HELD = """
select customer_id, email, confirmed_email from payer_accounts
where customer_id = any($1::text[]) order by customer_id for update"""
_FOLLOW = f"""
insert into payer_accounts ({", ".join(_FIELDS)})
select * from unnest({", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_TYPES, 1))})
on conflict (customer_id) do update set updated_at = now(),
    {", ".join(f"{name} = excluded.{name}" for name in _CHANGED)}
where payer_accounts.version < excluded.version
returning customer_id, email, {_LIVE} as live"""
_PAYER = f"""{SESSION}
select u.id as user_id, a.customer_id, a.client_id, a.mode, a.name, u.email, a.locale,
    coalesce(a.issuer_name, '') as issuer_name, a.colour, f.csrf_token,
    least(f.expires_at, case when $3 then now() else f.seen_at end
        + make_interval(secs => $2)) as expires_at
from found f join users u on u.id = f.user_id
    join payer_accounts a on a.customer_id = u.customer_id
where u.audience = '{AUDIENCE}' and u.active and a.active and a.portal_enabled"""
_LOGINS = f"""
select u.id, u.active, u.password_hash, u.customer_id, a.issuer_name, a.name
from users u join payer_accounts a on a.customer_id = u.customer_id
where u.audience = '{AUDIENCE}' and lower(u.email) = lower($1)
order by u.last_login_at desc nulls last, u.id limit {LOGINS_LIMIT}"""
_GOOD = "used_at is null and revoked_at is null and expires_at > now()"
_KEEP_LOGIN = f"""
insert into users (id, audience, customer_id, name, email, role, password_hash)
values ($1, '{AUDIENCE}', $2, $3, $4, '{AUDIENCE}', $5)
on conflict (customer_id) do update set password_hash = excluded.password_hash,
    email = excluded.email, name = excluded.name, active = true, failed_attempts = 0,
    locked_until = null
returning id"""
_ASK = """
insert into payer_asks (key, hour, asked) values ($1, date_trunc('hour', now()), 1)
on conflict (key, hour) do update set asked = payer_asks.asked + 1 returning asked"""


async def held(tx: Tx, customer_ids: Sequence[str]) -> dict[str, asyncpg.Record]:
    """Return the accounts that are there already, and hold them."""
    rows = await tx.fetch(_HELD, sorted(customer_ids))
    return {row["customer_id"]: row for row in rows}


async def follow(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[asyncpg.Record]:
    """Write accounts whose version is newer (each customer once); return what was written."""
    ordered = sorted(rows, key=lambda row: str(row["customer_id"]))
    return await tx.fetch(_FOLLOW, *([row[name] for row in ordered] for name in _FIELDS))


async def move(tx: Tx, emails: dict[str, str]) -> None:
    """Let logins follow the addresses of their customers; links to the old ones are void."""
    await tx.run(
        "update users u set email = n.email from unnest($1::text[], $2::text[]) as n(id, email) "
        "where u.customer_id = n.id",
        list(emails), list(emails.values()),
    )  # fmt: skip
    await tx.run(
        "update payer_links set revoked_at = now() where customer_id = any($1::text[]) "
        f"and {_GOOD}",
        list(emails),
    )


async def forget_passwords(tx: Tx, customer_ids: Sequence[str]) -> None:
    """Take passwords away: whoever has them is not whom the address now names."""
    await tx.run(
        "update users set password_hash = null where customer_id = any($1::text[])", customer_ids
    )
    await end_sessions(tx, customer_ids)


async def switch(tx: Tx, on: Sequence[str], off: Sequence[str]) -> None:
    """Let logins of these customers in, and of those out: their sessions and links end."""
    await tx.run("update users set active = true where customer_id = any($1::text[])", on)
    await tx.run("update users set active = false where customer_id = any($1::text[])", off)
    await end_sessions(tx, off)
    await tx.run(
        "update payer_links set revoked_at = now() where customer_id = any($1::text[]) "
        f"and {_GOOD}",
        off,
    )


async def end_sessions(tx: Tx, customer_ids: Sequence[str]) -> None:
    """End all sessions of customers' logins."""
    await tx.run(
        "delete from sessions where user_id in (select id from users "
        "where customer_id = any($1::text[]))",
        customer_ids,
    )


async def payer_of(tx: Tx, token_hash: str, idle_seconds: int, touch: bool) -> Payer | None:
    """Return the payer a session belongs to; None when it has ended or the portal is off."""
    row = await tx.row(_PAYER, token_hash, float(idle_seconds), touch)
    return None if row is None else Payer(**dict(row))


async def logins(tx: Tx, email: str) -> list[asyncpg.Record]:
    """Return the logins of an address, the one used last first; at most LOGINS_LIMIT."""
    return await tx.fetch(_LOGINS, email)


async def account(tx: Tx, customer_id: str, *, hold: bool = False) -> asyncpg.Record | None:
    """Return an account and whether it is `live`: switched on, with an address."""
    lock = " for update of a" if hold else ""
    return await tx.row(
        f"select a.*, {_LIVE} as live from payer_accounts a where customer_id = $1{lock}",
        customer_id,
    )


async def login_of(tx: Tx, customer_id: str) -> asyncpg.Record | None:
    """Return a customer's login: id, last_login_at, whether it has a password."""
    return await tx.row(
        "select id, last_login_at, password_hash is not null as ready from users "
        "where customer_id = $1",
        customer_id,
    )


async def keep_login(
    tx: Tx, user_id: str, customer_id: str, name: str, email: str, password_hash: str
) -> str:
    """Make a customer's login, or give it a new password; return its id."""
    made: str = await tx.value(_KEEP_LOGIN, user_id, customer_id, name, email, password_hash)
    return made


async def name_issuer(tx: Tx, customer_id: str, name: str, email: str | None, colour: str) -> None:
    """Note who invoices a customer, for mails that nobody is signed in for."""
    await tx.run(
        "update payer_accounts set issuer_name = $2, issuer_email = $3, colour = $4 "
        "where customer_id = $1",
        customer_id, name, email, colour,
    )  # fmt: skip


async def insert_link(
    tx: Tx, link_id: str, customer_id: str, kind: str, email: str, lasts: dt.timedelta,
    by: str | None,
) -> dt.datetime:  # fmt: skip
    """Write a link, which ends those of its kind before it; return when it ends."""
    await tx.run(
        "update payer_links set revoked_at = now() where customer_id = $1 and kind = $2 "
        f"and {_GOOD}",
        customer_id, kind,
    )  # fmt: skip
    until: dt.datetime = await tx.value(
        "insert into payer_links (id, customer_id, kind, email, created_by, expires_at) "
        "values ($1, $2, $3, $4, $5, now() + $6::interval) returning expires_at",
        link_id, customer_id, kind, email, by, lasts,
    )  # fmt: skip
    return until


async def arm_link(tx: Tx, link_id: str, token_hash: str) -> str | None:
    """Give a link its token, in the place of one that may not have arrived; return its kind."""
    kind: str | None = await tx.value(
        f"update payer_links set token_hash = $2 where id = $1 and {_GOOD} returning kind",
        link_id, token_hash,
    )  # fmt: skip
    return kind


async def link_of(tx: Tx, token_hash: str, kind: str) -> asyncpg.Record | None:
    """Return the link of a token that holds now."""
    return await tx.row(
        f"select * from payer_links where token_hash = $1 and kind = $2 and {_GOOD}",
        token_hash, kind,
    )  # fmt: skip


async def use_link(tx: Tx, token_hash: str, kind: str) -> asyncpg.Record | None:
    """Use a link up, once; None for one that does not hold."""
    return await tx.row(
        "update payer_links set used_at = now() where token_hash = $1 and kind = $2 "
        f"and {_GOOD} returning *",
        token_hash, kind,
    )  # fmt: skip


async def newest_link(tx: Tx, customer_id: str, kind: str) -> asyncpg.Record | None:
    """Return the newest link of a kind: when it was made, ends, was used or revoked."""
    return await tx.row(
        "select created_at, expires_at, used_at, revoked_at from payer_links "
        "where customer_id = $1 and kind = $2 order by created_at desc limit 1",
        customer_id, kind,
    )  # fmt: skip


async def confirm_email(tx: Tx, customer_id: str, email: str) -> None:
    """Note that the payer has proven an address: its login keeps the password when it moves."""
    await tx.run(
        "update payer_accounts set confirmed_email = $2 where customer_id = $1", customer_id, email
    )


async def asked(tx: Tx, key: str) -> int:
    """Count a wish for a mail, and return how many there were in this hour."""
    count: int = await tx.value(_ASK, key)
    return count


async def forget_ended(tx: Tx) -> None:
    """Drop links a month after their end and counts of past hours."""
    await tx.run("delete from payer_links where expires_at < now() - interval '30 days'")
    await tx.run("delete from payer_asks where hour < now() - interval '2 hours'")
