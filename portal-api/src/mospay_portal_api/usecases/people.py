"""Signing in and out, sessions, making people. Passwords are hashed off the event loop."""

import asyncio
import datetime as dt
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import asyncpg
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.ids import new_id
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from mospay_portal_api.domain.errors import (
    Conflict,
    Fault,
    Invalid,
    Locked,
    NotSignedIn,
    SeveralAccounts,
    WrongCredentials,
)
from mospay_portal_api.domain.payers import AUDIENCE
from mospay_portal_api.domain.people import Author, Person, address_digest, digest
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.storage import audit, directory, payers, people

HASHES = PasswordHash((Argon2Hasher(), BcryptHasher()))  # bcrypt is read and upgraded
# Each hash takes 64 MiB: a flood of logins queues here, it does not fill the memory.
_HASHING = ThreadPoolExecutor(4, thread_name_prefix="password")


@cache
def _nobody() -> str:
    return HASHES.hash(secrets.token_hex(16))


def _verify(password: str, stored: str | None) -> tuple[bool, str | None]:
    """Check a password; an unknown address costs the same time and is never right."""
    right, upgraded = HASHES.verify_and_update(password, stored or _nobody())
    return right and stored is not None, upgraded


async def warm_up() -> None:
    """Make the hash that unknown addresses are compared with, before the first of them asks."""
    await asyncio.get_running_loop().run_in_executor(_HASHING, _nobody)


async def hash_password(password: str) -> str:
    """Return an argon2id hash."""
    return await asyncio.get_running_loop().run_in_executor(_HASHING, HASHES.hash, password)


async def sign_in(
    database: Database,
    settings: PortalSettings,
    *,
    email: str,
    password: str,
    audience: str,
    by: Author,
    customer_id: str | None = None,
) -> str:
    """Check a password and open a session; return its token.

    Raises WrongCredentials or Locked; for an address nobody has, the same ones after the same
    number of tries. Every try is counted before its password is looked at. A payer's address may
    be that of several customers: SeveralAccounts, unless `customer_id` names one.
    """
    address = email.strip()
    allowed = settings.failures_allowed
    async with database.transaction() as tx:
        logins, counted = await _tried(tx, settings, audience, address)
        user_id = str(logins[0]["id"]) if logins else None
        author = Author(user_id, by.ip, by.request_id)
        if counted["tries"] > allowed:
            await audit.write(tx, author, "login_refused_locked", user_id)
    if counted["tries"] > allowed:
        raise Locked(counted["locked_until"])
    right = await _opened(logins, password, customer_id)
    if not right:
        async with database.transaction() as tx:
            await audit.write(tx, author, "login_failed", user_id, after={"audience": audience})
        raise _refusal(allowed - counted["tries"], counted["locked_until"])
    async with database.transaction() as tx:
        if audience == AUDIENCE:
            await people.forget_unknown(tx, audience, address_digest(address))
        if len(right) == 1:
            ((login, upgraded),) = right
            await people.login_succeeded(tx, login["id"], upgraded)
            return await open_session(tx, settings, audience, login["id"], by)
    raise SeveralAccounts([(one["customer_id"], _called(one)) for one, _ in right])


async def _tried(
    tx: Tx, settings: PortalSettings, audience: str, address: str
) -> tuple[list[asyncpg.Record], asyncpg.Record]:
    """Count a try at an address; return the logins it may be for, and the count.

    A payer's is counted by address alone, whether anybody has it: it may be several customers'.
    """
    limits = (settings.failures_allowed, settings.lock_seconds)
    if audience == AUDIENCE:
        counted = await people.count_unknown(tx, audience, address_digest(address), *limits)
        return await payers.logins(tx, address), counted
    user = await people.count_try(tx, audience, address, *limits)
    if user is not None:
        return [user], user
    return [], await people.count_unknown(tx, audience, address_digest(address), *limits)


async def _opened(
    logins: Sequence[asyncpg.Record], password: str, customer_id: str | None
) -> list[tuple[asyncpg.Record, str | None]]:
    """Return the logins a password opens, each with its upgraded hash if it has a new one."""
    if customer_id is not None:
        logins = [one for one in logins if one["customer_id"] == customer_id]
    loop, found = asyncio.get_running_loop(), []
    if not logins:  # somebody's or nobody's: it takes as long
        await loop.run_in_executor(_HASHING, _verify, password, None)
    for login in logins:
        stored = login["password_hash"] if login["active"] else None
        right, upgraded = await loop.run_in_executor(_HASHING, _verify, password, stored)
        if right:
            found.append((login, upgraded))
    return found


def _called(login: asyncpg.Record) -> str:
    return " · ".join(part for part in (login["issuer_name"], login["name"]) if part)


async def open_session(
    tx: Tx, settings: PortalSettings, audience: str, user_id: str, by: Author
) -> str:
    """Open a session of a user whose right to it has been checked; return its token."""
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
    kept = digest(token, audience)
    await people.insert_session(tx, kept, user_id, csrf, settings.session_seconds, by.ip)
    await audit.write(tx, Author(user_id, by.ip, by.request_id), "login", user_id)
    return token


def _refusal(attempts_left: int, locked_until: dt.datetime | None) -> Exception:
    return Locked(locked_until) if locked_until is not None else WrongCredentials(attempts_left)


async def who(
    database: Database, settings: PortalSettings, token: str | None, *, touch: bool = True
) -> Person:
    """Return who a session token belongs to; raises NotSignedIn.

    `touch` says that the person did something, which puts off the idle limit.
    """
    if not token:
        raise NotSignedIn("Sign in first")
    async with database.transaction() as tx:
        person = await people.person_of(tx, digest(token), settings.idle_seconds, touch)
    if person is None:
        raise NotSignedIn("The session has ended; sign in again")
    return person


async def sign_out(tx: Tx, person: Person, token: str, by: Author, *, everywhere: bool) -> None:
    """End this session, or all of this person's."""
    if everywhere:
        await people.delete_sessions(tx, person.user_id)
    else:
        await people.delete_session(tx, digest(token))
    await audit.write(tx, by, "logout_everywhere" if everywhere else "logout", person.user_id)


async def create_user(
    tx: Tx,
    *,
    audience: str,
    company_id: str | None,
    name: str,
    email: str,
    role: str,
    password_hash: str,
    by: Author,
) -> str:
    """Write a user and return the id; Conflict when the address is taken."""
    if company_id is not None and await directory.company(tx, company_id) is None:
        raise Invalid([Fault("company_id", "unknown", "there is no such company")])
    user_id = new_id("usr")
    values = {
        "id": user_id,
        "audience": audience,
        "company_id": company_id,
        "name": name,
        "email": email.strip(),
        "role": role,
        "password_hash": password_hash,
    }
    if not await people.insert_user(tx, values):
        raise Conflict("A user with this e-mail address exists")
    shown = {key: values[key] for key in values if key != "password_hash"}
    await audit.write(tx, by, "user_created", user_id, after=shown)
    return user_id


async def forget_ended(database: Database, settings: PortalSettings) -> None:
    """Drop ended sessions, old counts of addresses, and links of long ago."""
    async with database.transaction() as tx:
        await people.forget_ended(tx, settings.idle_seconds)
        await payers.forget_ended(tx)
