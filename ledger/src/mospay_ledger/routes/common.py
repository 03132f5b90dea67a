"""What the routes share: who sees what, the shapes of parameters, refusals as problems."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Query
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AwareDatetime

from mospay_ledger.domain import FeePlanInvalid, LedgerError, TermsInvalid
from mospay_ledger.domain.reconciliation import NotAllowed
from mospay_ledger.storage import reads

PRINTABLE = r"^[\x21-\x7e]+$"  # what an id is made of; a NUL must not reach the database
MAYBE_PRINTABLE = r"^[\x21-\x7e]*$"
NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"
BIGINT = 2**63 - 1
EXAMPLE_CLIENT = "cli_019aa51c000070008000000000000001"
EXAMPLE_ENTRY = "ent_019aa51c00007000800000000000000e"
EXAMPLE_PAYMENT = "pay_019aa51c00007000800000000000000a"
EXAMPLE_PENDING = f"client:{EXAMPLE_CLIENT}:RWF:test:pending"
EXAMPLE_TIME = "2026-11-21T08:00:00.123456Z"

Mode = Annotated[str, Query(pattern="^(live|test)$")]
AnyMode = Annotated[str, Query(pattern="^(live|test|)$")]
ClientFilter = Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)]
Limit = Annotated[int, Query(ge=1, le=200)]
At = Annotated[
    AwareDatetime | None,
    Query(description="As of this instant (RFC 3339 with an offset); now, when absent."),
]
_STATUS = {
    "entry_missing": 404,
    "already_reversed": 409,
    "already_proposed": 409,
    "reversal_missing": 404,
    "not_reversible": 409,
    "not_enough": 409,
    "payout_missing": 404,
    "stale_version": 409,
    "no_such_step": 409,
    "reconciliation_missing": 404,
    "not_now": 409,
}
_TITLES = {
    FeePlanInvalid: "The fee plan is not valid",
    TermsInvalid: "The settlement terms are not valid",
}


@asynccontextmanager
async def seen_by(service: Service, caller: Caller) -> AsyncIterator[Tx]:
    """A transaction that sees what the caller's token lets it see."""
    async with service.database.request(
        client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
    ) as tx:
        yield tx


def operators_only(caller: Caller, what: str) -> None:
    """Raise 403 for anyone who speaks for a tenant."""
    if not caller.operator:
        raise Problem(403, "operators_only", f"{what} is for the operator")


@asynccontextmanager
async def refusals() -> AsyncIterator[None]:
    """Turn what the ledger refuses into problems."""
    try:
        yield
    except (FeePlanInvalid, TermsInvalid) as error:
        fault = FieldProblem(field=error.field, code="invalid", message=error.message)
        raise Problem(422, error.code, _TITLES[type(error)], errors=[fault]) from error
    except NotAllowed as error:
        fault = FieldProblem(field=error.field, code=error.code, message=error.message)
        raise Problem(422, error.code, "The request is not valid", errors=[fault]) from error
    except LedgerError as error:
        status = _STATUS.get(error.code, 422)
        raise Problem(status, error.code, "The ledger refuses", detail=str(error)) from error


def actor_of(caller: Caller) -> str:
    """Return the person behind a call; raises Problem 403 where the token names none."""
    if not caller.actor:
        raise Problem(403, "actor_required", "The token must name the person who acts")
    return caller.actor


def tenant_of(caller: Caller) -> tuple[str, str]:
    """Return client and mode that a query is bound to; empty where the token leaves them open."""
    return caller.client_id or "", caller.mode or ""


def fault(field: str, message: str) -> Problem:
    """Return the problem of one field that is not valid."""
    named = FieldProblem(field=field, code="invalid", message=message)
    return Problem(422, "invalid_request", "The request is not valid", errors=[named])


async def place(tx: Tx, cursor: str, client_id: str, mode: str) -> tuple[dt.datetime, str] | None:
    """Return where a list of entries goes on: (posted_at, id) of the last one shown.

    None without a cursor. Raises Problem 422 for what is no entry of the client's (empty: of
    anybody's) in this mode.
    """
    if not cursor:
        return None
    posted_at = await reads.place_of(tx, cursor, client_id, mode)
    if posted_at is None:
        raise fault("cursor", "is not a cursor of this list")
    return posted_at, cursor


def instant(at: dt.datetime | None, field: str = "at") -> dt.datetime | None:
    """Return the instant in UTC, within what the database can compare; raises Problem 422."""
    if at is None:
        return None
    try:
        return at.astimezone(dt.UTC)
    except (OverflowError, ValueError) as error:
        fault = FieldProblem(field=field, code="out_of_range", message="is beyond the calendar")
        raise Problem(422, "invalid_request", "The request is not valid", errors=[fault]) from error


def person(caller: Caller, what: str) -> str:
    """Return who acts for the operator, by the token alone; raises Problem 403."""
    operators_only(caller, what)
    if caller.actor is None:
        raise Problem(403, "person_missing", f"{what} needs a token that names a person")
    return caller.actor
