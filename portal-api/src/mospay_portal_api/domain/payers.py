"""Payers: who one is, what a link is good for and how long, what a password must be. Pure."""

import datetime as dt
import re
import secrets
from dataclasses import dataclass

from mospay_portal_api.domain.errors import Fault, Invalid
from mospay_portal_api.domain.people import Asker, Author

AUDIENCE = "payer"
LOGINS_LIMIT = 5  # customers with one address whose passwords one sign-in is compared with
PASSWORD_LEAST, PASSWORD_MOST = 12, 200  # characters; the hash takes longer ones, a page does not
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)
LASTS = {
    "invite": dt.timedelta(days=7),
    "reset": dt.timedelta(minutes=30),
    "verify": dt.timedelta(hours=24),
}


@dataclass(frozen=True, slots=True)
class Payer:
    """Who is signed in as a payer: one customer of one issuer, in one mode."""

    user_id: str
    customer_id: str
    client_id: str | None
    mode: str
    name: str
    email: str
    locale: str
    issuer_name: str
    colour: str | None
    csrf_token: str
    expires_at: dt.datetime

    def asker(self) -> Asker:
        """Return whom a token names: this customer alone, of its client (None: the operator's)."""
        return Asker(self.user_id, self.client_id, self.mode, self.customer_id)

    def author(self, by: Author) -> Author:
        """Return this payer as the audit log keeps it."""
        return Author(self.user_id, by.ip, by.request_id)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who invoices a payer, as mails name it."""

    name: str
    email: str | None
    colour: str


def new_token() -> str:
    """Return a fresh token of a link: 24 random bytes."""
    return secrets.token_urlsafe(24)


def check_password(password: str, email: str) -> None:
    """Raise Invalid for a password that is too short, too long, or easily guessed."""
    code, why = "", ""
    if len(password) < PASSWORD_LEAST:
        code, why = "too_short", f"must have at least {PASSWORD_LEAST} characters"
    elif len(password) > PASSWORD_MOST:
        code, why = "too_long", f"must have at most {PASSWORD_MOST} characters"
    elif len(set(password)) < 4 or password.strip().lower() == email.strip().lower():
        code, why = "too_simple", "must not be the address, or a few characters repeated"
    if code:
        raise Invalid([Fault("password", code, why)])
