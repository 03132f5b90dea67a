"""What the reads of the books share: authenticated here, answered by the ledger, shown as ours.

A body is read into the model the document names and written anew, so what the ledger tells beyond
that (the operator's people, other parties) never leaves the house.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import structlog
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from mospay_shared.ids import is_id
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mospay_gateway.clients import File, FileCut
from mospay_gateway.domain.catalogue import ClientApp
from mospay_gateway.domain.errors import BooksAway, Fault, InvalidRequest, NotFound
from mospay_gateway.routes.parts import Parts

log = structlog.get_logger()
LEDGER, INVOICES = "ledger:read", "invoices:read"  # scopes
CURRENCY = r"^[A-Z]{3}$"
M = TypeVar("M", bound=BaseModel)


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(
        None, min_length=1, max_length=60, description="`next_cursor` of the page before"
    )


class FileQuery(BaseModel):
    """Which kind of file."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["pdf", "csv"] = "pdf"


class PassedOn(StreamingResponse):
    """A file passed on as it comes: never whole in memory, cut where it takes too long."""

    def __init__(self, file: File, seconds: float) -> None:
        headers = {"Content-Disposition": file.disposition, "Cache-Control": "private, no-store"}
        super().__init__(file.content, headers=headers, media_type=file.media_type)
        self._file, self._seconds = file, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; one that breaks off ends the connection, so that nobody takes it for whole."""
        try:
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except (FileCut, TimeoutError, ClientDisconnect) as error:
            log.info("file_cut", path=scope["path"], reason=type(error).__name__)
        finally:
            await self._file.close()


def path_id(value: str, prefix: str) -> str:
    """Return an id that goes into a path of the ledger's; raises NotFound for what is none."""
    if not is_id(value, prefix) or not value.isprintable():
        raise NotFound("There is no such thing among yours")
    return value


def check_cursor(query: PageQuery, prefix: str) -> None:
    """Raise InvalidRequest for a cursor that is no id of this kind."""
    if query.cursor is not None and not is_id(query.cursor, prefix):
        raise InvalidRequest([Fault("cursor", "invalid_cursor", "is not a cursor of ours")])


def filters(query: BaseModel) -> dict[str, Any]:
    """Return a query as the ledger is asked: what was not given is left out."""
    return query.model_dump(mode="json", by_alias=True, exclude_none=True)


async def show(
    parts: Parts,
    caller: ClientApp,
    path: str,
    query: Mapping[str, Any],
    model: type[M],
    scope: str = LEDGER,
) -> Response:
    """Answer with what the ledger says of the caller's own; raises as `LedgerClient.read` does."""
    content = await parts.ledger.read(path, query, scope, caller.client_id, caller.mode)
    try:
        shown = model.model_validate_json(content)
    except ValidationError as error:
        log.error("ledger_not_understood", path=path, faults=error.error_count())
        raise BooksAway from error
    return Response(
        shown.model_dump_json(),
        headers={"Cache-Control": "private, no-store"},
        media_type="application/json",
    )


async def pass_on(
    parts: Parts,
    caller: ClientApp,
    path: str,
    query: Mapping[str, Any],
    scope: str = LEDGER,
) -> Response:
    """Answer with a file of the caller's own; raises as `LedgerClient.file` does."""
    found = await parts.ledger.file(path, query, scope, caller.client_id, caller.mode)
    return PassedOn(found, parts.file_seconds)


def identify(parts: Parts, request: Request) -> tuple[ClientApp, dict[str, Any]]:
    """Return who calls, and the tenant as the ledger's lists take it beside the token."""
    caller = parts.identify(request)
    return caller, {"client_id": caller.client_id, "mode": caller.mode}
