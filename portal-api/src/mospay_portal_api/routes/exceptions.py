"""Exceptions of reconciliation for the operator's people: whose they are, who resolved what."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from mospay_portal_api.domain.people import Person
from mospay_portal_api.routes.bodies import Body
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference
from mospay_portal_api.routes.reconciliation import (
    READ,
    WRITE,
    Cursor,
    Desk,
    Limit,
    ModeQuery,
    NameQuery,
    Word,
)

Note = Annotated[str, Field(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class ReconciliationException(BaseModel):
    """A line or entry the two sides disagree about; minor units, money to us positive."""

    id: str
    kind: str
    microservice: str
    mode: str
    currency: str
    stated_minor: int
    expected_currency: str | None
    expected_minor: int
    delta_minor: int
    import_id: str | None
    line_no: int | None
    entry_id: str | None
    reference: str | None
    payment_id: str | None
    occurred_at: dt.datetime
    state: str
    assignee: str | None
    due_at: dt.datetime
    overdue: bool
    wait_until: dt.datetime | None
    resolution: str | None
    proposed_by: str | None
    approved_by: str | None
    opened_at: dt.datetime
    resolved_at: dt.datetime | None
    version: int


class ReconciliationAction(BaseModel):
    """What somebody did, and the entries it posted or took back."""

    action: str
    actor: str
    note: str | None
    entry_ids: list[str]
    at: dt.datetime


class ReconciliationExceptionShown(ReconciliationException):
    """An exception with its history."""

    actions: list[ReconciliationAction]


class ReconciliationExceptionPage(BaseModel):
    """A page of exceptions, newest first."""

    items: list[ReconciliationException]
    next_cursor: str | None


class ExceptionAssignment(Body):
    """Who looks after it; null: nobody."""

    assignee: str | None = Field(pattern=r"^[A-Za-z0-9_]{1,80}$")


class ExceptionNote(Body):
    """A remark, or why."""

    note: Note


class ExceptionWait(ExceptionNote):
    """Until when to wait for a match, and why."""

    until: dt.datetime


class ExceptionResolution(ExceptionNote):
    """How it is resolved, and why; above a limit it is a proposal to a second person."""

    resolution: str = Field(pattern=r"^(write_off|suspense_in|confirm_fee|duplicate_dismiss)$")


def router(context: Context) -> APIRouter:
    """Return the routes of exceptions."""
    routes = APIRouter(
        prefix="/bff/v1/reconciliation/exceptions", tags=["reconciliation"], responses=PROBLEMS
    )
    desk, reads = Desk(context), Depends(context.needs(READ))

    @routes.get("", response_model=ReconciliationExceptionPage)
    async def exceptions(
        state: Word = None,
        mode: ModeQuery = None,
        microservice: NameQuery = None,
        kind: Word = None,
        assignee: NameQuery = None,
        import_id: NameQuery = None,
        currency: Annotated[str | None, Query(pattern="^[A-Z]{3}$")] = None,
        overdue: bool = False,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Exceptions, newest first."""
        query = {
            "state": state, "mode": mode, "microservice": microservice, "kind": kind,
            "assignee": assignee, "import_id": import_id, "currency": currency,
            "overdue": "true" if overdue else None, "cursor": cursor, "limit": limit,
        }  # fmt: skip
        return await desk.get(person, "/exceptions", query)

    @routes.get("/{exception_id}", response_model=ReconciliationExceptionShown)
    async def one_exception(exception_id: Reference, person: Person = reads) -> Any:
        """One exception with its history."""
        return await desk.get(person, f"/exceptions/{exception_id}")

    _add_acts(routes, context)
    return routes


def _add_acts(routes: APIRouter, context: Context) -> None:
    desk, writes = Desk(context), Depends(context.needs(WRITE))
    shown = ReconciliationExceptionShown

    async def act(
        person: Person, request: Request, exception_id: str, path: str, body: Body
    ) -> Any:
        where, action = f"/exceptions/{exception_id}/{path}", f"exception_{path}"
        return await desk.send(person, request, where, body, action, exception_id)

    @routes.post("/{exception_id}/assignment", response_model=shown)
    async def assign(
        exception_id: Reference, body: ExceptionAssignment, request: Request,
        person: Person = writes,
    ) -> Any:  # fmt: skip
        """Give an exception to a person."""
        return await act(person, request, exception_id, "assignment", body)

    @routes.post("/{exception_id}/notes", response_model=shown)
    async def note(
        exception_id: Reference, body: ExceptionNote, request: Request, person: Person = writes
    ) -> Any:
        """Write a remark."""
        return await act(person, request, exception_id, "notes", body)

    @routes.post("/{exception_id}/wait", response_model=shown)
    async def wait(
        exception_id: Reference, body: ExceptionWait, request: Request, person: Person = writes
    ) -> Any:
        """Let it wait for a later match."""
        return await act(person, request, exception_id, "wait", body)

    @routes.post("/{exception_id}/resolution", response_model=shown)
    async def resolve(
        exception_id: Reference, body: ExceptionResolution, request: Request,
        person: Person = writes,
    ) -> Any:  # fmt: skip
        """Resolve an exception, or propose it to a second person."""
        return await act(person, request, exception_id, "resolution", body)

    @routes.post("/{exception_id}/approval", response_model=shown)
    async def approve(
        exception_id: Reference, body: ExceptionNote, request: Request, person: Person = writes
    ) -> Any:
        """Approve what another person proposed; it posts now."""
        return await act(person, request, exception_id, "approval", body)

    @routes.post("/{exception_id}/rejection", response_model=shown)
    async def reject(
        exception_id: Reference, body: ExceptionNote, request: Request, person: Person = writes
    ) -> Any:
        """Take a proposal off the table."""
        return await act(person, request, exception_id, "rejection", body)
