"""Taking entries back: proposed by one person, approved or rejected by another, by their tokens."""

import datetime as dt
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    NO_CONTROLS,
    PRINTABLE,
    AnyMode,
    ClientFilter,
    Limit,
    operators_only,
    person,
    refusals,
    seen_by,
)
from mospay_ledger.storage import reversals as storage
from mospay_ledger.usecases import reversing

ACT = "Taking an entry back"
EXAMPLE_REVERSAL = "rev_019aa51c000070008000000000000031"
EntryId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
ReversalId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]


class NewReversal(BaseModel):
    """How an entry is to be taken back, and why.

    A `reversal` undoes everything, the fee too. A `chargeback` (of a capture alone) leaves the fee
    with the operator.
    """

    kind: Literal["reversal", "chargeback"] = Field(examples=["reversal"])
    reason: str = Field(min_length=1, max_length=300, pattern=NO_CONTROLS, examples=["bank notice"])


class ReversalBody(BaseModel):
    """A proposed reversal with the entry it is of; `state` is open, approved or rejected.

    `reversal_entry_id` is the entry it posted, minor units.
    """

    id: str = Field(examples=[EXAMPLE_REVERSAL])
    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    entry_kind: str = Field(examples=["capture"])
    client_id: str = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    currency: str = Field(examples=["RWF"])
    amount_minor: int = Field(examples=[1500])
    kind: str = Field(examples=["reversal"])
    reason: str = Field(examples=["bank notice"])
    state: str = Field(examples=["open"])
    proposed_by: str = Field(examples=["usr_a"])
    proposed_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    decided_by: str | None = Field(examples=[None])
    decided_at: dt.datetime | None = Field(examples=[None])
    reversal_entry_id: str | None = Field(examples=[None])


class ReversalPage(BaseModel):
    """A page of proposed reversals, newest first; `next_cursor` is null at the end."""

    items: list[ReversalBody]
    next_cursor: str | None = Field(examples=[None])


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes about reversals."""
    reader = service.verifier.needs("ledger:read")
    writer = service.verifier.needs("ledger:write")

    @routes.post("/entries/{entry_id}/reversals", status_code=201)
    async def propose(
        entry_id: EntryId, body: NewReversal, caller: Caller = Depends(writer)
    ) -> ReversalBody:
        """Propose to take an entry back; nothing is posted until another person approves."""
        by = person(caller, ACT)
        async with refusals(), service.database.transaction() as tx:
            made = await reversing.propose(tx, entry_id, body.kind, body.reason, by)
            return ReversalBody(**dict(await storage.shown(tx, made)))

    @routes.get("/reversals")
    async def listed(
        caller: Caller = Depends(reader),
        state: Annotated[str, Query(pattern="^(open|approved|rejected|)$")] = "",
        mode: AnyMode = "",
        entry_id: Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)] = "",
        client_id: ClientFilter = "",
        cursor: Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)] = "",
        limit: Limit = 50,
    ) -> ReversalPage:
        """Proposed reversals, newest first; an operator's view."""
        operators_only(caller, "Proposed reversals")
        async with seen_by(service, caller) as tx:
            rows = await storage.page(
                tx,
                state=state,
                mode=mode,
                entry_id=entry_id,
                client_id=client_id,
                before=cursor,
                limit=limit + 1,
            )
        items = [ReversalBody(**dict(row)) for row in rows[:limit]]
        return ReversalPage(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.post("/reversals/{reversal_id}/approve")
    async def approve(reversal_id: ReversalId, caller: Caller = Depends(writer)) -> ReversalBody:
        """Approve what another person proposed: the entry is taken back by one of its own, once."""
        return await decide(reversal_id, caller, approved=True)

    @routes.post("/reversals/{reversal_id}/reject")
    async def reject(reversal_id: ReversalId, caller: Caller = Depends(writer)) -> ReversalBody:
        """Reject a proposal; who proposed it may do so as well."""
        return await decide(reversal_id, caller, approved=False)

    async def decide(reversal_id: str, caller: Caller, *, approved: bool) -> ReversalBody:
        by = person(caller, ACT)
        async with refusals(), service.database.transaction() as tx:
            await reversing.decide(tx, service.relay, reversal_id, by, approve=approved)
            return ReversalBody(**dict(await storage.shown(tx, reversal_id)))
