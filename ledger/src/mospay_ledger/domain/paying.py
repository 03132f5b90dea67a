"""Paying an invoice through the gateway: intents, links, and what an answer or an event means.

An intent locks its invoice and carries one key for ever, which is the payment's idempotency key and
reference: whoever sends it, however often, there is one payment.

    open ──accepted──▶ posted ──outcome──▶ succeeded | failed
      └──refused──▶ failed       └─ absence proven ─▶ released
    failed | released ──late success──▶ succeeded (what the invoice no longer needs is credit)

PayingError (a LedgerError)
├── NotPayable       nothing of it is open: a draft, paid, void
├── UnderWay         an intent holds it; `intent_id` names it
├── WrongAmount      more than is open, or a part where parts are not taken
├── NoMethod         no such way to pay, or none at all
├── LinkMissing      unknown, expired and revoked are told alike
└── PaymentRefused   the gateway did not accept it; `faults` say why
"""

import datetime as dt
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mospay_shared.contracts import PaymentStatus

from mospay_ledger.domain.errors import LedgerError

IntentState = Literal["open", "posted", "succeeded", "failed", "released"]
LIVE: tuple[IntentState, ...] = ("open", "posted")
PAYABLE = frozenset({"issued", "part_paid", "overdue"})
TOKEN_BYTES = 24  # 192 bits, 32 characters
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)
LATER_SECONDS = (2, 5, 10, 20, 30)  # between two sendings of one intent


class PayingError(LedgerError):
    """Base of what refuses a payment of an invoice."""

    code = "not_payable"


class NotPayable(PayingError):
    """Nothing of it is open."""

    code = "invoice_not_payable"


class UnderWay(PayingError):
    """A payment of it is under way: a second one waits for the end of the first."""

    code = "payment_under_way"

    def __init__(self, intent_id: str) -> None:
        super().__init__(f"{intent_id} is under way")
        self.intent_id = intent_id


class WrongAmount(PayingError):
    """More than is open, or a part where parts are not taken."""

    code = "wrong_amount"


class NoMethod(PayingError):
    """The issuer takes no payments online, or not in this way."""

    code = "no_such_method"


class LinkMissing(PayingError):
    """Unknown, expired and revoked are told alike: a guess learns nothing."""

    code = "link_missing"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the gateway refused: its field, its code, its words."""

    field: str
    code: str
    message: str


class PaymentRefused(PayingError):
    """The gateway did not accept the payment, and never did under this key."""

    code = "payment_refused"

    def __init__(self, code: str, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.reason_code, self.message, self.faults = code, message, list(faults)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to pay: a service of the merchant's, its route, and what people call it."""

    service: str
    microservice: str | None
    route: str
    label: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose invoices somebody may pay; '' is any, so all empty is the operator (or a link)."""

    client_id: str = ""
    mode: str = ""
    customer_id: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody's wish to pay an invoice. `amount_minor` None: all that is open.

    `service` None takes the issuer's first method; with `listed` only its methods are taken.
    `link_id` names the guest's link.
    """

    phone: str
    amount_minor: int | None = None
    service: str | None = None
    microservice: str | None = None
    route: str = "payment"
    listed: bool = False
    link_id: str | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment of an invoice that is to be made once. `tries` fences whoever sends it."""

    id: str
    invoice_id: str
    client_id: str | None
    merchant_id: str
    mode: str
    currency: str
    amount_minor: int
    service: str
    microservice: str | None
    route: str
    phone_masked: str
    customer_id: str | None
    invoice_number: str | None
    state: IntentState
    tries: int
    not_after: dt.datetime
    created_at: dt.datetime
    payment_id: str | None = None
    payment_status: str | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    ended_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway has the payment: as it is now, at `version`, since `at`."""

    payment_id: str
    status: str
    version: int
    amount_minor: int
    at: dt.datetime
    reason_code: str | None = None
    reason_message: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What an event, or the gateway when asked, says of the payment of an intent."""

    intent_id: str
    merchant_id: str
    mode: str
    currency: str
    payment: Accepted


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was accepted under the key."""

    code: str
    message: str
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Absent:
    """The gateway knows no payment of the key."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """No answer, or one that proves nothing: ask again with the same key."""

    reason: str


Answer = Accepted | Refused | Absent | Unclear


def payable_minor(
    *, status: str, locked_by: str | None, open_minor: int, allow_partial: bool, wish: int | None
) -> int:
    """Return what to take; raises NotPayable, UnderWay, WrongAmount."""
    if status not in PAYABLE or open_minor <= 0:
        raise NotPayable(f"the invoice is {status}, nothing of it is open")
    if locked_by is not None:
        raise UnderWay(locked_by)
    if wish is None or wish == open_minor:
        return open_minor
    if wish > open_minor:
        raise WrongAmount(f"is more than what is open, {open_minor}")
    if not allow_partial:
        raise WrongAmount(f"must be all that is open, {open_minor}: it takes no parts")
    return wish


def outcome(status: str) -> IntentState | None:
    """Return how a payment's status ends its intent; None while it has not ended.

    `unknown`, `held` and `conflicted` end nothing: the invoice stays locked, visibly.
    """
    if status == PaymentStatus.SUCCEEDED:
        return "succeeded"
    if status in (PaymentStatus.FAILED, PaymentStatus.CANCELLED, PaymentStatus.EXPIRED):
        return "failed"
    return None


def moves(state: IntentState, to: IntentState) -> bool:
    """Say whether an intent may go from a state to an end: money wins, late or not."""
    return state in LIVE or (to == "succeeded" and state != "succeeded")


def later(tries: int) -> dt.timedelta:
    """Return how long to wait before an intent is sent again."""
    return dt.timedelta(seconds=LATER_SECONDS[min(tries, len(LATER_SECONDS)) - 1])


def mask(phone: str) -> str:
    """Return a phone number with its last three digits alone."""
    return "*" * max(0, len(phone) - 3) + phone[-3:]


def new_token() -> tuple[str, bytes]:
    """Return a link's token, to be shown once, and what is stored of it."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, digest_of(token)


def digest_of(token: str) -> bytes:
    """Return what is stored of a token: with 192 random bits a plain hash can't be searched."""
    return hashlib.sha256(token.encode()).digest()
