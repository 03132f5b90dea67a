"""A client's statement of account: opening balance, every entry, closing balance."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class StatementPage(Statement):
    """A page of a statement: `before` is the balance that its first line starts from."""

    before: int


def seen_by_client(held: Mapping[str, int]) -> dict[str, int]:
    """Return balances by kind of account (credits negative) as the client sees them."""
    seen = {
        "pending_minor": -held.get("pending", 0),
        "available_minor": -held.get("available", 0),
        "held_minor": -held.get("reserve", 0) - held.get("payout", 0),
        "debt_minor": -held.get("receivable", 0),
    }
    return {**seen, "balance_minor": sum(seen.values())}


def running(opening_minor: int, lines: Sequence[Any]) -> Iterator[tuple[Any, int]]:
    """Yield each line with the balance after it."""
    balance = opening_minor
    for line in lines:
        balance += line["change_minor"]
        yield line, balance


async def account_statement(
    tx: Tx, books: ClientBooks, since: dt.datetime, until: dt.datetime, limit: int
) -> Statement:
    """Return what happened to a client's money in [since, until); raises StatementTooLong."""
    accounts = {kind: books.account(kind).id for kind in KINDS}
    opening = seen_by_client(await storage.opening(tx, list(accounts.values()), since))
    lines = await storage.lines(tx, accounts, since, until, limit + 1)
    if len(lines) > limit:
        raise StatementTooLong(f"more than {limit} entries: choose a shorter period")
    closing = {name: opening[name] + sum(line[name] for line in lines) for name in COLUMNS}
    closing["balance_minor"] = sum(closing.values())
    return Statement(opening, closing, lines)


async def statement_page(
    tx: Tx,
    books: ClientBooks,
    since: dt.datetime,
    until: dt.datetime,
    *,
    after: tuple[dt.datetime, str] | None,
    limit: int,
) -> StatementPage:
    """Return a page of a client's account in [since, until): the lines past `after`.

    `after` is an entry of that time: (posted_at, id). Whatever came before it, a page costs a page.
    """
    accounts = {kind: books.account(kind).id for kind in KINDS}
    at, entry_id = after or (since, "")
    ids = list(accounts.values())
    before = seen_by_client(await storage.opening(tx, ids, at, entry_id))
    opening = seen_by_client(await storage.opening(tx, ids, since)) if after else before
    closing = seen_by_client(await storage.opening(tx, ids, until))
    lines = await storage.lines(tx, accounts, at, until, limit, entry_id)
    return StatementPage(opening, closing, lines, before["balance_minor"])
