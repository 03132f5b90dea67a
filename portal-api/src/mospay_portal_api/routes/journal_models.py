"""The books as browsers see them: entries, balances, trial balance, reversals.

Amounts are minor units; debits are positive, credits negative.
"""

import datetime as dt

from pydantic import BaseModel, Field

from mospay_portal_api.routes.bodies import Body


class JournalSide(BaseModel):
    """One side of an entry, with the balance before and after it."""

    account: str
    amount_minor: int
    previous_minor: int
    balance_minor: int
    account_version: int


class JournalEntry(BaseModel):
    """A journal entry; a client user sees the sides on accounts of their own client.

    `fee_minor` was taken under plan, version and tier; `fee_returned_minor` was given back. `late`:
    proven after the payment or refund had ended otherwise. `resolved`: on the word of two people.
    """

    entry_id: str
    kind: str
    client_id: str | None
    mode: str
    posted_at: dt.datetime
    occurred_at: dt.datetime
    currency: str
    amount_minor: int
    fee_minor: int
    fee_plan_id: str | None
    fee_plan_version: int | None
    fee_tier: int | None
    fee_returned_minor: int
    late: bool
    resolved: bool
    payment_id: str | None
    attempt_id: str | None
    refund_id: str | None
    provider_reference: str | None
    reverses: str | None
    reason: str | None
    postings: list[JournalSide]


class OneJournalEntry(JournalEntry):
    """An entry with the one that took it back, if any."""

    reversed_by: str | None


class JournalEntryPage(BaseModel):
    """A page of entries, newest first; `next_cursor` is null at the end."""

    items: list[JournalEntry]
    next_cursor: str | None


class ClientAccount(BaseModel):
    """An account of a client with its balance and version (postings so far)."""

    account: str
    kind: str
    client_id: str
    currency: str
    mode: str
    balance_minor: int
    version: int


class ClientHolding(BaseModel):
    """What a client has in one currency: its own is positive, its debt negative.

    Held is reserved by refunds and payouts under way, or kept back for a time. `balance_minor` sums
    the four; `refund_due_minor` beside it is owed back to payers.
    """

    currency: str
    mode: str
    pending_minor: int
    available_minor: int
    held_minor: int
    debt_minor: int
    balance_minor: int
    refund_due_minor: int


class Balances(BaseModel):
    """A client's accounts at an instant, and what they come to in each currency."""

    as_of: dt.datetime
    balances: list[ClientAccount]
    holdings: list[ClientHolding]


class Account(BaseModel):
    """An account; debit balances are positive, credit balances negative."""

    account: str
    kind: str
    client_id: str | None
    balance_minor: int


class CurrencyBalance(BaseModel):
    """The totals of one currency over its `account_count` accounts; the first of them."""

    currency: str
    debit_minor: int
    credit_minor: int
    account_count: int
    accounts: list[Account]


class TrialBalance(BaseModel):
    """The books of a mode, as the ledger shows them; `entries` is null as of an instant."""

    balanced: bool
    as_of: dt.datetime
    currencies: list[CurrencyBalance]
    entries: int | None


class JournalFault(BaseModel):
    """The first thing that is not what was sealed."""

    block_id: int | None
    entry_id: str | None
    what: str


class JournalVerified(BaseModel):
    """What was verified of the hash chain; go on from `next_block` until that is null."""

    whole: bool
    first_block: int
    last_block: int
    entries: int
    fault: JournalFault | None
    next_block: int | None
    head_hash: str | None


class NewReversal(Body):
    """How an entry is to be taken back, and why; a second person has to approve.

    A `reversal` undoes everything, the fee too. A `chargeback` (of a capture alone) leaves the fee
    with the operator.
    """

    kind: str = Field(pattern="^(reversal|chargeback)$", examples=["reversal"])
    reason: str = Field(
        min_length=3, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["bank notice"]
    )


class Reversal(BaseModel):
    """A proposed reversal with the entry it is of. `state` is open, approved or rejected."""

    id: str
    entry_id: str
    entry_kind: str
    client_id: str
    mode: str
    currency: str
    amount_minor: int
    kind: str
    reason: str
    state: str
    proposed_by: str
    proposed_at: dt.datetime
    decided_by: str | None
    decided_at: dt.datetime | None
    reversal_entry_id: str | None


class ReversalPage(BaseModel):
    """A page of proposed reversals, newest first; `next_cursor` is null at the end."""

    items: list[Reversal]
    next_cursor: str | None
