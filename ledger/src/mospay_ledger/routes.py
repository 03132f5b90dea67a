"""HTTP into the ledger: reads for portal-api, tenant-safe by query and row-level security."""

import datetime as dt

from fastapi import APIRouter, Depends, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel

from mospay_ledger import storage


class PostingBody(BaseModel):
    """One side: debit positive, credit negative, minor units."""

    account: str
    amount_minor: int


class EntryBody(BaseModel):
    """A journal entry."""

    entry_id: str
    kind: str
    posted_at: dt.datetime
    currency: str
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
    """The accounts of one currency and their totals."""

    currency: str
    debit_minor: int
    credit_minor: int
    accounts: list[AccountBalance]


class TrialBalance(BaseModel):
    """Balanced: debits equal credits in each currency and balances equal their postings."""

    balanced: bool
    as_of: dt.datetime
    currencies: list[CurrencyBalance]
    entries: int


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
            data={"currency": entry["currency"], "postings": entry["postings"]},
        )
        for entry in await storage.entries_of(tx, payment_id)
    ]


def router(service: Service) -> APIRouter:
    """Return the ledger's routes."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    reader = service.verifier.needs("ledger:read")

    @routes.get("/trial-balance")
    async def trial_balance(
        mode: str = Query(pattern="^(live|test)$"), caller: Caller = Depends(reader)
    ) -> TrialBalance:
        """Every account of a mode; an operator's view."""
        if not caller.operator:
            raise Problem(403, "operators_only", "The trial balance is for the operator")
        async with service.database.request(operator=True) as tx:
            rows = await storage.trial_balance(tx, mode)
            entries = await storage.count_entries(tx, mode)
        currencies = []
        balanced = all(row["balance_minor"] == row["posted_minor"] for row in rows)
        for code in sorted({row["currency"] for row in rows}):
            own = [row for row in rows if row["currency"] == code]
            debit = sum(r["balance_minor"] for r in own if r["balance_minor"] > 0)
            credit = -sum(r["balance_minor"] for r in own if r["balance_minor"] < 0)
            balanced = balanced and debit == credit
            accounts = [
                AccountBalance(
                    account=r["id"],
                    kind=r["kind"],
                    client_id=r["client_id"],
                    balance_minor=r["balance_minor"],
                )
                for r in own
            ]
            currencies.append(
                CurrencyBalance(
                    currency=code, debit_minor=debit, credit_minor=credit, accounts=accounts
                )
            )
        now = dt.datetime.now(dt.UTC)
        return TrialBalance(balanced=balanced, as_of=now, currencies=currencies, entries=entries)

    @routes.get("/payments/{payment_id}/entries")
    async def entries(payment_id: str, caller: Caller = Depends(reader)) -> Entries:
        """The journal entries of a payment."""
        async with service.database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            found = await storage.entries_of(tx, payment_id)
        return Entries(entries=[EntryBody.model_validate(entry) for entry in found])

    @routes.get("/balances")
    async def balances(
        client_id: str = Query(max_length=80),
        mode: str = Query("", pattern="^(live|test|)$"),
        caller: Caller = Depends(reader),
    ) -> ClientBalances:
        """A client's accounts."""
        async with service.database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            rows = await storage.balances_of(tx, client_id, mode)
        return ClientBalances(
            balances=[ClientBalance(account=row["id"], **dict(row)) for row in rows]
        )

    return routes
