"""Statements over HTTP: mappings, the upload in a stream, its progress, faults, lines, report."""

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from mospay_shared.chassis.problems import FieldProblem, Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AwareDatetime, BaseModel, Field

from mospay_ledger.domain.reconciliation import ReconciliationMissing
from mospay_ledger.domain.statement_mappings import PRESETS, StatementMapping
from mospay_ledger.routes.common import (
    BIGINT,
    EXAMPLE_ENTRY,
    EXAMPLE_TIME,
    MAYBE_PRINTABLE,
    NO_CONTROLS,
    PRINTABLE,
    AnyMode,
    Limit,
    Mode,
    instant,
    operators_only,
    person,
    refusals,
    seen_by,
)
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import exceptions, imports
from mospay_ledger.usecases import importing, matching

PREFIX = "/reconciliation"
UPLOAD_PATH = "/internal/v1/reconciliation/imports"
EXAMPLE_IMPORT = "imp_019aa51c000070008000000000000020"
ImportId = Annotated[str, Path(max_length=80, pattern=PRINTABLE)]
Microservice = Annotated[str, Query(max_length=80, pattern=r"^[A-Za-z0-9_-]+$")]
AnyMicroservice = Annotated[str, Query(max_length=80, pattern=r"^[A-Za-z0-9_-]*$")]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
STATES = "uploading|parsing|staged|accepting|matching|finished|discarded|cancelled|failed"
LINE_STATES = "staged|open|matched|missing_here|amount_differs|currency_differs|duplicate|noted"
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class NewMapping(BaseModel):
    """The next version of how a microservice's statements are read."""

    microservice: str = Field(max_length=80, pattern=r"^[A-Za-z0-9_-]+$", examples=["mtnmomorwa"])
    mapping: StatementMapping


class MappingBody(BaseModel):
    """A version of a mapping; it is never changed. What was imported keeps the one it was read by.

    Presets have version 0 and the name of the preset as microservice.
    """

    microservice: str = Field(examples=["mtnmomorwa"])
    version: int = Field(examples=[1])
    mapping: StatementMapping
    created_by: str | None = Field(examples=["usr_a"])
    created_at: dt.datetime | None = Field(examples=[EXAMPLE_TIME])


class Mappings(BaseModel):
    """A page of mappings; `next_cursor` is null at the end."""

    items: list[MappingBody]
    next_cursor: str | None = Field(examples=[None])


class ImportBody(BaseModel):
    """An import and how far it is: `bytes_done` of `size_bytes` are parsed.

    `lines_good` were read, `lines_bad` could not be, `lines_skipped` the mapping leaves out;
    `lines_accepted` are in, `lines_repeated` were in before. `staged` waits for a decision.
    """

    id: str = Field(examples=[EXAMPLE_IMPORT])
    microservice: str = Field(examples=["mtnmomorwa"])
    mode: str = Field(examples=["live"])
    file_name: str = Field(examples=["november.csv"])
    file_sha256: str | None = Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])
    size_bytes: int = Field(examples=[150000])
    bytes_done: int = Field(examples=[150000])
    mapping_version: int | None = Field(examples=[1])
    preset: str | None = Field(examples=[None])
    state: str = Field(examples=["finished"])
    review: bool = Field(examples=[False])
    covers_from: dt.datetime | None = Field(examples=[EXAMPLE_TIME])
    covers_until: dt.datetime | None = Field(examples=[EXAMPLE_TIME])
    lines_good: int = Field(examples=[1000])
    lines_bad: int = Field(examples=[0])
    lines_skipped: int = Field(examples=[0])
    lines_accepted: int = Field(examples=[988])
    lines_repeated: int = Field(examples=[12])
    fault: str | None = Field(examples=[None])
    uploaded_by: str = Field(examples=["usr_a"])
    decided_by: str | None = Field(examples=[None])
    created_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    finished_at: dt.datetime | None = Field(examples=[EXAMPLE_TIME])


class Uploaded(ImportBody):
    """The import of the file; `repeated` says that it had been uploaded before."""

    repeated: bool = Field(examples=[False])


class Imports(BaseModel):
    """A page of imports, newest first; `next_cursor` is null at the end."""

    items: list[ImportBody]
    next_cursor: str | None = Field(examples=[None])


class FaultBody(BaseModel):
    """What is wrong at a line and column of the file, and what to send instead."""

    line_no: int = Field(examples=[17])
    column: str = Field(examples=["Amount"])
    code: str = Field(examples=["too_precise"])
    message: str = Field(examples=["RWF has 0 decimals; send at most that many"])


class Faults(BaseModel):
    """A page of faults by line and column; `next_cursor` is null at the end."""

    items: list[FaultBody]
    next_cursor: str | None = Field(examples=[None])


class LineBody(BaseModel):
    """A line of the file as it was understood; amounts in minor units, money to us positive."""

    line_no: int = Field(examples=[2])
    kind: str = Field(examples=["payment"])
    reference: str | None = Field(examples=["sim_1"])
    our_reference: str | None = Field(examples=[None])
    amount_minor: int = Field(examples=[1500])
    currency: str = Field(examples=["RWF"])
    fee_minor: int = Field(examples=[0])
    occurred_at: dt.datetime = Field(examples=[EXAMPLE_TIME])
    state: str = Field(examples=["matched"])
    entry_id: str | None = Field(examples=[EXAMPLE_ENTRY])
    matched_by: str | None = Field(examples=["reference"])


class Lines(BaseModel):
    """A page of lines by number; `next_cursor` is null at the end."""

    items: list[LineBody]
    next_cursor: int | None = Field(examples=[None])


class Decision(BaseModel):
    """What becomes of an import: `accept` or `discard` what is staged, `cancel` what is read."""

    decision: Literal["accept", "discard", "cancel"] = Field(examples=["accept"])


class RunOrder(BaseModel):
    """A match by hand; `as_of` is another now than the clock's, in test mode."""

    microservice: str = Field(max_length=80, pattern=r"^[A-Za-z0-9_-]+$", examples=["simulator"])
    mode: Literal["live", "test"] = Field(examples=["test"])
    as_of: AwareDatetime | None = Field(None, examples=[EXAMPLE_TIME])


class ReportLine(BaseModel):
    """One currency of a provider, both sides, minor units.

    expected = matched + differs_expected + missing_there + not_covered; stated = matched +
    differs_stated + missing_here + duplicate + not_matched_yet; books = expected + adjusted.
    """

    currency: str = Field(examples=["RWF"])
    books_minor: int = Field(examples=[1500])
    expected_minor: int = Field(examples=[1500])
    adjusted_minor: int = Field(examples=[0])
    stated_minor: int = Field(examples=[1500])
    matched_minor: int = Field(examples=[1500])
    missing_here_minor: int = Field(examples=[0])
    duplicate_minor: int = Field(examples=[0])
    differs_stated_minor: int = Field(examples=[0])
    differs_expected_minor: int = Field(examples=[0])
    missing_there_minor: int = Field(examples=[0])
    not_covered_minor: int = Field(examples=[0])
    not_matched_yet_minor: int = Field(examples=[0])
    noted_minor: int = Field(examples=[0])
    fees_minor: int = Field(examples=[0])
    lines: int = Field(examples=[1])


class Report(BaseModel):
    """What a provider says and what the books say of a period (by when it occurred)."""

    microservice: str = Field(examples=["mtnmomorwa"])
    mode: str = Field(examples=["live"])
    since: dt.datetime = Field(examples=[EXAMPLE_TIME])
    until: dt.datetime = Field(examples=[EXAMPLE_TIME])
    currencies: list[ReportLine]


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes about statements."""
    service.streamed[UPLOAD_PATH] = settings.statement_bytes
    _add_mappings(routes, service)
    _add_upload(routes, service, settings)
    _add_imports(routes, service)
    _add_run(routes, service)


def _add_mappings(routes: APIRouter, service: Service) -> None:
    reader = service.verifier.needs("ledger:read")
    writer = service.verifier.needs("ledger:write")

    @routes.get(PREFIX + "/presets")
    async def presets(caller: Caller = Depends(reader)) -> Mappings:
        """The mappings that ship: a start for a provider's export, to be copied and corrected."""
        operators_only(caller, "Reconciliation")
        items = [
            MappingBody(
                microservice=name, version=0, mapping=mapping, created_by=None, created_at=None
            )
            for name, mapping in PRESETS.items()
        ]
        return Mappings(items=items, next_cursor=None)

    @routes.get(PREFIX + "/mappings")
    async def mappings(
        microservice: AnyMicroservice = "",
        cursor: Annotated[str, Query(max_length=100, pattern=MAYBE_PRINTABLE)] = "",
        limit: Limit = 50,
        caller: Caller = Depends(reader),
    ) -> Mappings:
        """Mappings with all their versions."""
        operators_only(caller, "Reconciliation")
        name, _, version = cursor.rpartition("@")
        after = (name, int(version) if version.isdecimal() and len(version) < 10 else 0)
        async with seen_by(service, caller) as tx:
            rows = await imports.mappings(tx, microservice, after, limit + 1)
        items = [MappingBody(**dict(row)) for row in rows[:limit]]
        more = f"{items[-1].microservice}@{items[-1].version}" if len(rows) > limit else None
        return Mappings(items=items, next_cursor=more)

    @routes.post(PREFIX + "/mappings", status_code=201)
    async def add_mapping(body: NewMapping, caller: Caller = Depends(writer)) -> MappingBody:
        """Add the next version of a microservice's mapping; imports from now on use it."""
        by = person(caller, "Changing a mapping")
        async with service.database.transaction() as tx:
            told = body.mapping.model_dump(mode="json")
            row = await importing.add_mapping(tx, body.microservice, told, by)
        return MappingBody(**dict(row))


def _add_upload(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    writer = service.verifier.needs("ledger:write")
    limits = importing.limits_of(settings)

    @routes.post(
        PREFIX + "/imports",
        status_code=202,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"text/csv": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(
        request: Request,
        response: Response,
        microservice: Microservice,
        mode: Mode,
        file_name: Annotated[str, Query(min_length=1, max_length=200, pattern=NO_CONTROLS)],
        mapping_version: Version = None,
        preset: Annotated[str | None, Query(max_length=40, pattern=PRINTABLE)] = None,
        review: bool = False,
        covers_from: AwareDatetime | None = None,
        covers_until: AwareDatetime | None = None,
        caller: Caller = Depends(writer),
    ) -> Uploaded:
        """Upload a statement as the body, in a stream; it is parsed afterwards.

        Without faults it goes in by itself, unless `review` asks to wait for a decision. A file
        that was uploaded before answers 200 with its import. `covers_…`: the period it is of,
        where its first and last line do not say so.
        """
        by = person(caller, "Importing a statement")
        since, until = instant(covers_from, "covers_from"), instant(covers_until, "covers_until")
        if since is not None and until is not None and until < since:
            fault = FieldProblem(
                field="covers_until", code="order", message="must not be before covers_from"
            )
            raise Problem(422, "invalid_request", "The request is not valid", errors=[fault])
        async with refusals():
            async with service.database.transaction() as tx:
                mapping, version, name = await importing.chosen_mapping(
                    tx, microservice, mapping_version, preset
                )
            given = importing.Upload(
                microservice, mode, file_name, mapping, version, name, review, since, until, by
            )
            import_id, repeated = await importing.upload(
                service.database, given, request.stream(), limits
            )
        async with seen_by(service, caller) as tx:
            row = await imports.shown(tx, import_id)
        assert row is not None
        response.headers["Location"] = f"{UPLOAD_PATH}/{import_id}"
        if repeated:
            response.status_code = 200
        return Uploaded(**dict(row), repeated=repeated)


def _add_imports(routes: APIRouter, service: Service) -> None:
    reader = service.verifier.needs("ledger:read")
    writer = service.verifier.needs("ledger:write")

    @routes.get(PREFIX + "/imports")
    async def list_imports(
        microservice: AnyMicroservice = "",
        mode: AnyMode = "",
        state: Annotated[str, Query(pattern=f"^({STATES}|)$")] = "",
        cursor: Annotated[str, Query(max_length=80, pattern=MAYBE_PRINTABLE)] = "",
        limit: Limit = 50,
        caller: Caller = Depends(reader),
    ) -> Imports:
        """Imports, newest first."""
        operators_only(caller, "Reconciliation")
        async with seen_by(service, caller) as tx:
            rows = await imports.page(
                tx,
                microservice=microservice,
                mode=mode,
                state=state,
                before=cursor,
                limit=limit + 1,
            )
        items = [ImportBody(**dict(row)) for row in rows[:limit]]
        return Imports(items=items, next_cursor=items[-1].id if len(rows) > limit else None)

    @routes.get(PREFIX + "/imports/{import_id}")
    async def one_import(import_id: ImportId, caller: Caller = Depends(reader)) -> ImportBody:
        """One import: its progress while it is read."""
        operators_only(caller, "Reconciliation")
        async with seen_by(service, caller) as tx:
            row = await imports.shown(tx, import_id)
        async with refusals():
            if row is None:
                raise ReconciliationMissing(f"there is no import {import_id}")
        return ImportBody(**dict(row))

    @routes.get(PREFIX + "/imports/{import_id}/faults")
    async def faults(
        import_id: ImportId,
        cursor: Annotated[
            str, Query(max_length=140, pattern=r"^([0-9]{1,18}(@[^\x00-\x1f]*)?|)$")
        ] = "",
        limit: Limit = 50,
        caller: Caller = Depends(reader),
    ) -> Faults:
        """What could not be read, by line and column."""
        operators_only(caller, "Reconciliation")
        number, _, column = cursor.partition("@")
        async with seen_by(service, caller) as tx:
            rows = await imports.faults(tx, import_id, (int(number or 0), column), limit + 1)
        items = [
            FaultBody(
                line_no=row["line_no"],
                column=row["column_name"],
                code=row["code"],
                message=row["message"],
            )
            for row in rows[:limit]
        ]
        more = f"{items[-1].line_no}@{items[-1].column}" if len(rows) > limit else None
        return Faults(items=items, next_cursor=more)

    @routes.get(PREFIX + "/imports/{import_id}/lines")
    async def lines(
        import_id: ImportId,
        state: Annotated[str, Query(pattern=f"^({LINE_STATES}|)$")] = "",
        cursor: Annotated[int, Query(ge=0, le=BIGINT)] = 0,
        limit: Limit = 50,
        caller: Caller = Depends(reader),
    ) -> Lines:
        """The lines of an import that are in, by number; `state=staged`: those kept aside."""
        operators_only(caller, "Reconciliation")
        async with seen_by(service, caller) as tx:
            rows = await imports.lines(tx, import_id, state=state, after=cursor, limit=limit + 1)
        items = [LineBody(**dict(row)) for row in rows[:limit]]
        return Lines(items=items, next_cursor=items[-1].line_no if len(rows) > limit else None)

    @routes.post(PREFIX + "/imports/{import_id}/decision")
    async def decide(
        import_id: ImportId, body: Decision, caller: Caller = Depends(writer)
    ) -> ImportBody:
        """Accept or discard what is staged, or cancel what is still being read."""
        by = person(caller, "Deciding about an import")
        async with refusals(), service.database.transaction() as tx:
            row = await importing.decide(tx, import_id, body.decision, by)
        return ImportBody(**dict(row))


def _add_run(routes: APIRouter, service: Service) -> None:
    reader = service.verifier.needs("ledger:read")
    writer = service.verifier.needs("ledger:write")

    @routes.post(PREFIX + "/run", status_code=202)
    async def run(body: RunOrder, caller: Caller = Depends(writer)) -> RunOrder:
        """Match again by hand, as the nightly job does."""
        person(caller, "Matching by hand")
        as_of = instant(body.as_of, "as_of")
        async with refusals(), service.database.transaction() as tx:
            await matching.ask(tx, body.microservice, body.mode, as_of)
        return body

    @routes.get(PREFIX + "/report")
    async def report(
        microservice: Microservice,
        mode: Mode,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        caller: Caller = Depends(reader),
    ) -> Report:
        """Both sides of a provider's clearing, by currency; all of it without a period."""
        operators_only(caller, "Reconciliation")
        first = instant(since, "since") or EPOCH
        last = instant(until, "until") or dt.datetime.now(dt.UTC)
        async with seen_by(service, caller) as tx:
            rows = await exceptions.report(tx, microservice, mode, first, last)
        items: list[Any] = [ReportLine(**dict(row)) for row in rows]
        return Report(
            microservice=microservice, mode=mode, since=first, until=last, currencies=items
        )
