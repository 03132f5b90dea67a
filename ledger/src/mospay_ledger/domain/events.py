"""What can be said of a money event by itself: is it believable, which accounts may it touch."""

from mospay_shared.contracts import PaymentEventV1, PaymentStatus, RefundEventV1, RefundStatus

from mospay_ledger.domain.accounts import (
    Account,
    ClientBooks,
    clearing,
    fees,
    refunds,
    suspense,
)
from mospay_ledger.domain.errors import (
    AMOUNT_LIMIT_MINOR,
    AmountTooLarge,
    NothingToPost,
    NotProven,
)
from mospay_ledger.domain.fees import FeePlan

MoneyEvent = PaymentEventV1 | RefundEventV1


def check_postable(wire_type: str, body: MoneyEvent) -> None:
    """Raise NotProven, NothingToPost or AmountTooLarge for what no retry can make postable."""
    subject = body.refund_id if isinstance(body, RefundEventV1) else body.payment_id
    said: PaymentStatus | RefundStatus = body.status
    if wire_type.split(".")[1] != said.value:
        raise NotProven(f"{wire_type} of {subject} says {said.value}")
    if body.amount_minor == 0:
        raise NothingToPost(f"{subject} has an amount of zero")
    if body.amount_minor > AMOUNT_LIMIT_MINOR:
        raise AmountTooLarge(f"{subject} leaves no room on its accounts")


def books_of(body: MoneyEvent) -> ClientBooks:
    """Return the client's books an event belongs to."""
    return ClientBooks(body.client_id, body.currency, body.mode)


def accounts_of(body: MoneyEvent, plan: FeePlan | None = None) -> list[Account]:
    """Return the accounts to open and lock before anything is looked at.

    A client's `pending` is the gate to all of its accounts in that currency and mode; accounts
    that clients share must be held from the start.
    """
    currency, mode = body.currency, body.mode
    held = [
        books_of(body).account("pending"),
        clearing(body.microservice, currency, mode),
    ]
    if isinstance(body, PaymentEventV1):
        held.append(fees(currency, mode))
        if plan is not None and plan.fee_on_refund == "return":
            held.append(refunds(currency, mode))
    else:
        held.append(refunds(currency, mode))
        if body.over_refund:
            held.append(suspense(currency, mode))
    return held


def possible_accounts(body: MoneyEvent) -> list[Account]:
    """Return the client's accounts whose balances decide what an event posts."""
    books = books_of(body)
    kinds = ("receivable",) if isinstance(body, PaymentEventV1) else ("available", "receivable")
    return [books.account(kind) for kind in ("pending", *kinds)]
