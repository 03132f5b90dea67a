"""Payers' accounts and logins: they follow the ledger's customers; links by mail open them once.

A token is made while its mail is composed, and its hash alone is kept (ADR 0014).
"""

import datetime as dt
from collections.abc import Sequence

import asyncpg
from mospay_shared.chassis.database import Database, Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import CustomerEventV1, Event, MailPayerV1, outgoing
from mospay_shared.ids import new_id

from mospay_portal_api.domain.errors import (
    Conflict,
    LinkEnded,
    NotSignedIn,
    TooOften,
)
from mospay_portal_api.domain.payers import (
    AUDIENCE,
    LASTS,
    TOKEN,
    Issuer,
    Payer,
    check_password,
    new_token,
)
from mospay_portal_api.domain.people import Author, address_digest, digest
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.storage import audit, people
from mospay_portal_api.storage import payers as storage
from mospay_portal_api.usecases.people import hash_password, open_session

NO_LINK = "This link is used, replaced or too old; ask for a new one"


async def follow(tx: Tx, events: Sequence[Event[CustomerEventV1]]) -> None:
    """Bring accounts to what the ledger says of their customers, by version, in any order.

    An account that is switched off, given up or without an address loses its sessions at once. One
    whose address moves loses its links; and its password, unless the payer had proven that address.
    """
    newest: dict[str, CustomerEventV1] = {}
    for event in events:
        told = newest.get(event.data.customer_id)
        if told is None or event.data.version > told.version:
            newest[event.data.customer_id] = event.data
    before = await storage.held(tx, list(newest))
    written = await storage.follow(tx, [body.model_dump() for body in newest.values()])
    moved = {
        row["customer_id"]: row["email"]
        for row in written
        if row["email"] is not None
        and (old := before.get(row["customer_id"])) is not None
        and _differ(old["email"], row["email"])
    }
    foreign = [
        one for one, email in moved.items() if _differ(before[one]["confirmed_email"], email)
    ]
    if moved:
        await storage.move(tx, moved)
    if foreign:
        await storage.forget_passwords(tx, foreign)
    on = [row["customer_id"] for row in written if row["live"]]
    off = [row["customer_id"] for row in written if not row["live"]]
    await storage.switch(tx, on, off)


def _differ(one: str | None, other: str | None) -> bool:
    return (one or "").lower() != (other or "").lower()


async def invite(
    tx: Tx, relay: Relay, customer_id: str, version: int, issuer: Issuer, by: Author
) -> dt.datetime:
    """Send a customer the link that makes its login; return when that ends.

    Sent again, the one before is void. `version` is what the ledger has, with the portal on. Raises
    Conflict for an account that is not as far yet, or has a login.
    """
    account = await storage.account(tx, customer_id, hold=True)
    if account is None or account["version"] < version or not account["live"]:
        raise Conflict("This customer's account is still being made; try again in a moment")
    login = await storage.login_of(tx, customer_id)
    if login is not None and login["ready"]:
        raise Conflict("This customer has a login already; a new password is theirs to ask for")
    await storage.name_issuer(tx, customer_id, issuer.name, issuer.email, issuer.colour)
    until = await _mail(tx, relay, account, "invite", account["email"], issuer, by)
    await audit.write(tx, by, "payer_invited", customer_id, after={"until": until.isoformat()})
    return until


async def ask_reset(tx: Tx, relay: Relay, settings: PortalSettings, email: str, by: Author) -> None:
    """Send every login of an address a link for a new password; nobody learns who has one.

    Raises TooOften beyond so many an hour, of an address (known or not) or of an IP.
    """
    address = email.strip()
    await _within(tx, settings, f"address:{address_digest(address)}", f"ip:{by.ip}")
    for login in await storage.logins(tx, address):
        account = await storage.account(tx, login["customer_id"])
        if login["active"] and account is not None and account["live"]:
            issuer = _issuer_of(account)
            await _mail(tx, relay, account, "reset", account["email"], issuer, by)
            await audit.write(tx, by, "payer_reset_asked", login["customer_id"])


async def ask_email(
    tx: Tx, relay: Relay, settings: PortalSettings, payer: Payer, email: str, by: Author
) -> None:
    """Send a link to the address a payer wants to have: it moves when that is opened.

    Raises TooOften.
    """
    await _within(tx, settings, f"email:{payer.customer_id}", f"ip:{by.ip}")
    account = await storage.account(tx, payer.customer_id)
    if account is None or not account["live"]:
        raise NotSignedIn("The session has ended; sign in again")
    await _mail(tx, relay, account, "verify", email, _issuer_of(account), by)
    await audit.write(tx, by, "payer_email_asked", payer.customer_id)


async def arm(tx: Tx, link_id: str) -> tuple[str, str] | None:
    """Return kind and fresh token of a link whose mail is being composed; None if it is over."""
    token = new_token()
    kind = await storage.arm_link(tx, link_id, digest(token))
    return None if kind is None else (kind, token)


async def look(database: Database, token: str, kind: str) -> asyncpg.Record:
    """Return the link of a token without using it; raises LinkEnded."""
    found = None
    if TOKEN.fullmatch(token):
        async with database.transaction() as tx:
            found = await storage.link_of(tx, digest(token), kind)
    if found is None:
        raise LinkEnded(NO_LINK)
    return found


async def set_password(
    database: Database, settings: PortalSettings, *, token: str, kind: str, password: str,
    by: Author,
) -> str:  # fmt: skip
    """Use an invitation or a reset up: keep the password, end other sessions, open a new one.

    Returns the session's token. Raises LinkEnded, Invalid (the link is good for another try).
    """
    link = await look(database, token, kind)
    check_password(password, link["email"])
    hashed = await hash_password(password)
    async with database.transaction() as tx:
        account = await storage.account(tx, link["customer_id"], hold=True)
        used = await storage.use_link(tx, digest(token), kind)
        gone = account is None or not account["live"] or _differ(account["email"], link["email"])
        if used is None or account is None or gone:
            raise LinkEnded(NO_LINK)
        user_id = await storage.keep_login(
            tx, new_id("usr"), account["customer_id"], account["name"], account["email"], hashed
        )
        await storage.end_sessions(tx, [account["customer_id"]])
        await people.forget_unknown(tx, AUDIENCE, address_digest(account["email"]))
        author = Author(user_id, by.ip, by.request_id)
        action = "payer_invite_accepted" if kind == "invite" else "payer_password_reset"
        await audit.write(tx, author, action, account["customer_id"])
        return await open_session(tx, settings, AUDIENCE, user_id, by)


async def prove_email(tx: Tx, link: asyncpg.Record) -> asyncpg.Record:
    """Note that a payer has its new address; return the account it is of. Raises LinkEnded.

    The link stays good until the ledger has the address: `email_moved` uses it up.
    """
    account = await storage.account(tx, link["customer_id"], hold=True)
    if account is None or not account["live"]:
        raise LinkEnded(NO_LINK)
    await storage.confirm_email(tx, link["customer_id"], link["email"])
    return account


async def email_moved(tx: Tx, token: str, link: asyncpg.Record, by: Author) -> None:
    """Use the link of a new address up: the ledger has taken the address."""
    await storage.use_link(tx, digest(token), "verify")
    login = await storage.login_of(tx, link["customer_id"])
    author = Author(None if login is None else login["id"], by.ip, by.request_id)
    await audit.write(tx, author, "payer_email_changed", link["customer_id"])


async def who(
    database: Database, settings: PortalSettings, token: str | None, *, touch: bool = True
) -> Payer:
    """Return the payer a session token belongs to; raises NotSignedIn."""
    if not token:
        raise NotSignedIn("Sign in first")
    async with database.transaction() as tx:
        idle = settings.payer_idle_seconds
        found = await storage.payer_of(tx, digest(token, AUDIENCE), idle, touch)
    if found is None:
        raise NotSignedIn("The session has ended; sign in again")
    return found


async def sign_out(tx: Tx, payer: Payer, token: str, by: Author, *, everywhere: bool) -> None:
    """End this session, or all of this payer's."""
    if everywhere:
        await people.delete_sessions(tx, payer.user_id)
    else:
        await people.delete_session(tx, digest(token, AUDIENCE))
    action = "logout_everywhere" if everywhere else "logout"
    await audit.write(tx, payer.author(by), action, payer.user_id)


async def note(database: Database, payer: Payer, by: Author, action: str, subject: str) -> None:
    """Write down what a payer did; never what it typed."""
    async with database.transaction() as tx:
        await audit.write(tx, payer.author(by), action, subject)


async def _within(tx: Tx, settings: PortalSettings, *keys: str) -> None:
    for key in sorted(keys):
        if await storage.asked(tx, key) > settings.payer_mails_per_hour:
            raise TooOften(3600)


def _issuer_of(account: asyncpg.Record) -> Issuer:
    return Issuer(
        account["issuer_name"] or "MosPay", account["issuer_email"], account["colour"] or "#1f4b99"
    )


async def _mail(
    tx: Tx, relay: Relay, account: asyncpg.Record, kind: str, email: str, issuer: Issuer, by: Author
) -> dt.datetime:
    """Make a link and have its mail sent; return when the link ends."""
    link_id, customer_id = new_id("pln"), account["customer_id"]
    lasts = LASTS[kind]
    until = await storage.insert_link(tx, link_id, customer_id, kind, email, lasts, by.actor)
    body = MailPayerV1(
        mail_id=link_id,
        kind=kind,
        customer_id=customer_id,
        client_id=account["client_id"],
        mode=account["mode"],
        customer_name=account["name"],
        customer_email=email,
        locale=account["locale"],
        issuer_name=issuer.name,
        issuer_email=issuer.email,
        colour=issuer.colour,
        valid_until=until,
        occurred_at=dt.datetime.now(dt.UTC),
    )
    message = outgoing("payers.mail.v1", link_id, body, source="portal-api")
    await relay.enqueue(tx, [message])
    return until
