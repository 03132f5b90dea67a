"""HTTP into the ledger: reads for portal-api, tenant-safe by query and row-level security."""

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel

from mospay_ledger import storage

TRIAL_ACCOUNTS = 500  # accounts listed a currency; totals cover them all
PRINTABLE = r"^[\x21-\x7e]+$"  # what an id is made of; a NUL must not reach the database
Mode = Annotated[str, Query(pattern="^(live|test)$")]
AnyMode = Annotated[str, Query(pattern="^(live|test|)$")]


class PostingBody(BaseModel):
    """One side: debit positive, credit negative, minor units."""

    account: str
    amount_minor: int


class EntryBody(BaseModel):
    """A journal entry; a tenant sees the sides on its own accounts."""

    entry_id: str
    kind: str
    posted_at: dt.datetime
    currency: str
    fee_minor: int
    late: bool
    postings: list[PostingBody]


class Entries(BaseModel):
    """The entries of one payment."""

    entries: list[EntryBody]


class AccountBalance(BaseModel):
    """An account; debit balances are positive, credit balances negative."""

    account: str
    kind: str
    client_id: str | None
    balance_minor: int


class CurrencyBalance(BaseModel):
    """The totals of one currency over its `account_count` accounts, of which the first 500."""

    currency: str
    debit_minor: int
    credit_minor: int
    account_count: int
    accounts: list[AccountBalance]


class TrialBalance(BaseModel):
    """Computed from postings. Balanced: debits equal credits in each currency, balances agree."""

    balanced: bool
    as_of: dt.datetime
    currencies: list[CurrencyBalance]
    entries: int


class AccountBody(BaseModel):
    """An account with its stored balance and version."""

    account: str
    kind: str
    client_id: str | None
    currency: str
    mode: str
    balance_minor: int
    version: int


class Accounts(BaseModel):
    """A page of accounts in id order; `next_cursor` is null at the end."""

    items: list[AccountBody]
    next_cursor: str | None


class ClientBalance(BaseModel):
    """An account of a client."""

    account: str
    kind: str
    currency: str
    mode: str
    balance_minor: int
    version: int


class ClientBalances(BaseModel):
    """The accounts of a client."""

    balances: list[ClientBalance]


async def posting_hops(tx: Tx, payment_id: str) -> list[Hop]:
    """Return a payment's entries as hops of its trace."""
    return [
        Hop(
            id=entry["entry_id"],
            service="ledger",
            kind="posting",
            name=f"journal entry ({entry['kind']})",
            received_at=entry["posted_at"],
            handled_at=entry["posted_at"],
            outcome="ok",
            data={key: entry[key] for key in ("currency", "fee_minor", "late", "postings")},
        )
        for entry in await storage.entries_of(tx, payment_id)
    ]


def trial_of(rows: Sequence[Any], as_of: dt.datetime) -> TrialBalance:
    """Return the trial balance that rows of `storage.trial_balance` tell."""
    currencies = []
    balanced = True
    for currency, group in groupby(rows, key=lambda row: str(row["currency"])):
        own = list(group)
        debit, credit = int(own[0]["debit_minor"] or 0), int(own[0]["credit_minor"] or 0)
        balanced = balanced and debit == credit and own[0]["balances_agree"]
        accounts = [
            AccountBalance(
                account=row["id"],
                kind=row["kind"],
                client_id=row["client_id"],
                balance_minor=int(row["posted_minor"]),
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
    entries = rows[0]["entries"] if rows else 0
    return TrialBalance(balanced=balanced, as_of=as_of, currencies=currencies, entries=entries)


def router(service: Service) -> APIRouter:
    """Return the ledger's routes."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    reader = service.verifier.needs("ledger:read")

    @asynccontextmanager
    async def seen_by(caller: Caller) -> AsyncIterator[Tx]:
        async with service.database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            yield tx

    @routes.get("/trial-balance")
    async def trial_balance(mode: Mode, caller: Caller = Depends(reader)) -> TrialBalance:
        """Every account of a mode; an operator's view."""
        if not caller.operator:
            raise Problem(403, "operators_only", "The trial balance is for the operator")
        async with seen_by(caller) as tx:
            rows = await storage.trial_balance(tx, mode, TRIAL_ACCOUNTS)
        return trial_of(rows, dt.datetime.now(dt.UTC))

    @routes.get("/payments/{payment_id}/entries")
    async def entries(
        payment_id: Annotated[str, Path(max_length=80, pattern=PRINTABLE)],
        caller: Caller = Depends(reader),
    ) -> Entries:
        """The journal entries of a payment."""
        async with seen_by(caller) as tx:
            found = await storage.entries_of(tx, payment_id)
        return Entries(entries=[EntryBody.model_validate(entry) for entry in found])

    @routes.get("/accounts")
    async def accounts(
        caller: Caller = Depends(reader),
        client_id: Annotated[str, Query(max_length=80, pattern=r"^[\x21-\x7e]*$")] = "",
        mode: AnyMode = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        kind: Annotated[str, Query(pattern="^(clearing|pending|fees|refund_due|)$")] = "",
        cursor: Annotated[str, Query(max_length=200, pattern=r"^[\x21-\x7e]*$")] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Accounts:
        """Accounts in id order, filtered."""
        async with seen_by(caller) as tx:
            rows = await storage.accounts(
                tx,
                client_id=client_id,
                mode=mode,
                currency=currency,
                kind=kind,
                after=cursor,
                limit=limit + 1,
            )
        items = [AccountBody(account=row["id"], **dict(row)) for row in rows[:limit]]
        return Accounts(items=items, next_cursor=items[-1].account if len(rows) > limit else None)

    @routes.get("/balances")
    async def balances(
        client_id: Annotated[str, Query(max_length=80, pattern=PRINTABLE)],
        mode: AnyMode = "",
        caller: Caller = Depends(reader),
    ) -> ClientBalances:
        """A client's accounts."""
        async with seen_by(caller) as tx:
            rows = await storage.accounts(tx, client_id=client_id, mode=mode, limit=200)
        return ClientBalances(
            balances=[ClientBalance(account=row["id"], **dict(row)) for row in rows]
        )

    return routes
