"""What an entry is made of: accounts, posting templates, the fee. Pure; no input or output.

Debits are positive, credits negative, so an entry sums to zero. A capture of 1,500 with a fee of
30: clearing +1,500, client pending −1,470, fees −30.

LedgerError
├── AmountTooLarge   a balance would not fit a 64-bit integer
├── NothingToPost    an amount of zero
├── NotProven        the body does not say `succeeded`
├── NotStorable      a text the database can't hold
└── FeePlanMissing   no plan was in force when the payment was accepted
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.contracts import PaymentEventV1, PaymentStatus
from mospay_shared.money import MAX_MINOR

# One payment may take a thousandth of what an account can hold: otherwise a single absurd amount
# would leave no room for every other payment of that provider.
AMOUNT_LIMIT_MINOR = MAX_MINOR // 1000


class LedgerError(Exception):
    """Base of what the ledger refuses; `code` is stable."""

    code = "ledger_error"

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


class AmountTooLarge(LedgerError):
    """An account's balance would not fit a 64-bit integer."""

    code = "amount_too_large"


class NothingToPost(LedgerError):
    """A payment of zero moves no money."""

    code = "nothing_to_post"


class NotProven(LedgerError):
    """The type says succeeded and the body does not: such a message is never believed."""

    code = "not_proven"


class NotStorable(LedgerError):
    """A text of the message can't be stored (a NUL character)."""

    code = "not_storable"


class FeePlanMissing(LedgerError):
    """No fee plan was in force at acceptance; the event waits, visibly, until a person looks."""

    code = "fee_plan_missing"


@dataclass(frozen=True, slots=True)
class Account:
    """An account by what it is for; its id says it all."""

    kind: str  # clearing | pending | fees | refund_due
    owner: str  # `client:{id}`, `provider:{microservice}` or `operator`
    client_id: str | None
    currency: str
    mode: str

    @property
    def id(self) -> str:
        """The account's id, such as `client:cli_…:RWF:test:pending`."""
        return f"{self.owner}:{self.currency}:{self.mode}:{self.kind}"


def _of_client(kind: str, payment: PaymentEventV1) -> Account:
    owner = f"client:{payment.client_id}"
    return Account(kind, owner, payment.client_id, payment.currency, payment.mode)


def clearing(payment: PaymentEventV1) -> Account:
    """Return where the provider owes us what it has collected."""
    owner = f"provider:{payment.microservice}"
    return Account("clearing", owner, None, payment.currency, payment.mode)


def pending(payment: PaymentEventV1) -> Account:
    """Return what the client is owed and not settled yet."""
    return _of_client("pending", payment)


def refund_due(payment: PaymentEventV1) -> Account:
    """Return what was taken twice and is owed back to the payer."""
    return _of_client("refund_due", payment)


def fees(payment: PaymentEventV1) -> Account:
    """Return the operator's income."""
    return Account("fees", "operator", None, payment.currency, payment.mode)


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of an entry."""

    account: Account
    amount_minor: int


@dataclass(frozen=True, slots=True)
class FeePlan:
    """A percentage in basis points plus a fixed part; id and version are stored with each entry."""

    id: str
    version: int
    basis_points: int
    fixed_minor: int

    def fee(self, amount_minor: int) -> int:
        """Return the fee, rounded half to even, never more than the amount itself."""
        whole, rest = divmod(amount_minor * self.basis_points, 10_000)
        if rest * 2 > 10_000 or (rest * 2 == 10_000 and whole % 2):
            whole += 1
        return min(amount_minor, whole + self.fixed_minor)


@dataclass(frozen=True, slots=True)
class Entry:
    """A balanced journal entry that is about to be written. `effect_key` happens once for ever."""

    id: str
    kind: str  # capture | second_capture
    effect_key: str
    payment: PaymentEventV1
    fee_minor: int
    plan: FeePlan | None  # None where no fee is asked
    postings: tuple[Posting, ...]
    posted_at: dt.datetime

    @property
    def net_minor(self) -> int:
        """What is owed to the client, or back to the payer."""
        return self.payment.amount_minor - self.fee_minor


def effect_key(payment: PaymentEventV1) -> str:
    """Return the natural key of a capture: one per attempt, whatever event tells of it."""
    return f"{payment.attempt_id or payment.payment_id}:capture"


def check_postable(payment: PaymentEventV1) -> None:
    """Raise NotProven, NothingToPost or AmountTooLarge for what no retry can make postable."""
    if payment.status is not PaymentStatus.SUCCEEDED:
        raise NotProven(f"{payment.payment_id} says {payment.status.value}")
    if payment.amount_minor == 0:
        raise NothingToPost(f"{payment.payment_id} has an amount of zero")
    if payment.amount_minor > AMOUNT_LIMIT_MINOR:
        raise AmountTooLarge(f"{payment.payment_id} leaves no room on its accounts")


def capture(entry_id: str, payment: PaymentEventV1, plan: FeePlan, posted_at: dt.datetime) -> Entry:
    """Return the entry for a payment's first capture."""
    fee = plan.fee(payment.amount_minor)
    sides = (
        Posting(clearing(payment), payment.amount_minor),
        Posting(pending(payment), fee - payment.amount_minor),
        Posting(fees(payment), -fee),
    )
    return Entry(
        id=entry_id,
        kind="capture",
        effect_key=effect_key(payment),
        payment=payment,
        fee_minor=fee,
        plan=plan,
        postings=tuple(side for side in sides if side.amount_minor),
        posted_at=posted_at,
    )


def second_capture(entry_id: str, payment: PaymentEventV1, posted_at: dt.datetime) -> Entry:
    """Return the entry for money taken again for a booked payment: owed back whole, free of fee."""
    return Entry(
        id=entry_id,
        kind="second_capture",
        effect_key=effect_key(payment),
        payment=payment,
        fee_minor=0,
        plan=None,
        postings=(
            Posting(clearing(payment), payment.amount_minor),
            Posting(refund_due(payment), -payment.amount_minor),
        ),
        posted_at=posted_at,
    )


def is_balanced(postings: Sequence[Posting]) -> bool:
    """Say whether postings sum to zero in each currency and mode."""
    sums: dict[tuple[str, str], int] = {}
    for posting in postings:
        books = (posting.account.currency, posting.account.mode)
        sums[books] = sums.get(books, 0) + posting.amount_minor
    return not any(sums.values())
