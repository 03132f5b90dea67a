"""What the reporter's routes share: kinds of parameters, whose view it is, refused queries."""

import datetime as dt
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AfterValidator, AwareDatetime, Field

from mospay_reporter.domain.facts import BIGINT
from mospay_reporter.domain.periods import FIRST, LAST, QueryError


def _in_calendar(value: dt.datetime) -> dt.datetime:
    if not FIRST <= value <= LAST:
        raise ValueError("must lie between the years 2000 and 2200")
    return value.astimezone(dt.UTC)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is not an IANA time zone such as Africa/Kigali") from error
    return name


Instant = Annotated[AwareDatetime, AfterValidator(_in_calendar)]
Zone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]
Plain = Annotated[str, Field(pattern=r"^[^\x00]+$")]  # PostgreSQL's text has no NUL
Id = Annotated[Plain, Field(max_length=80)]
Mode = Literal["live", "test"]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Minor = Annotated[int, Field(ge=0, lt=BIGINT)]


def refused(error: QueryError) -> Problem:
    """Return the problem that names the parameter to change."""
    fault = FieldProblem(field=error.field, code=error.code, message=str(error))
    return Problem(422, "invalid_request", "The request is not valid", errors=[fault])


def seen_by(database: Database, caller: Caller) -> Any:
    """Open a transaction that sees what the token's tenant may see, whatever the query says."""
    return database.request(
        client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
    )
