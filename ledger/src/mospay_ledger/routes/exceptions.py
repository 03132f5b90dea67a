"""Exceptions over HTTP: the list, one with its history, and what people do about it."""

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AwareDatetime, BaseModel, Field

from mospay_ledger.domain.reconciliation import EXCEPTION_KINDS, limits_of
from mospay_ledger.routes.common import (
    EXAMPLE_ENTRY,
    EXAMPLE_PAYMENT,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    NO_CONTROLS,
    PRINTABLE,
    AnyMode,
    Limit,
    operators_only,
    person,
    refusals,
    seen_by,
)
from mospay_ledger.routes.provider_statements import EXAMPLE_IMPORT, AnyMicroservice
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import exceptions
from mospay_ledger.usecases import resolving

PREFIX = "/reconciliation/exceptions"
EXAMPLE_EXCEPTION = "exc_019aa51c000070008000000000000021"
ExceptionId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
Words = Annotated[str, Field(min_length=3, max_length=500, pattern=NO_CONTROLS)]
Filter = Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)]


class ExceptionBody(BaseModel):
    """A line or entry the two sides disagree about; minor units, money to us positive.

    `delta_minor` is what the clearing account lacks to say what the provider says.
    """

    id: str = Field(examples=[EXAMPLE_EXCEPTION])
    kind: str = Field(examples=["missing_here"])
    microservice: str = Field(examples=["mtnmomorwa"])
    mode: str = Field(examples=["live"])
    currency: str = Field(examples=["RWF"])
    stated_minor: int = Field(examples=[1500])
    expected_currency: str | None = Field(examples=[None])
    expected_minor: int = Field(examples=[0])
    delta_minor: int = Field(examples=[1500])
    import_id: str | None = Field(examples=[EXAMPLE_IMPORT])
    line_no: int | None = Field(examples=[17])
    entry_id: str | None = Field(examples=[None])
    reference: str | None = Field(examples=["mtn_1"])
    payment_id: str | None = Field(examples=[EXAMPLE_PAYMENT])
    occurred_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    state: str = Field(examples=["open"])
    assignee: str | None = Field(examples=["usr_a"])
    due_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    overdue: bool = Field(examples=[False])
    wait_until: dt.datetime | None = Field(examples=[None])
    resolution: str | None = Field(examples=[None])
    proposed_by: str | None = Field(examples=[None])
    approved_by: str | None = Field(examples=[None])
    opened_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    resolved_at: dt.datetime | None = Field(examples=[None])
    version: int = Field(examples=[1])


class ActionBody(BaseModel):
    """What somebody did, and the entries it posted or took back."""

    action: str = Field(examples=["resolved"])
    actor: str = Field(examples=["usr_a"])
    note: str | None = Field(examples=["seen on the bank's notice"])
    entry_ids: list[str] = Field(examples=[[EXAMPLE_ENTRY]])
    at: dt.datetime = Field(examples=[EXAMPLE_TIME])


class OneException(ExceptionBody):
    """An exception with its history, oldest first."""

    actions: list[ActionBody]


class Exceptions(BaseModel):
    """A page of exceptions, newest first; `next_cursor` is null at the end."""

    items: list[ExceptionBody]
    next_cursor: str | None = Field(examples=[None])


class Assignment(BaseModel):
    """Who looks after it; null: nobody."""

    assignee: Annotated[str, Field(max_length=80, pattern=PRINTABLE)] | None = Field(
        examples=["usr_a"]
    )


class Note(BaseModel):
    """A remark."""

    note: Words = Field(examples=["asked the provider"])


class Waiting(Note):
    """Until when to wait for a match, and why."""

    until: AwareDatetime = Field(examples=[EXAMPLE_TIME])


class Resolution(Note):
    """How it is resolved, and why. What posts above a limit is a proposal first."""

    resolution: Literal["write_off", "suspense_in", "confirm_fee", "duplicate_dismiss"] = Field(
        examples=["suspense_in"]
    )


Act = Callable[[Tx, str], Awaitable[None]]  # (transaction, who)


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about exceptions."""
    _add_reads(routes, service)
    _add_acts(routes, service)
    _add_decisions(routes, service, limits_of(settings.one_person_limits))


def _add_reads(routes: APIRouter, service: Service) -> None:
    reader = service.verifier.needs("ledger:read")

    @routes.get(PREFIX)
    async def list_exceptions(
        state: Annotated[str, Query(pattern="^(open|proposed|resolved|)$")] = "",
        mode: AnyMode = "",
        microservice: AnyMicroservice = "",
        kind: Annotated[str, Query(pattern=f"^({'|'.join(EXCEPTION_KINDS)}|)$")] = "",
        assignee: Filter = "",
        import_id: Filter = "",
        currency: Annotated[str, Query(pattern="^([A-Z]{3}|)$")] = "",
        overdue: bool = False,
        cursor: Filter = "",
        limit: Limit = 50,
        caller: Caller = Depends(reader),
    ) -> Exceptions:
        """Exceptions, newest first, filtered."""
        operators_only(caller, "Reconciliation")
        filters = (state, mode, microservice, kind, assignee, import_id, currency, overdue)
        async with seen_by(service, caller) as tx:
            rows = await exceptions.page(tx, filters, cursor, limit + 1)
        items = [ExceptionBody(**dict(row)) for row in rows[:limit]]
        return Exceptions(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.get(PREFIX + "/{exception_id}")
    async def one_exception(
        exception_id: ExceptionId, caller: Caller = Depends(reader)
    ) -> OneException:
        """One exception with what was done about it."""
        operators_only(caller, "Reconciliation")
        return await _shown(service, caller, exception_id)


async def _shown(service: Service, caller: Caller, exception_id: str) -> OneException:
    async with seen_by(service, caller) as tx:
        row = await exceptions.shown(tx, exception_id)
        actions = await exceptions.actions(tx, exception_id)
    if row is None:
        raise Problem(404, "reconciliation_missing", "There is no such exception")
    told = [ActionBody(**dict(action)) for action in actions]
    return OneException(**dict(row), actions=told)


async def _acted(
    service: Service, caller: Caller, exception_id: str, what: str, act: Act
) -> OneException:
    by = person(caller, what)
    async with refusals(), service.database.transaction() as tx:
        await act(tx, by)
    return await _shown(service, caller, exception_id)


def _add_acts(routes: APIRouter, service: Service) -> None:
    writer = service.verifier.needs("ledger:write")

    @routes.post(PREFIX + "/{exception_id}/assignment")
    async def assign(
        exception_id: ExceptionId, body: Assignment, caller: Caller = Depends(writer)
    ) -> OneException:
        """Give an exception to a person."""
        return await _acted(
            service,
            caller,
            exception_id,
            "Assigning an exception",
            lambda tx, by: resolving.assign(tx, exception_id, body.assignee, by),
        )

    @routes.post(PREFIX + "/{exception_id}/notes")
    async def note(
        exception_id: ExceptionId, body: Note, caller: Caller = Depends(writer)
    ) -> OneException:
        """Write a remark."""
        return await _acted(
            service,
            caller,
            exception_id,
            "Writing a remark",
            lambda tx, by: resolving.note(tx, exception_id, body.note, by),
        )

    @routes.post(PREFIX + "/{exception_id}/wait")
    async def wait(
        exception_id: ExceptionId, body: Waiting, caller: Caller = Depends(writer)
    ) -> OneException:
        """Let it wait for a later match."""
        return await _acted(
            service,
            caller,
            exception_id,
            "Letting an exception wait",
            lambda tx, by: resolving.wait(tx, exception_id, body.until, body.note, by),
        )


def _add_decisions(routes: APIRouter, service: Service, limits: dict[str, int]) -> None:
    writer = service.verifier.needs("ledger:write")

    @routes.post(PREFIX + "/{exception_id}/resolution")
    async def resolve(
        exception_id: ExceptionId, body: Resolution, caller: Caller = Depends(writer)
    ) -> OneException:
        """Resolve an exception, or propose it to a second person."""
        return await _acted(
            service,
            caller,
            exception_id,
            "Resolving an exception",
            lambda tx, by: resolving.resolve(
                tx, service.relay, exception_id, body.resolution, body.note, by, limits
            ),
        )

    @routes.post(PREFIX + "/{exception_id}/approval")
    async def approve(
        exception_id: ExceptionId, body: Note, caller: Caller = Depends(writer)
    ) -> OneException:
        """Approve what another person proposed; it posts now."""
        return await _acted(
            service,
            caller,
            exception_id,
            "Approving a resolution",
            lambda tx, by: resolving.approve(tx, service.relay, exception_id, body.note, by),
        )

    @routes.post(PREFIX + "/{exception_id}/rejection")
    async def reject(
        exception_id: ExceptionId, body: Note, caller: Caller = Depends(writer)
    ) -> OneException:
        """Take a proposal off the table."""
        return await _acted(
            service,
            caller,
            exception_id,
            "Rejecting a resolution",
            lambda tx, by: resolving.reject(tx, exception_id, body.note, by),
        )
