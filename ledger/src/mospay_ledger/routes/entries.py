"""Journal entries: of a client, of a payment, one by its id, and taking one back."""

import datetime as dt
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AwareDatetime, BaseModel, Field

from mospay_ledger.routes.common import (
    EXAMPLE_CLIENT,
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_PENDING,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    NO_CONTROLS,
    PRINTABLE,
    AnyMode,
    ClientFilter,
    Limit,
    fault,
    instant,
    operators_only,
    place,
    refusals,
    seen_by,
    tenant_of,
)
from mospay_ledger.storage import reads
from mospay_ledger.usecases import posting

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
    """A page of a client's entries, newest first; `next_cursor` is null at the end."""

    items: list[EntryBody]
    next_cursor: str | None = Field(examples=[None])


class Reversal(BaseModel):
    """Who takes an entry back, and why: two different people.

    A `reversal` undoes everything, the fee too. A `chargeback` (of a capture alone) leaves the fee
    with the operator.
    """

    kind: Literal["reversal", "chargeback"] = Field(examples=["reversal"])
    reason: str = Field(min_length=1, max_length=300, pattern=NO_CONTROLS, examples=["bank notice"])
    proposed_by: str = Field(min_length=1, max_length=80, pattern=PRINTABLE, examples=["usr_a"])
    approved_by: str = Field(min_length=1, max_length=80, pattern=PRINTABLE, examples=["usr_b"])


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


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes about entries."""
    _add_page(routes, service)
    reader = service.verifier.needs("ledger:read")
    writer = service.verifier.needs("ledger:write")

    @routes.get("/payments/{payment_id}/entries")
    async def entries(payment_id: EntryId, caller: Caller = Depends(reader)) -> Entries:
        """The journal entries of a payment."""
        async with seen_by(service, caller) as tx:
            found = await reads.entries_of(tx, payment_id, *tenant_of(caller))
        return Entries(entries=[EntryBody.model_validate(entry) for entry in found])

    @routes.get("/entries/{entry_id}")
    async def entry(entry_id: EntryId, caller: Caller = Depends(reader)) -> OneEntry:
        """One journal entry."""
        async with seen_by(service, caller) as tx:
            found = await reads.entry(tx, entry_id, *tenant_of(caller))
        if found is None:
            raise Problem(404, "entry_missing", "There is no such entry")
        return OneEntry.model_validate(found)

    @routes.post("/entries/{entry_id}/reversals", status_code=201)
    async def reverse(
        entry_id: EntryId, body: Reversal, caller: Caller = Depends(writer)
    ) -> OneEntry:
        """Take an entry back by an entry of its own; once. An operator's act, by two people."""
        operators_only(caller, "Taking an entry back")
        if body.proposed_by == body.approved_by:
            fault = FieldProblem(
                field="approved_by", code="same_person", message="must be another person"
            )
            raise Problem(422, "second_person", "A second person is needed", errors=[fault])
        async with refusals(), service.database.transaction() as tx:
            made = await posting.reverse(
                tx,
                service.relay,
                entry_id,
                keep_fee=body.kind == "chargeback",
                reason=body.reason,
                by=(body.proposed_by, body.approved_by),
            )
            found = await reads.entry(tx, made.id)
        return OneEntry.model_validate(found)


def _add_page(routes: APIRouter, service: Service) -> None:
    @routes.get("/entries")
    async def client_entries(
        caller: Caller = Depends(service.verifier.needs("ledger:read")),
        client_id: ClientFilter = "",
        mode: AnyMode = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        kind: Annotated[str, Query(pattern="^[a-z_]{0,40}$")] = "",
        payment_id: Filter = "",
        since: Annotated[Then, Query(alias="from", description="posted at or after")] = None,
        until: Annotated[Then, Query(alias="to", description="posted before")] = None,
        cursor: Filter = "",
        limit: Limit = 50,
    ) -> EntryPage:
        """A client's journal entries in one mode, newest first."""
        own, own_mode = tenant_of(caller)
        whose, where = own or client_id, own_mode or mode
        for field, value in (("client_id", whose), ("mode", where)):
            if not value:
                raise fault(field, "is required")
        first, last = instant(since, "from"), instant(until, "to")
        async with seen_by(service, caller) as tx:
            rows = await reads.page_of_client(
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
        items = [EntryBody.model_validate(row) for row in rows[:limit]]
        return EntryPage(items=items, next_cursor=items[-1].entry_id if len(rows) > limit else None)
