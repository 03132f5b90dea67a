"""Journal entries: listed newest first, of a payment, one by its id."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AwareDatetime, BaseModel, Field

from mospay_ledger.domain import ENTRY_KINDS
from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_PENDING,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    PRINTABLE,
    AnyMode,
    ClientFilter,
    Limit,
    fault,
    instant,
    place,
    seen_by,
    tenant_of,
)
from mospay_ledger.storage import reads

KIND = f"^({'|'.join(ENTRY_KINDS)}|)$"
EntryId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
Filter = Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)]
Then = AwareDatetime | None
_HOP_FIELDS = ("currency", "fee_minor", "late", "postings")


class PostingBody(BaseModel):
    """One side: debit positive, credit negative, minor units; the balance before and after."""

    account: str = Field(examples=[EXAMPLE_PENDING])
    amount_minor: int = Field(examples=[-1470])
    previous_minor: int = Field(examples=[0])
    balance_minor: int = Field(examples=[-1470])
    account_version: int = Field(examples=[1])


class EntryBody(BaseModel):
    """A journal entry; a tenant sees the sides on its own accounts.

    `fee_minor` was taken under `fee_plan_id`, version and tier; `fee_returned_minor` was given
    back. `late`: proven after the payment or refund had ended otherwise. `resolved`: on the word of
    two people.
    """

    entry_id: str = Field(examples=[EXAMPLE_ENTRY])
    kind: str = Field(examples=["capture"])
    client_id: str | None = Field(examples=[EXAMPLE_CLIENT])
    mode: str = Field(examples=["test"])
    posted_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    occurred_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    currency: str = Field(examples=["RWF"])
    amount_minor: int = Field(examples=[1500])
    fee_minor: int = Field(examples=[30])
    fee_plan_id: str | None = Field(examples=["default_test"])
    fee_plan_version: int | None = Field(examples=[1])
    fee_tier: int | None = Field(examples=[None])
    fee_returned_minor: int = Field(examples=[0])
    late: bool = Field(examples=[False])
    resolved: bool = Field(examples=[False])
    payment_id: str | None = Field(examples=[EXAMPLE_PAYMENT])
    attempt_id: str | None = Field(examples=["att_019aa51c00007000800000000000000b"])
    refund_id: str | None = Field(examples=[None])
    provider_reference: str | None = Field(examples=["sim_1"])
    reverses: str | None = Field(examples=[None])
    reason: str | None = Field(examples=[None])
    postings: list[PostingBody]


class OneEntry(EntryBody):
    """An entry with the one that took it back, if any."""

    reversed_by: str | None = Field(examples=[None])


class Entries(BaseModel):
    """The entries of one payment, oldest first."""

    entries: list[EntryBody]


class EntryPage(BaseModel):
    """A page of entries, newest first; `next_cursor` is null at the end."""

    items: list[EntryBody]
    next_cursor: str | None = Field(examples=[None])


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
            data={key: entry[key] for key in _HOP_FIELDS},
        )
        for entry in await reads.entries_of(tx, payment_id)
    ]


def _shown(entry: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Return an entry as its reader may see it: a client is not told which of our people acted."""
    if caller.operator or entry["reverses"] is None or entry["reason"] is None:
        return entry
    # what posting.reverse wrote: the reason, then the two people in brackets
    return {**entry, "reason": entry["reason"].rpartition(" (")[0]}


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes about entries."""
    _add_page(routes, service)
    reader = service.verifier.needs("ledger:read")

    @routes.get("/payments/{payment_id}/entries")
    async def entries(payment_id: EntryId, caller: Caller = Depends(reader)) -> Entries:
        """The journal entries of a payment."""
        async with seen_by(service, caller) as tx:
            found = await reads.entries_of(tx, payment_id, *tenant_of(caller))
        return Entries(entries=[EntryBody.model_validate(_shown(e, caller)) for e in found])

    @routes.get("/entries/{entry_id}")
    async def entry(entry_id: EntryId, caller: Caller = Depends(reader)) -> OneEntry:
        """One journal entry."""
        async with seen_by(service, caller) as tx:
            found = await reads.entry(tx, entry_id, *tenant_of(caller))
        if found is None:
            raise Problem(404, "entry_missing", "There is no such entry")
        return OneEntry.model_validate(_shown(found, caller))


def _add_page(routes: APIRouter, service: Service) -> None:
    @routes.get("/entries")
    async def listed(
        caller: Caller = Depends(service.verifier.needs("ledger:read")),
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        kind: Annotated[str, Query(pattern=KIND)] = "",
        payment_id: Filter = "",
        since: Annotated[Then, Query(alias="from", description="posted at or after")] = None,
        until: Annotated[Then, Query(alias="to", description="posted before")] = None,
        cursor: Filter = "",
        limit: Limit = 50,
    ) -> EntryPage:
        """Journal entries in one mode, newest first: a client's, or (the operator) everybody's."""
        own, own_mode = tenant_of(caller)
        whose, where = own or client_id, own_mode or mode
        if not where:
            raise fault("mode", "is required")
        first, last = instant(since, "from"), instant(until, "to")
        async with seen_by(service, caller) as tx:
            rows = await reads.page(
                tx,
                whose,
                where,
                currency=currency,
                kind=kind,
                payment_id=payment_id,
                since=first,
                until=last,
                before=await place(tx, cursor, whose, where),
                limit=limit + 1,
            )
        items = [EntryBody.model_validate(_shown(row, caller)) for row in rows[:limit]]
        return EntryPage(items=items, next_cursor=items[-1].entry_id if len(rows) > limit else None)
