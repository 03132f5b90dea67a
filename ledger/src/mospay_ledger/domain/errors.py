"""What the ledger refuses.

LedgerError
├── AmountTooLarge   a balance would not fit a 64-bit integer
├── NothingToPost    an amount of zero
├── NotProven        type and body of a message disagree
├── NotStorable      a text the database can't hold
├── ForeignRefund    a refund names another client, mode, currency or amount than before
├── FeePlanMissing   no plan was in force when the payment was accepted
├── FeePlanInvalid   a plan that contradicts itself; `field` says where
├── TooManyAmounts   a simulation over more distinct amounts than one answer takes
├── NotEnough        a settlement or payout of more than there is
├── EntryMissing     no such entry
├── NotReversible    an entry that ends by its own follower, or is a reversal itself
├── AlreadyReversed  an entry is reversed once
├── AlreadyProposed  somebody has proposed a reversal of it; that comes first
├── ReversalMissing  no such proposal
└── …                what settlements and payouts refuse (settling.py)
"""

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
    """An amount of zero moves no money."""

    code = "nothing_to_post"


class NotProven(LedgerError):
    """The type says one thing and the body another: such a message is never believed."""

    code = "not_proven"


class NotStorable(LedgerError):
    """A text of the message can't be stored (a NUL character)."""

    code = "not_storable"


class ForeignRefund(LedgerError):
    """A refund's news disagree about whose it is or how much."""

    code = "foreign_refund"


class FeePlanMissing(LedgerError):
    """No fee plan was in force at acceptance; the event waits, visibly, until a person looks."""

    code = "fee_plan_missing"


class FeePlanInvalid(LedgerError):
    """A plan contradicts itself; `field` names the member."""

    code = "fee_plan_invalid"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


class TooManyAmounts(LedgerError):
    """A simulation would have to price more distinct amounts than one answer takes."""

    code = "too_many_amounts"


class NotEnough(LedgerError):
    """A settlement or payout asks for more than the account holds."""

    code = "not_enough"


class EntryMissing(LedgerError):
    """There is no such entry."""

    code = "entry_missing"


class NotReversible(LedgerError):
    """A reservation ends by its refund, and a reversal stands."""

    code = "not_reversible"


class AlreadyReversed(LedgerError):
    """An entry is reversed once."""

    code = "already_reversed"


class AlreadyProposed(LedgerError):
    """A reversal of the entry is proposed; it is decided on before there is another."""

    code = "already_proposed"


class ReversalMissing(LedgerError):
    """There is no such proposed reversal."""

    code = "reversal_missing"
