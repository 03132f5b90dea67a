"""Signing in and out, sessions, making people. Passwords are hashed off the event loop."""

import asyncio
import datetime as dt
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache

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
    WrongCredentials,
)
from mospay_portal_api.domain.people import Author, Person, address_digest, digest
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.storage import audit, directory, people

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
) -> str:
    """Check a password and open a session; return its token.

    Raises WrongCredentials or Locked; for an address nobody has, the same ones after the same
    number of tries. Every try is counted before its password is looked at.
    """
    address = email.strip()
    allowed, lock = settings.failures_allowed, settings.lock_seconds
    async with database.transaction() as tx:
        user = await people.count_try(tx, audience, address, allowed, lock)
        counted = user or await people.count_unknown(
            tx, audience, address_digest(address), allowed, lock
        )
        user_id = None if user is None else str(user["id"])
        author = Author(user_id, by.ip, by.request_id)
        if counted["tries"] > allowed:
            await audit.write(tx, author, "login_refused_locked", user_id)
    if counted["tries"] > allowed:
        raise Locked(counted["locked_until"])
    stored = user["password_hash"] if user is not None and user["active"] else None
    loop = asyncio.get_running_loop()
    right, upgraded = await loop.run_in_executor(_HASHING, _verify, password, stored)
    if not right or user_id is None:
        async with database.transaction() as tx:
            await audit.write(tx, author, "login_failed", user_id, after={"audience": audience})
        raise _refusal(allowed - counted["tries"], counted["locked_until"])
    token = secrets.token_urlsafe(32)
    csrf, seconds = secrets.token_urlsafe(24), settings.session_seconds
    async with database.transaction() as tx:
        await people.login_succeeded(tx, user_id, upgraded)
        await people.insert_session(tx, digest(token), user_id, csrf, seconds, by.ip)
        await audit.write(tx, author, "login", user_id)
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
    """Drop ended sessions and old counts of addresses nobody has."""
    async with database.transaction() as tx:
        await people.forget_ended(tx, settings.idle_seconds)
