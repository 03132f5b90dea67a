"""What an entry is made of: accounts, posting templates, the fee. Pure; no input or output.

Debits are positive, credits negative, so an entry sums to zero. A capture of 1,500 with a fee of
30: clearing +1,500, client pending −1,470, fees −30.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mospay_shared.contracts import PaymentEventV1
from mospay_shared.money import MAX_MINOR


class LedgerError(Exception):
    """Base of what the ledger refuses; `code` is stable."""

    code = "ledger_error"


class AmountTooLarge(LedgerError):
    """An account's balance would not fit a 64-bit integer."""

    code = "amount_too_large"


@dataclass(frozen=True, slots=True)
class Account:
    """An account by what it is for; its id says it all."""

    kind: str  # clearing | pending | fees | refund_due
    owner: str  # client id, or the provider's microservice
    currency: str
    mode: str

    @property
    def id(self) -> str:
        """The account's id, such as `pending:cli_…:RWF:test`."""
        return f"{self.kind}:{self.owner}:{self.currency}:{self.mode}"

    @property
    def client_id(self) -> str | None:
        """The client whose account it is; None for the operator's own."""
        return self.owner if self.kind in ("pending", "refund_due") else None


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of an entry."""

    account: Account
    amount_minor: int


@dataclass(frozen=True, slots=True)
class FeePlan:
    """A percentage in basis points plus a fixed part; `version` is stored with each entry."""

    version: str
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
    plan_version: str
    postings: tuple[Posting, ...]

    @property
    def net_minor(self) -> int:
        """What the client is owed for it."""
        return self.payment.amount_minor - self.fee_minor


def effect_key(payment: PaymentEventV1) -> str:
    """Return the natural key of a capture: one per attempt, whatever event tells of it."""
    return f"{payment.attempt_id or payment.payment_id}:capture"


def capture(entry_id: str, payment: PaymentEventV1, plan: FeePlan, *, second: bool) -> Entry:
    """Return the entry for a succeeded payment; a second capture is owed back to the payer.

    Proven money always posts, in any state; a second capture carries no fee.
    """
    if payment.amount_minor > MAX_MINOR // 2:
        raise AmountTooLarge(f"{payment.payment_id}: amount does not leave room on any account")
    currency, mode = payment.currency, payment.mode
    clearing = Account("clearing", payment.microservice, currency, mode)
    fee = 0 if second else plan.fee(payment.amount_minor)
    owed = Account("refund_due" if second else "pending", payment.client_id, currency, mode)
    sides = [Posting(clearing, payment.amount_minor), Posting(owed, fee - payment.amount_minor)]
    if fee:
        sides.append(Posting(Account("fees", "operator", currency, mode), -fee))
    return Entry(
        id=entry_id,
        kind="second_capture" if second else "capture",
        effect_key=effect_key(payment),
        payment=payment,
        fee_minor=fee,
        plan_version=plan.version,
        postings=tuple(side for side in sides if side.amount_minor),
    )


def is_balanced(postings: Sequence[Posting]) -> bool:
    """Say whether postings sum to zero in each currency."""
    sums: dict[str, int] = {}
    for posting in postings:
        currency = posting.account.currency
        sums[currency] = sums.get(currency, 0) + posting.amount_minor
    return not any(sums.values())
