"""Signing in and out, sessions, making people. Passwords are hashed off the event loop."""

import asyncio
import datetime as dt
import secrets

from mospay_shared.chassis.database import Database, Tx
from mospay_shared.ids import new_id
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from mospay_portal_api.domain import Conflict, Locked, NotSignedIn, Person, WrongCredentials, digest
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.storage import people

HASHES = PasswordHash((Argon2Hasher(), BcryptHasher()))  # bcrypt is read and upgraded
_NOBODY = HASHES.hash(secrets.token_hex(16))  # unknown addresses cost the same time


async def hash_password(password: str) -> str:
    """Return an argon2id hash."""
    return await asyncio.to_thread(HASHES.hash, password)


async def sign_in(
    database: Database,
    settings: PortalSettings,
    *,
    email: str,
    password: str,
    audience: str,
    ip: str | None,
) -> tuple[str, str]:
    """Check a password and open a session; return its token and the user's id.

    Raises WrongCredentials (same words for unknown addresses) or Locked.
    """
    async with database.transaction() as tx:
        user = await people.user_for_update(tx, audience, email)
        now = dt.datetime.now(dt.UTC)
        if user is not None and user["locked_until"] and user["locked_until"] > now:
            await people.audit(tx, "login_refused_locked", actor=user["id"], ip=ip)
            locked: dt.datetime | None = user["locked_until"]
        else:
            locked = None
    if locked is not None:
        raise Locked(locked)
    stored = user["password_hash"] if user is not None and user["active"] else _NOBODY
    right, upgraded = await asyncio.to_thread(HASHES.verify_and_update, password, stored)
    if user is None or not user["active"] or not right:
        raise await _refused(database, settings, user, ip)
    token = secrets.token_urlsafe(32)
    async with database.transaction() as tx:
        await people.login_succeeded(tx, user["id"], upgraded)
        await people.insert_session(
            tx,
            digest(token),
            user["id"],
            secrets.token_urlsafe(24),
            settings.session_seconds,
            ip,
        )
        await people.audit(tx, "login", actor=user["id"], ip=ip)
    return token, user["id"]


async def _refused(
    database: Database, settings: PortalSettings, user: object, ip: str | None
) -> Exception:
    """Count and write down a wrong password; return what to raise."""
    async with database.transaction() as tx:
        if user is None:
            await people.audit(tx, "login_failed_unknown", actor=None, ip=ip)
            return WrongCredentials(None)
        user_id = str(user["id"])  # type: ignore[index]
        row = await people.login_failed(
            tx, user_id, settings.failures_allowed, settings.lock_seconds
        )
        await people.audit(tx, "login_failed", actor=user_id, ip=ip)
    if row["locked_until"] is not None:
        return Locked(row["locked_until"])
    return WrongCredentials(settings.failures_allowed - row["failed_attempts"])


async def who(database: Database, settings: PortalSettings, token: str | None) -> Person:
    """Return who a session token belongs to; raises NotSignedIn."""
    if not token:
        raise NotSignedIn("Sign in first")
    async with database.transaction() as tx:
        person = await people.person_of(tx, digest(token), settings.idle_seconds)
    if person is None:
        raise NotSignedIn("The session has ended; sign in again")
    return person


async def sign_out(tx: Tx, person: Person, token: str, *, everywhere: bool) -> None:
    """End this session, or all of this person's."""
    if everywhere:
        await people.delete_sessions(tx, person.user_id)
    else:
        await people.delete_session(tx, digest(token))
    await people.audit(tx, "logout_everywhere" if everywhere else "logout", actor=person.user_id)


async def create_user(
    tx: Tx,
    *,
    audience: str,
    company_id: str | None,
    name: str,
    email: str,
    role: str,
    password_hash: str,
    actor: str | None,
) -> str:
    """Write a user and return the id; Conflict when the address is taken."""
    user_id = new_id("usr")
    values = {
        "id": user_id,
        "audience": audience,
        "company_id": company_id,
        "name": name,
        "email": email,
        "role": role,
        "password_hash": password_hash,
    }
    if not await people.insert_user(tx, values):
        raise Conflict("A user with this e-mail address exists")
    shown = {key: values[key] for key in values if key != "password_hash"}
    await people.audit(tx, "user_created", actor=actor, subject=user_id, after=shown)
    return user_id


async def forget_old(tx: Tx, settings: PortalSettings) -> None:
    """Drop ended sessions, and live rows past the time a browser may ask for them again."""
    await people.delete_old(tx, settings.stream_kept_seconds)
