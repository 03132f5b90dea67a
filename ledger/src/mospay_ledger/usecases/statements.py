"""A client's statement of account: opening balance, every entry, closing balance."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mospay_shared.chassis.database import Tx

from mospay_ledger.domain import CLIENT_KINDS, ClientBooks, LedgerError
from mospay_ledger.storage import statements as storage

# What is owed to payers (taken twice) is not the client's money.
KINDS = tuple(kind for kind in CLIENT_KINDS if kind != "refund_due")
COLUMNS = ("pending_minor", "available_minor", "held_minor", "debt_minor")


class StatementTooLong(LedgerError):
    """More lines than one statement has; choose a shorter period."""

    code = "statement_too_long"


@dataclass(frozen=True, slots=True)
class Statement:
    """Balances as the client sees them: what it has is positive, its debt negative.

    `opening` and `closing` have COLUMNS and `balance_minor`, their sum.
    """

    opening: dict[str, int]
    closing: dict[str, int]
    lines: Sequence[Any]


async def account_statement(
    tx: Tx, books: ClientBooks, since: dt.datetime, until: dt.datetime, limit: int
) -> Statement:
    """Return what happened to a client's money in [since, until); raises StatementTooLong."""
    accounts = {kind: books.account(kind).id for kind in KINDS}
    held = await storage.opening(tx, list(accounts.values()), since)
    opening = {
        "pending_minor": -held.get("pending", 0),
        "available_minor": -held.get("available", 0),
        "held_minor": -held.get("reserve", 0) - held.get("payout", 0),
        "debt_minor": -held.get("receivable", 0),
    }
    lines = await storage.lines(tx, accounts, since, until, limit + 1)
    if len(lines) > limit:
        raise StatementTooLong(f"more than {limit} entries: choose a shorter period")
    closing = {name: opening[name] + sum(line[name] for line in lines) for name in COLUMNS}
    for balances in (opening, closing):
        balances["balance_minor"] = sum(balances[name] for name in COLUMNS)
    return Statement(opening, closing, lines)
