"""People: roles and their permissions, what a person may see, for whom a service is asked."""

import datetime as dt
import hashlib
from dataclasses import dataclass

from mospay_portal_api.domain.errors import Forbidden

EMAIL_PATTERN = r"^[^@\s\x00]{1,64}@[A-Za-z0-9.-]{1,190}\.[A-Za-z0-9-]{2,63}$"
READS = frozenset({"directory:read", "ledger:read", "risk:read", "functions:read", "invoices:read"})
CHANGES = frozenset(
    {
        "directory:write",
        "credentials:write",
        "endpoints:write",
        "users:write",
        "payments:resolve",
        "providers:write",
        "risk:write",
        "functions:write",
        "ledger:write",
        "payouts:create",
        "payouts:decide",
        "invoices:write",
    }
)
# Client users have no permission in the directory yet, whatever their role; their own client's
# invoices and customers they keep themselves, and an owner may ask for a payout of what is theirs.
PERMISSIONS = {
    ("admin", "owner"): READS | CHANGES,
    ("admin", "viewer"): READS,
    ("client", "owner"): frozenset({"invoices:read", "invoices:write", "payouts:create"}),
    ("client", "viewer"): frozenset({"invoices:read"}),
}
ROLES = {
    audience: tuple(role for of, role in PERMISSIONS if of == audience)
    for audience in ("admin", "client")
}


def digest(token: str, audience: str = "") -> str:
    """Return what is stored of a session token.

    A payer's is another digest than anybody else's: put into the other portal's cookie it opens
    nothing, whatever version looks at it.
    """
    told = f"payer.{token}" if audience == "payer" else token
    return hashlib.sha256(told.encode()).hexdigest()


def address_digest(email: str) -> str:
    """Return what is stored of an address that nobody here has."""
    return hashlib.sha256(email.strip().lower().encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in. `client_ids` bounds what a client user sees; None: an operator's admin."""

    user_id: str
    name: str
    email: str
    role: str
    audience: str
    company_id: str | None
    csrf_token: str
    expires_at: dt.datetime
    client_ids: frozenset[str] | None

    @property
    def operator(self) -> bool:
        """Say whether this person sees every tenant."""
        return self.client_ids is None

    def sees(self, client_id: str) -> bool:
        """Say whether this person may see a client's data."""
        return self.client_ids is None or client_id in self.client_ids

    def require(self, permission: str) -> None:
        """Raise Forbidden unless this person's role has a permission."""
        if permission not in PERMISSIONS.get((self.audience, self.role), frozenset()):
            raise Forbidden(permission)


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a change, as the audit log keeps it: a user's id or `command line`."""

    actor: str | None
    ip: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf a service of the house is asked: what its token says.

    Without `client_id` and `customer_id` the token speaks for the operator, so it is made by
    `asker` alone, or for a payer by `Payer.asker`.
    """

    actor: str
    client_id: str | None
    mode: str | None
    customer_id: str | None = None  # a payer's


def asker(person: Person, client_id: str | None, mode: str | None = None) -> Asker:
    """Return whom a token names: an admin as the operator, a client user as one of their clients.

    Raises ValueError for a client user without a client or with somebody else's: that is a bug.
    """
    if person.operator:
        return Asker(person.user_id, None, mode)
    if client_id is None or not person.sees(client_id):
        raise ValueError("a client user's token must name a client of their own")
    return Asker(person.user_id, client_id, mode)
