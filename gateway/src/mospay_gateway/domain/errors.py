"""The error tree of the gateway.

GatewayError
├── NotAuthenticated      no credential, or one that is not (or no longer) good
├── NotAllowed            a good credential that may not do this
├── InvalidRequest        faults of the body, each with its field
│   └── NotJson           the body can't be read at all
├── InvalidKey            the Idempotency-Key is missing or malformed
├── KeyReused             the same Idempotency-Key came with another payload
├── ReferenceReused       the same reference came with another payload
├── StillOpen             the first request with this key or reference has not committed yet
└── NotFound              no such thing, or not this tenant's
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one field, named as the caller named it; never with the value."""

    field: str
    code: str
    message: str


class GatewayError(Exception):
    """Something the caller can understand; `code` is stable, the message is for a person."""

    code = "refused"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code


class NotAuthenticated(GatewayError):
    """No credential, or not a good one."""

    code = "not_authenticated"


class NotAllowed(GatewayError):
    """The credential is good, the wish is not."""

    code = "not_allowed"


class InvalidRequest(GatewayError):
    """The body has faults; all of them are named at once."""

    code = "invalid_request"

    def __init__(self, faults: Sequence[Fault], message: str = "The request is not valid") -> None:
        super().__init__(message)
        self.faults = list(faults)


class NotJson(InvalidRequest):
    """The body is not JSON."""

    code = "invalid_json"

    def __init__(self) -> None:
        super().__init__(
            [Fault("body", "invalid_json", "is not valid JSON")], "The body is not valid JSON"
        )


class InvalidKey(GatewayError):
    """The Idempotency-Key is missing or malformed."""

    code = "idempotency_key_missing"


class KeyReused(GatewayError):
    """Same key, other payload."""

    code = "idempotency_key_reused"


class ReferenceReused(GatewayError):
    """Same reference, other payload."""

    code = "reference_reused"


class StillOpen(GatewayError):
    """The first request is still being accepted."""

    code = "first_request_still_open"


class NotFound(GatewayError):
    """No such thing for this caller."""

    code = "not_found"
