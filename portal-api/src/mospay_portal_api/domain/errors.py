"""The error tree: PortalError > NotSignedIn, WrongCredentials, Locked, Forbidden, NotFound,
Conflict > StaleVersion, SeveralAccounts, Invalid, LinkEnded, TooOften.

Each class has a stable `code`; routes alone map it to HTTP.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass


class PortalError(Exception):
    """Base of what the portal refuses; `code` is stable."""

    code = "portal_error"


class NotSignedIn(PortalError):
    """No session, or one that has ended."""

    code = "not_signed_in"


class WrongCredentials(PortalError):
    """The same words, and the same count, for a wrong password and an unknown address."""

    code = "invalid_credentials"

    def __init__(self, attempts_left: int) -> None:
        super().__init__("The e-mail address or the password is wrong")
        self.attempts_left = attempts_left


class Locked(PortalError):
    """Too many wrong passwords for this address."""

    code = "locked"

    def __init__(self, until: dt.datetime) -> None:
        super().__init__("Too many wrong passwords; this login is locked for a while")
        self.until = until


class Forbidden(PortalError):
    """Signed in, but without the permission that is named."""

    code = "forbidden"

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"This needs the permission {permission}, which an owner of the operator can grant"
        )
        self.permission = permission


class NotFound(PortalError):
    """What was named does not exist, or not for this person."""

    code = "not_found"


class Conflict(PortalError):
    """What was asked for collides with what is there."""

    code = "conflict"


class StaleVersion(Conflict):
    """Somebody else has changed it since it was read; `current` is its version now."""

    code = "stale_version"

    def __init__(self, what: str, current: int) -> None:
        super().__init__(f"The {what} has changed since you read it; read it again")
        self.current = current


class SeveralAccounts(Conflict):
    """A right password that opens the accounts of several customers; `accounts`: (id, issuer)."""

    code = "several_accounts"

    def __init__(self, accounts: Sequence[tuple[str, str]]) -> None:
        super().__init__("This address and password open several accounts; name one")
        self.accounts = list(accounts)


class LinkEnded(PortalError):
    """A mailed link that is unknown, used, replaced or too old: all are told alike."""

    code = "link_ended"


class TooOften(PortalError):
    """Asked for more often than is answered; `seconds` says when to come back."""

    code = "too_often"

    def __init__(self, seconds: int) -> None:
        super().__init__("That was asked for too often; try again later")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field of a request."""

    field: str
    code: str
    message: str


class Invalid(PortalError):
    """A request whose fields are well-formed one by one but not together."""

    code = "invalid_request"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("The request is not valid")
        self.faults = list(faults)
