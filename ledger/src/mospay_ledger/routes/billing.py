"""What the routes of invoicing share: who sees and changes what, shapes, refusals as problems."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import Response
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AfterValidator, Field

from mospay_ledger import papers
from mospay_ledger.domain.invoices import (
    InvoiceError,
    InvoiceInvalid,
    InvoiceMissing,
    StaleVersion,
    StepRefused,
)
from mospay_ledger.routes.common import NO_CONTROLS, PRINTABLE
from mospay_ledger.storage import invoices as storage
from mospay_ledger.storage.customers import View

READ, WRITE = "invoices:read", "invoices:write"
LINES = r"^[^\x00-\x09\x0b-\x1f\x7f]*$"  # text that may have line breaks
BIGINT = 2**63 - 1
DAYS = (dt.date(2000, 1, 1), dt.date(2200, 1, 1))  # a calendar both we and the database have
_STATUS = {"not_found": 404, "stale_version": 409, "step_refused": 409, "reference_taken": 409}

Id = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
Ref = Annotated[str, Field(max_length=80, pattern=PRINTABLE)]
IdFilter = Annotated[str, Query(max_length=80, pattern=r"^[\x21-\x7e]*$")]
Cursor = Annotated[str, Query(max_length=80, pattern=r"^[\x21-\x7e]*$")]
Version = Annotated[int, Field(ge=1, le=BIGINT)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_CONTROLS)]
Text = Annotated[str, Field(max_length=500, pattern=LINES)]
Minor = Annotated[int, Field(ge=0, le=2**53)]  # exact in every JSON reader


def _known_day(day: dt.date) -> dt.date:
    if not DAYS[0] <= day < DAYS[1]:
        raise ValueError("must be between 2000 and 2199")
    return day


Day = Annotated[dt.date, AfterValidator(_known_day)]
DayQuery = Annotated[
    dt.date | None, Query(description="A day such as 2026-11-30; the issuer's today, when absent.")
]


def day(value: dt.date | None, field: str = "as_of") -> dt.date | None:
    """Return a day the database can count with; raises Problem 422."""
    if value is not None and not DAYS[0] <= value < DAYS[1]:
        fault = FieldProblem(
            field=field, code="out_of_range", message="must be between 2000 and 2199"
        )
        raise Problem(422, "invalid_request", "The request is not valid", errors=[fault])
    return value


def decimal_text(value: Decimal) -> str:
    """Return a quantity without needless zeros: 2.500000 is `2.5`."""
    plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@asynccontextmanager
async def seen_by(service: Service, caller: Caller) -> AsyncIterator[Tx]:
    """A transaction that sees what the token lets it see: of a payer, the payer's own alone."""
    async with service.database.request(
        client_id=caller.client_id or "",
        mode=caller.mode or "",
        customer_id=caller.customer_id or "",
        operator=caller.operator,
    ) as tx:
        yield tx


def view_of(caller: Caller) -> View:
    """Return whose rows a caller may change; raises Problem 403 for payers."""
    if caller.operator:
        return View(None, caller.mode)
    if caller.customer_id is not None or not caller.client_id:
        raise Problem(403, "clients_only", "Changing invoices is for the issuer")
    if caller.mode not in ("live", "test"):
        raise Problem(403, "mode_missing", "The token must name a mode to change something")
    return View(caller.client_id, caller.mode)


@asynccontextmanager
async def refusals() -> AsyncIterator[None]:
    """Turn what invoicing refuses into problems."""
    try:
        yield
    except InvoiceInvalid as error:
        faults = [FieldProblem(field=f.field, code=f.code, message=f.message) for f in error.faults]
        raise Problem(422, error.code, "The request is not valid", errors=faults) from error
    except InvoiceError as error:
        extra: dict[str, Any] = {}
        if isinstance(error, StaleVersion):
            extra["current_version"] = error.current
        if isinstance(error, StepRefused):
            extra["status_now"] = error.status
        title = "There is no such thing" if isinstance(error, InvoiceMissing) else "Refused"
        message = str(error).partition(": ")[2]
        status = _STATUS.get(error.code, 422)
        raise Problem(status, error.code, title, detail=message, extra=extra) from error
    except papers.PapersBusy as error:
        raise Problem(
            503, error.code, "Too many papers are being made", headers={"Retry-After": "2"}
        ) from error
    except papers.PaperTooLarge as error:
        raise Problem(422, error.code, "That is more than one paper takes") from error


def missing(what: str) -> Problem:
    """Return the problem of what is not there, or not for who asks."""
    return Problem(404, "not_found", f"There is no such {what}")


def pdf(content: bytes, name: str) -> Response:
    """Return a PDF to be shown or kept under a name of ours."""
    headers = {
        "Content-Disposition": f'inline; filename="{name}.pdf"',
        "Cache-Control": "no-store",
    }
    return Response(content, media_type="application/pdf", headers=headers)


def csv_headers(name: str) -> dict[str, str]:
    """Return the headers of a CSV download."""
    return {
        "Content-Disposition": f'attachment; filename="{name}.csv"',
        "Cache-Control": "no-store",
    }


async def must_see(service: Service, caller: Caller, invoice_id: str) -> None:
    """Raise Problem 404 where row-level security does not show the caller an invoice.

    What changes it runs as the worker role, bounded by its own statement: this is the second wall.
    """
    async with seen_by(service, caller) as tx:
        if await storage.find(tx, invoice_id) is None:
            raise missing("invoice")
