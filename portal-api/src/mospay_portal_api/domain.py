"""Rules of the portal: passwords, secrets, who may what, and a trace in plain words. Pure."""

import base64
import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EMAIL_PATTERN = r"^[^@\s]{1,64}@[A-Za-z0-9.-]{1,190}\.[A-Za-z0-9-]{2,63}$"
ROLES = {"admin": ("owner", "viewer"), "client": ("owner", "viewer")}


class PortalError(Exception):
    """Base of what the portal refuses; `code` is stable."""

    code = "portal_error"


class NotFound(PortalError):
    """What was named does not exist, or not for this person."""

    code = "not_found"


class Conflict(PortalError):
    """What was asked for collides with what is there."""

    code = "conflict"


class StaleVersion(PortalError):
    """Somebody else has changed it since it was read."""

    code = "stale_version"


class NotSignedIn(PortalError):
    """No session, or one that has ended."""

    code = "not_signed_in"


class WrongCredentials(PortalError):
    """The same words for a wrong password and an unknown address."""

    code = "invalid_credentials"

    def __init__(self, attempts_left: int | None) -> None:
        super().__init__("The e-mail address or the password is wrong")
        self.attempts_left = attempts_left


class Locked(PortalError):
    """Too many wrong passwords."""

    code = "locked"

    def __init__(self, until: dt.datetime) -> None:
        super().__init__("Too many wrong passwords; this login is locked for a while")
        self.until = until


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
    def may_write(self) -> bool:
        """Say whether the role allows changes."""
        return self.role == "owner"

    def sees(self, client_id: str) -> bool:
        """Say whether this person may see a client's data."""
        return self.client_ids is None or client_id in self.client_ids


def digest(token: str) -> str:
    """Return what is stored of a session token."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A generated credential: what is stored, and what is shown this once."""

    lookup: str
    secret_hash: str
    shown: Mapping[str, str]


def api_password(app_id: str, pepper: bytes) -> NewCredential:
    """Return a user name and a 192-bit password; stored as a keyed hash (conventions)."""
    username, password = f"{app_id}_{secrets.token_hex(3)}", secrets.token_urlsafe(24)
    stored = hmac.digest(pepper, password.encode(), "sha256").hex()
    return NewCredential(username, stored, {"username": username, "password": password})


def api_key(mode: str) -> NewCredential:
    """Return a key `mp_<mode>_<prefix>_<secret>`; the prefix is looked up, the secret hashed."""
    prefix = secrets.token_hex(6)
    secret = base64.b32encode(secrets.token_bytes(25)).decode().lower().rstrip("=")
    stored = hashlib.sha256(secret.encode()).hexdigest()
    return NewCredential(prefix, stored, {"api_key": f"mp_{mode}_{prefix}_{secret}"})


_HEADLINES = {
    "processing": ("The payment is on its way", "We wait for the provider's answer.", "Wait."),
    "succeeded": ("The payer has paid", "The provider has proven it.", "Nothing to do."),
    "failed": ("The payment did not happen", "No money has moved.", "The payer may try again."),
    "unknown": (
        "Nobody knows yet whether the payer has paid",
        "The provider took the payment but its answer did not arrive.",
        "Do not ask the payer to pay again. We keep asking the provider until it is proven.",
    ),
    "requires_customer_action": (
        "The payer has to confirm",
        "The provider waits for the payer, usually on the phone.",
        "Ask the payer to look at the phone.",
    ),
    "held": ("The payment is held for review", "A risk rule asked for a person.", "Wait."),
    "conflicted": (
        "The provider's amount differs from ours",
        "The provider names another amount or currency than was asked for.",
        "Two people of the operator resolve it; do not hand out goods yet.",
    ),
    "cancelled": ("The payment was cancelled", "It was never sent.", "Nothing to do."),
    "expired": ("The payment has expired", "The payer did not pay in time.", "Start a new one."),
}


def explain(status: str, reason_code: str | None, reason: str | None, late: bool) -> dict[str, str]:
    """Say in a cashier's words what a payment's state means: headline, cause, next action."""
    known = _HEADLINES.get(status, ("The payment's state is " + status, "", "Ask the operator."))
    headline, cause, action = known
    if reason and status not in ("succeeded",):
        cause = f"{cause} {reason}".strip()
    if late:
        headline, action = (
            "The payer has paid, later than we were told",
            "Compare with a second payment of the same order; one of them may have to go back.",
        )
    return {"headline": headline, "cause": cause, "next_action": action}


def missing_hops(
    payment: Mapping[str, Any],
    hops: Sequence[Mapping[str, Any]],
    unavailable: Sequence[str],
    now: dt.datetime,
    expected_seconds: float,
) -> list[dict[str, Any]]:
    """Return the services that should have been part of a payment by now and were not seen."""
    since = (now - _instant(payment["updated_at"])).total_seconds()
    if since < expected_seconds:
        return []
    wanted = {"gateway": "acceptance", "payment-router": "payments.process.v1"}
    wanted["reporter"] = "payment events"
    if payment["status"] == "succeeded":
        wanted["ledger"] = "journal entry"
    seen = {str(hop["service"]) for hop in hops} | set(unavailable)
    return [
        {"service": service, "what": what, "since_seconds": int(since)}
        for service, what in wanted.items()
        if service not in seen
    ]


def _instant(value: object) -> dt.datetime:
    return value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
