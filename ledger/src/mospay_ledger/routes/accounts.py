"""Accounts, balances, statements of one account, the trial balance; now or as of an instant."""

import datetime as dt
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.domain import ACCOUNT_KINDS
from mospay_ledger.routes.common import (
    BIGINT,
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_PENDING,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    PRINTABLE,
    AnyMode,
    At,
    ClientFilter,
    Limit,
    Mode,
    instant,
    operators_only,
    seen_by,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import reads
from mospay_ledger.usecases import statements

KIND = f"^({'|'.join(ACCOUNT_KINDS)}|)$"
AccountId = Annotated[str, Path(max_length=200, pattern=PRINTABLE)]


class AccountBalance(BaseModel):
    """An account; debit balances are positive, credit balances negative."""

    account: str = Field(examples=[EXAMPLE_PENDING])
    kind: str = Field(examples=["pending"])
    client_id: str | None = Field(examples=[EXAMPLE_CLIENT])
    balance_minor: int = Field(examples=[-1470])


class CurrencyBalance(BaseModel):
    """The totals of one currency over its `account_count` accounts, of which the first are listed.

    Totals are minor units.
    """

    currency: str = Field(examples=["RWF"])
    debit_minor: int = Field(examples=[1500])
    credit_minor: int = Field(examples=[1500])
    account_count: int = Field(examples=[3])
    accounts: list[AccountBalance]


class TrialBalance(BaseModel):
    """Balanced: debits equal credits in each currency, and (now) balances agree with postings.

    `entries` counts the mode's entries; null as of an instant in the past.
    """

    balanced: bool = Field(examples=[True])
    as_of: dt.datetime = Field(examples=[EXAMPLE_TIME])
    currencies: list[CurrencyBalance]
    entries: int | None = Field(examples=[1])


class AccountBody(BaseModel):
    """An account with its balance and version (postings so far), minor units."""

    account: str = Field(examples=[EXAMPLE_PENDING])
    kind: str = Field(examples=["pending"])
    client_id: str | None = Field(examples=[EXAMPLE_CLIENT])
    currency: str = Field(examples=["RWF"])
    mode: str = Field(examples=["test"])
    balance_minor: int = Field(examples=[-1470])
    version: int = Field(examples=[1])


class Accounts(BaseModel):
    """A page of accounts in id order; `next_cursor` is null at the end."""

    items: list[AccountBody]
    next_cursor: str | None = Field(examples=[None])


class Holdings(BaseModel):
    """What a client has in one currency, minor units: its own is positive, its debt negative.

    Held is reserved by refunds and payouts under way, or kept back of settlements for a time.
    `balance_minor` sums the four; `refund_due_minor` beside it is owed back to payers.
    """

    currency: str = Field(examples=["RWF"])
    mode: str = Field(examples=["test"])
    pending_minor: int = Field(examples=[1470])
    available_minor: int = Field(examples=[0])
    held_minor: int = Field(examples=[0])
    debt_minor: int = Field(examples=[0])
    balance_minor: int = Field(examples=[1470])
    refund_due_minor: int = Field(examples=[0])


class ClientBalances(BaseModel):
    """The accounts of a client, and what they come to in each currency and mode."""

    as_of: dt.datetime = Field(examples=[EXAMPLE_TIME])
    balances: list[AccountBody]
    holdings: list[Holdings]


class StatementLine(BaseModel):
    """One posting on an account with the entry it belongs to; balances before and after."""

    version: int = Field(examples=[1])
    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    kind: str = Field(examples=["capture"])
    amount_minor: int = Field(examples=[-1470])
    previous_minor: int = Field(examples=[0])
    balance_minor: int = Field(examples=[-1470])
    posted_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    occurred_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    payment_id: str | None = Field(examples=[EXAMPLE_PAYMENT])
    attempt_id: str | None = Field(examples=[None])
    refund_id: str | None = Field(examples=[None])
    provider_reference: str | None = Field(examples=["sim_1"])
    late: bool = Field(examples=[False])


class Statement(BaseModel):
    """A page of an account's postings, newest first; `next_cursor` is null at the end."""

    items: list[StatementLine]
    next_cursor: int | None = Field(examples=[None])


def trial_of(rows: Sequence[Any], as_of: dt.datetime, entries: int | None) -> TrialBalance:
    """Return the trial balance that rows of `storage.reads.trial_balance` tell."""
    currencies = []
    balanced = True
    for currency, group in groupby(rows, key=lambda row: str(row["currency"])):
        own = list(group)
        debit, credit = int(own[0]["debit_minor"]), int(own[0]["credit_minor"])
        balanced = balanced and debit == credit and own[0]["balances_agree"]
        accounts = [
            AccountBalance(
                account=row["id"],
                kind=row["kind"],
                client_id=row["client_id"],
                balance_minor=row["minor"],
            )
            for row in own
        ]
        currencies.append(
            CurrencyBalance(
                currency=currency,
                debit_minor=debit,
                credit_minor=credit,
                account_count=own[0]["account_count"],
                accounts=accounts,
            )
        )
    return TrialBalance(balanced=balanced, as_of=as_of, currencies=currencies, entries=entries)


def holdings_of(accounts: Sequence[AccountBody]) -> list[Holdings]:
    """Return what a client's accounts come to, by currency and mode."""
    held: dict[tuple[str, str], dict[str, int]] = {}
    for account in accounts:
        kinds = held.setdefault((account.currency, account.mode), {})
        kinds[account.kind] = account.balance_minor
    return [
        Holdings(
            currency=currency,
            mode=mode,
            refund_due_minor=-kinds.get("refund_due", 0),
            **statements.seen_by_client(kinds),
        )
        for (currency, mode), kinds in sorted(held.items())
    ]


def _body(row: Any) -> AccountBody:
    return AccountBody(account=row["id"], **dict(row))


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about accounts."""
    reader = service.verifier.needs("ledger:read")
    _add_trial_balance(routes, service, settings)

    @routes.get("/accounts")
    async def accounts(
        caller: Caller = Depends(reader),
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        kind: Annotated[str, Query(pattern=KIND)] = "",
        cursor: Annotated[str, Query(max_length=200, pattern=MAYBE_PRINTABLE)] = "",
        limit: Limit = 50,
        at: At = None,
    ) -> Accounts:
        """Accounts in id order, filtered, with their balances now or as of an instant."""
        async with seen_by(service, caller) as tx:
            rows = await reads.accounts(
                tx,
                client_id=client_id,
                mode=mode,
                currency=currency,
                kind=kind,
                after=cursor,
                limit=limit + 1,
                at=instant(at),
            )
        items = [_body(row) for row in rows[:limit]]
        return Accounts(items=items, next_cursor=items[-1].account if len(rows) > limit else None)

    @routes.get("/accounts/{account_id}")
    async def account(
        account_id: AccountId, at: At = None, caller: Caller = Depends(reader)
    ) -> AccountBody:
        """One account, now or as of an instant."""
        async with seen_by(service, caller) as tx:
            rows = await reads.accounts(tx, account_id=account_id, limit=1, at=instant(at))
        if not rows:
            raise Problem(404, "account_missing", "There is no such account")
        return _body(rows[0])

    @routes.get("/accounts/{account_id}/entries")
    async def statement(
        account_id: AccountId,
        cursor: Annotated[int, Query(ge=1, le=BIGINT)] = BIGINT,
        limit: Limit = 50,
        caller: Caller = Depends(reader),
    ) -> Statement:
        """An account's postings, newest first, below the version `cursor`."""
        async with seen_by(service, caller) as tx:
            rows = await reads.statement(tx, account_id, cursor, limit + 1)
        items = [StatementLine(version=row["account_version"], **dict(row)) for row in rows[:limit]]
        return Statement(items=items, next_cursor=items[-1].version if len(rows) > limit else None)

    @routes.get("/balances")
    async def balances(
        client_id: Annotated[str, Query(max_length=80, pattern=PRINTABLE)],
        mode: AnyMode = "",
        at: At = None,
        caller: Caller = Depends(reader),
    ) -> ClientBalances:
        """A client's accounts, now or as of an instant."""
        then = instant(at)
        async with seen_by(service, caller) as tx:
            rows = await reads.accounts(tx, client_id=client_id, mode=mode, limit=1000, at=then)
        found = [_body(row) for row in rows]
        return ClientBalances(
            as_of=then or dt.datetime.now(dt.UTC), balances=found, holdings=holdings_of(found)
        )


def _add_trial_balance(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    reader = service.verifier.needs("ledger:read")

    @routes.get("/trial-balance")
    async def trial_balance(
        mode: Mode, at: At = None, caller: Caller = Depends(reader)
    ) -> TrialBalance:
        """Every account of a mode, now or as of an instant; an operator's view."""
        operators_only(caller, "The trial balance")
        then = instant(at)
        async with seen_by(service, caller) as tx:
            rows = await reads.trial_balance(tx, mode, settings.trial_accounts, then)
            entries = await reads.entry_count(tx, mode) if then is None else None
        return trial_of(rows, then or dt.datetime.now(dt.UTC), entries)
