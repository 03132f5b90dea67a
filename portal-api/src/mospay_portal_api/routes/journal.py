"""The journal for people: entries, balances, trial balance, the chain, and taking entries back.

An operator's person sees all of it; a client user the entries and accounts of their own client. The
ledger keeps the books and tells the two people of a reversal apart, by the sessions they act from.
"""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime

from mospay_portal_api.domain.errors import Fault, Invalid
from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.context import (
    PROBLEMS,
    ClientId,
    Context,
    Currency,
    Cursor,
    Limit,
    Mode,
    Reference,
    author,
)
from mospay_portal_api.routes.journal_models import (
    Balances,
    JournalEntryPage,
    JournalVerified,
    NewReversal,
    OneJournalEntry,
    Reversal,
    ReversalPage,
    TrialBalance,
)
from mospay_portal_api.storage import audit

LEDGER, BASE = "ledger", "/internal/v1"
READ, WRITE = "ledger:read", "ledger:write"
BOOKS_SECONDS = 20.0  # all accounts as of an instant, or some hundred blocks of the chain
Kind = Annotated[str | None, Query(pattern="^[a-z_]{1,40}$")]
PaymentId = Annotated[str | None, Query(max_length=80, pattern="^[A-Za-z0-9_]+$")]
EntryId = Annotated[str | None, Query(max_length=80, pattern="^[A-Za-z0-9_]+$")]
Since = Annotated[AwareDatetime | None, Query(alias="from", description="posted at or after")]
Until = Annotated[AwareDatetime | None, Query(alias="to", description="posted before")]
AsOf = Annotated[
    AwareDatetime | None,
    Query(description="as of this instant (RFC 3339 with an offset); now, when absent"),
]
State = Annotated[str | None, Query(pattern="^(open|approved|rejected)$")]
FirstBlock = Annotated[int, Query(alias="from", ge=1, le=2**63 - 2)]


def _instant(at: dt.datetime | None, field: str) -> str | None:
    """Return an instant as the ledger reads it; raises Invalid for one that UTC does not have."""
    try:
        return at.astimezone(dt.UTC).isoformat() if at else None
    except OverflowError as error:
        raise Invalid([Fault(field, "out_of_range", "is beyond the calendar")]) from error


def router(context: Context) -> APIRouter:
    """Return the routes that everybody has for what they may see."""
    routes = APIRouter(prefix="/bff/v1", tags=["journal"], responses=PROBLEMS)
    house, signed_in = context.house, Depends(context.person)

    @routes.get("/journal-entries", response_model=JournalEntryPage)
    async def entries(
        mode: Mode,
        client_id: ClientId = None,
        currency: Currency = None,
        kind: Kind = None,
        payment_id: PaymentId = None,
        since: Since = None,
        until: Until = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = signed_in,
    ) -> Any:
        """Journal entries, newest first."""
        me, only = await context.speaker(person, client_id, mode)
        query = {
            "mode": mode, "client_id": only, "currency": currency, "kind": kind,
            "payment_id": payment_id, "from": _instant(since, "from"), "to": _instant(until, "to"),
            "cursor": cursor, "limit": limit,
        }  # fmt: skip
        return await house.get(LEDGER, f"{BASE}/entries", READ, me, query)

    @routes.get("/journal-entries/{entry_id}", response_model=OneJournalEntry)
    async def entry(
        entry_id: Reference, client_id: ClientId = None, person: Person = signed_in
    ) -> Any:
        """One journal entry, with the one that took it back."""
        me, _ = await context.speaker(person, client_id)
        return await house.send("GET", LEDGER, f"{BASE}/entries/{entry_id}", READ, me)

    @routes.get("/balances", response_model=Balances)
    async def balances(
        mode: Mode, client_id: ClientId = None, as_of: AsOf = None, person: Person = signed_in
    ) -> Any:
        """A client's accounts, now or as of an instant; an operator's person names the client."""
        me, only = await context.speaker(person, client_id, mode)
        if only is None:
            raise Invalid([Fault("client_id", "required", "name the client whose they are")])
        query = {"client_id": only, "mode": mode, "at": _instant(as_of, "as_of")}
        return await house.get(LEDGER, f"{BASE}/balances", READ, me, query)

    return routes


def books_router(context: Context) -> APIRouter:
    """Return the operator's reads of the whole books."""
    routes = APIRouter(prefix="/bff/v1", tags=["journal"], responses=PROBLEMS)
    house, reads = context.house, Depends(context.needs(READ))

    @routes.get("/trial-balance", response_model=TrialBalance)
    async def trial_balance(mode: Mode, as_of: AsOf = None, person: Person = reads) -> Any:
        """The books: every account of a mode, and whether debits equal credits."""
        query = {"mode": mode, "at": _instant(as_of, "as_of")}
        return await house.get(
            LEDGER, f"{BASE}/trial-balance", READ, asker(person, None, mode), query,
            timeout_seconds=BOOKS_SECONDS if as_of else None,
        )  # fmt: skip

    @routes.get("/journal/verify", response_model=JournalVerified)
    async def verify(first: FirstBlock = 1, person: Person = reads) -> Any:
        """Recompute the hash chain from a block on, and name the first row that is wrong."""
        return await house.get(
            LEDGER, f"{BASE}/verify", READ, asker(person, None), {"from": first},
            timeout_seconds=BOOKS_SECONDS,
        )  # fmt: skip

    return routes


def reversals_router(context: Context) -> APIRouter:
    """Return the routes of reversals: one person proposes, another approves or rejects."""
    routes = APIRouter(prefix="/bff/v1", tags=["journal"], responses=PROBLEMS)
    house, database = context.house, context.service.database
    reads, writes = Depends(context.needs(READ)), Depends(context.needs(WRITE))

    @routes.post("/journal-entries/{entry_id}/reversals", status_code=201)
    async def propose(
        entry_id: Reference, body: NewReversal, request: Request, person: Person = writes
    ) -> Reversal:
        """Propose to take an entry back; nothing is posted until a second person approves."""
        path, wanted = f"{BASE}/entries/{entry_id}/reversals", body.model_dump()
        made = Reversal(
            **await house.send("POST", LEDGER, path, WRITE, asker(person, None), wanted)
        )
        async with database.transaction() as tx:
            by = author(person, request)
            await audit.write(
                tx, by, "reversal_proposed", entry_id, after=wanted | {"reversal_id": made.id}
            )
        return made

    @routes.get("/reversals", response_model=ReversalPage)
    async def listed(
        mode: Mode,
        state: State = None,
        client_id: ClientId = None,
        entry_id: EntryId = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Proposed reversals, newest first."""
        query = {
            "mode": mode, "state": state, "client_id": client_id, "entry_id": entry_id,
            "cursor": cursor, "limit": limit,
        }  # fmt: skip
        me = asker(person, None, mode)
        return await house.get(LEDGER, f"{BASE}/reversals", READ, me, query)

    def deciding(name: str) -> None:
        @routes.post(f"/reversals/{{reversal_id}}/{name}", name=f"{name}_reversal")
        async def decide(
            reversal_id: Reference, request: Request, person: Person = writes
        ) -> Reversal:
            """Decide on what another person proposed; approved, it is posted now, and once."""
            path = f"{BASE}/reversals/{reversal_id}/{name}"
            done = Reversal(**await house.send("POST", LEDGER, path, WRITE, asker(person, None)))
            async with database.transaction() as tx:
                by, what = author(person, request), f"reversal_{done.state}"
                await audit.write(tx, by, what, done.entry_id, after=done.model_dump(mode="json"))
            return done

    deciding("approve")
    deciding("reject")
    return routes
