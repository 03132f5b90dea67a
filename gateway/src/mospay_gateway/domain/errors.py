"""The error tree of the gateway.

GatewayError
├── NotAuthenticated      no credential, or one that is not (or no longer) good
├── NotAllowed            a good credential that may not do this
├── AddressRefused        the caller's address is denied, or not on the client's allow list
├── TooMany               a rate limit is used up
├── InvalidRequest        faults of the body, each with its field
│   └── NotJson           the body can't be read at all
├── InvalidKey            the Idempotency-Key is missing or malformed
├── KeyReused             the same Idempotency-Key came with another payload
├── ReferenceReused       the same reference came with another payload
├── StillOpen             the first request with this key or reference has not committed yet
├── OverDailyLimit        the amount does not fit in what is left of a daily limit
├── AlreadyFinal          the payment has ended, so it can't be cancelled
├── NotRetryable          only a payment that ended without money can be retried
├── NotRefundable         only a payment that succeeded can be refunded
├── BooksAway             the ledger can't answer right now
├── TooManyAtOnce         more reads of the books at once than one client may have
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


class AddressRefused(GatewayError):
    """The caller's address is denied, or not on the client's allow list."""

    code = "address_refused"


class TooMany(GatewayError):
    """A rate limit is used up; `policy` says which, `retry_seconds` when to come again."""

    code = "rate_limited"

    def __init__(self, policy: str, limit: int, retry_seconds: int) -> None:
        super().__init__(f"More than {limit} calls a minute (limit: {policy}); come again later")
        self.policy, self.limit, self.retry_seconds = policy, limit, retry_seconds


class InvalidRequest(GatewayError):
    """The body has faults; all of them are named at once."""

    code = "invalid_request"

    def __init__(
        self,
        faults: Sequence[Fault],
        message: str = "The request is not valid",
        code: str | None = None,
    ) -> None:
        super().__init__(message, code)
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


class OverDailyLimit(GatewayError):
    """The amount does not fit; `by_phone` says which limit, `left_minor` what would fit."""

    code = "daily_limit_exceeded"

    def __init__(self, by_phone: bool, left_minor: int) -> None:
        super().__init__("The payment would exceed a daily limit")
        self.by_phone, self.left_minor = by_phone, left_minor


class AlreadyFinal(GatewayError):
    """The payment has ended."""

    code = "already_final"


class NotRetryable(GatewayError):
    """The payment goes on or succeeded."""

    code = "not_retryable"


class NotRefundable(GatewayError):
    """The payment has not succeeded."""

    code = "not_refundable"


class BooksAway(GatewayError):
    """The ledger does not answer, or not as it should; payments go on."""

    code = "books_unavailable"

    def __init__(self, retry_seconds: int = 5) -> None:
        super().__init__("The books can't be read right now; try again shortly")
        self.retry_seconds = retry_seconds


class TooManyAtOnce(GatewayError):
    """The client has as many reads of the books under way as one client may have."""

    code = "too_many_at_once"

    def __init__(self, limit: int) -> None:
        super().__init__(f"More than {limit} such reads at once; wait for one to end")


class NotFound(GatewayError):
    """No such thing for this caller."""

    code = "not_found"
