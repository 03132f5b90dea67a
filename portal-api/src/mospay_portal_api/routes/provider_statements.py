"""Providers' statements for the operator's people: mappings, upload, progress, faults, lines."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from mospay_portal_api.domain.people import Person, asker
from mospay_portal_api.routes.bodies import Body
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference
from mospay_portal_api.routes.reconciliation import (
    BASE,
    LEDGER,
    NAME,
    READ,
    WRITE,
    Cursor,
    Desk,
    Limit,
    ModeQuery,
    NameQuery,
    Word,
)

UPLOAD_PATH = "/bff/v1/reconciliation/imports"
Name = Annotated[str, Query(pattern=NAME)]
Mode = Annotated[str, Query(pattern=r"^(live|test)$")]
Instant = Annotated[str | None, Query(max_length=40, pattern=r"^[0-9TZ:.+-]*$")]


class StatementImport(BaseModel):
    """An import and how far it is; `staged` waits for a person to accept or discard it."""

    id: str
    microservice: str
    mode: str
    file_name: str
    size_bytes: int
    bytes_done: int
    mapping_version: int | None
    preset: str | None
    state: str
    covers_from: dt.datetime | None
    covers_until: dt.datetime | None
    lines_good: int
    lines_bad: int
    lines_skipped: int
    lines_accepted: int
    lines_repeated: int
    fault: str | None
    uploaded_by: str
    decided_by: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None


class UploadedStatement(StatementImport):
    """The import of the file; `repeated`: it had been uploaded before."""

    repeated: bool


class StatementImportPage(BaseModel):
    """A page of imports, newest first."""

    items: list[StatementImport]
    next_cursor: str | None


class StatementFault(BaseModel):
    """What is wrong at a line and column, and what to send instead."""

    line_no: int
    column: str
    code: str
    message: str


class StatementFaultPage(BaseModel):
    """A page of faults."""

    items: list[StatementFault]
    next_cursor: str | None


class StatementRow(BaseModel):
    """A line as it was understood; minor units, money to us positive."""

    line_no: int
    kind: str
    reference: str | None
    our_reference: str | None
    amount_minor: int
    currency: str
    fee_minor: int
    occurred_at: dt.datetime
    state: str
    entry_id: str | None
    matched_by: str | None


class StatementRowPage(BaseModel):
    """A page of lines."""

    items: list[StatementRow]
    next_cursor: int | None


class StatementMappingVersion(BaseModel):
    """A version of how a microservice's statements are read; `mapping` as the ledger has it."""

    microservice: str
    version: int
    mapping: dict[str, Any]
    created_by: str | None
    created_at: dt.datetime | None


class StatementMappingPage(BaseModel):
    """A page of mappings."""

    items: list[StatementMappingVersion]
    next_cursor: str | None


class ReconciliationReport(BaseModel):
    """Both sides of a provider's clearing; each currency with its sums in minor units."""

    microservice: str
    mode: str
    since: dt.datetime
    until: dt.datetime
    currencies: list[dict[str, Any]]


class NewStatementMapping(Body):
    """The next version of a mapping."""

    microservice: str = Field(pattern=NAME)
    mapping: dict[str, Any]


class StatementDecision(Body):
    """What becomes of an import."""

    decision: str = Field(pattern=r"^(accept|discard|cancel)$")


class MatchOrder(Body):
    """A match by hand; `as_of` for test mode alone."""

    microservice: str = Field(pattern=NAME)
    mode: str = Field(pattern=r"^(live|test)$")
    as_of: dt.datetime | None = None


class MatchOrdered(BaseModel):
    """What was asked for."""

    microservice: str
    mode: str


def router(context: Context) -> APIRouter:
    """Return the routes of statements: mappings, upload, progress, faults, lines, report."""
    routes = APIRouter(prefix="/bff/v1/reconciliation", tags=["reconciliation"], responses=PROBLEMS)
    context.service.streamed[UPLOAD_PATH] = context.settings.upload_bytes
    _add_reads(routes, context)
    _add_upload(routes, context)
    _add_changes(routes, context)
    return routes


def _add_reads(routes: APIRouter, context: Context) -> None:
    desk, reads = Desk(context), Depends(context.needs(READ))

    @routes.get("/presets", response_model=StatementMappingPage)
    async def presets(person: Person = reads) -> Any:
        """The mappings that ship."""
        return await desk.get(person, "/presets")

    @routes.get("/mappings", response_model=StatementMappingPage)
    async def mappings(
        microservice: NameQuery = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Mappings with all their versions."""
        query = {"microservice": microservice, "cursor": cursor, "limit": limit}
        return await desk.get(person, "/mappings", query)

    @routes.get("/imports", response_model=StatementImportPage)
    async def imports(
        microservice: NameQuery = None,
        mode: ModeQuery = None,
        state: Word = None,
        cursor: Cursor = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """Imports, newest first."""
        query = {"microservice": microservice, "mode": mode, "state": state, "cursor": cursor,
                 "limit": limit}  # fmt: skip
        return await desk.get(person, "/imports", query)

    @routes.get("/imports/{import_id}", response_model=StatementImport)
    async def one_import(import_id: Reference, person: Person = reads) -> Any:
        """One import, with its progress."""
        return await desk.get(person, f"/imports/{import_id}")

    @routes.get("/imports/{import_id}/faults", response_model=StatementFaultPage)
    async def faults(
        import_id: Reference, cursor: Cursor = None, limit: Limit = 50, person: Person = reads
    ) -> Any:
        """What could not be read."""
        query = {"cursor": cursor, "limit": limit}
        return await desk.get(person, f"/imports/{import_id}/faults", query)

    @routes.get("/imports/{import_id}/lines", response_model=StatementRowPage)
    async def lines(
        import_id: Reference,
        state: Word = None,
        cursor: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
        limit: Limit = 50,
        person: Person = reads,
    ) -> Any:
        """The lines of an import."""
        query = {"state": state, "cursor": cursor, "limit": limit}
        return await desk.get(person, f"/imports/{import_id}/lines", query)

    @routes.get("/report", response_model=ReconciliationReport)
    async def report(
        microservice: Name,
        mode: Mode,
        since: Instant = None,
        until: Instant = None,
        person: Person = reads,
    ) -> Any:
        """Both sides of a provider's clearing, by currency."""
        query = {"microservice": microservice, "mode": mode, "since": since, "until": until}
        return await desk.get(person, "/report", query)


def _add_upload(routes: APIRouter, context: Context) -> None:
    desk, writes = Desk(context), Depends(context.needs(WRITE))

    @routes.post(
        "/imports",
        status_code=202,
        response_model=UploadedStatement,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"text/csv": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(
        request: Request,
        microservice: Name,
        mode: Mode,
        file_name: Annotated[
            str, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
        ],
        mapping_version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
        preset: Word = None,
        review: bool = False,
        covers_from: Instant = None,
        covers_until: Instant = None,
        person: Person = writes,
    ) -> Any:
        """Upload a statement as the body; it is passed on as it comes and parsed afterwards."""
        query = {
            "microservice": microservice, "mode": mode, "file_name": file_name,
            "mapping_version": mapping_version, "preset": preset,
            "review": "true" if review else None, "covers_from": covers_from,
            "covers_until": covers_until,
        }  # fmt: skip
        made = await context.house.upload(
            LEDGER, f"{BASE}/imports", WRITE, asker(person, None), query, request.stream(),
            timeout_seconds=context.settings.upload_seconds,
        )  # fmt: skip
        kept = {key: value for key, value in query.items() if value is not None}
        await desk.note(person, request, "statement_uploaded", made["id"], kept)
        return made


def _add_changes(routes: APIRouter, context: Context) -> None:
    desk, writes = Desk(context), Depends(context.needs(WRITE))

    @routes.post("/mappings", status_code=201, response_model=StatementMappingVersion)
    async def add_mapping(
        body: NewStatementMapping, request: Request, person: Person = writes
    ) -> Any:
        """Add the next version of a mapping."""
        what = "statement_mapping_added"
        return await desk.send(person, request, "/mappings", body, what, body.microservice)

    @routes.post("/imports/{import_id}/decision", response_model=StatementImport)
    async def decide(
        import_id: Reference, body: StatementDecision, request: Request, person: Person = writes
    ) -> Any:
        """Accept or discard what is staged, or cancel what is being read."""
        path = f"/imports/{import_id}/decision"
        return await desk.send(person, request, path, body, "statement_decided", import_id)

    @routes.post("/run", status_code=202, response_model=MatchOrdered)
    async def run(body: MatchOrder, request: Request, person: Person = writes) -> Any:
        """Match again by hand."""
        subject = f"{body.microservice}/{body.mode}"
        return await desk.send(person, request, "/run", body, "match_asked_for", subject)
