"""The logo of an issuer: passed on as it comes, both ways; the ledger says what is one."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.clients import File
from mospay_portal_api.domain.people import Person
from mospay_portal_api.routes.context import PROBLEMS, Context, Reference, author
from mospay_portal_api.routes.invoice_models import Passed
from mospay_portal_api.routes.invoices import (
    BASE,
    LEDGER,
    PAPER_SECONDS,
    READ,
    WRITE,
    ClientId,
    Mode,
    asked,
)
from mospay_portal_api.storage import audit

LOGO_BYTES = 256 * 1024  # the ledger's own limit
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_IMAGES: dict[str, Any] = {"image/png": _BINARY, "image/jpeg": _BINARY}


def known(request: Request) -> str | None:
    """Return what a browser says it has (`If-None-Match`), if that can be one of our ETags."""
    given = request.headers.get("if-none-match", "")
    return given if 0 < len(given) <= 500 and given.isascii() and given.isprintable() else None


def image(found: File, headers: Mapping[str, str]) -> Response:
    """Answer with an image, or with 304 to a browser that has it."""
    headers = {**headers, **({"ETag": found.etag} if found.etag else {})}
    if found.unchanged:
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = found.disposition
    return StreamingResponse(found.content, media_type=found.media_type, headers=headers)


async def _bounded(request: Request) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LOGO_BYTES:
            raise Problem(413, "too_large", f"A logo has at most {LOGO_BYTES} bytes")
        yield chunk


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/bff/v1", tags=["invoices"], responses=PROBLEMS)
    reads, writes = Depends(context.needs(READ)), Depends(context.needs(WRITE))

    async def note(person: Person, request: Request, action: str, of: str, after: Any) -> None:
        async with context.service.database.transaction() as tx:
            await audit.write(tx, author(person, request), action, of, after=after)

    @routes.get(
        "/issuers/{issuer_id}/logo",
        response_class=Response,
        responses={200: {"content": _IMAGES}, 304: {"description": "It is the one you have"}},
    )
    async def logo(
        issuer_id: Reference, request: Request, mode: Mode, client_id: ClientId = None,
        person: Person = reads,
    ) -> Response:  # fmt: skip
        """The logo of an issuer, the image itself."""
        me = await asked(context, person, mode, client_id)
        path = f"{BASE}/issuers/{issuer_id}/logo"
        found = await context.house.file(LEDGER, path, READ, me, {}, etag=known(request))
        return image(found, {"Cache-Control": "private, no-cache"})

    @routes.put(
        "/issuers/{issuer_id}/logo",
        response_model=Passed,
        openapi_extra={"requestBody": {"required": True, "content": _IMAGES}},
    )
    async def keep(
        issuer_id: Reference, request: Request, mode: Mode, client_id: ClientId = None,
        person: Person = writes,
    ) -> Any:  # fmt: skip
        """Make the body, a PNG or JPEG of at most 256 KiB and 2,000 pixels a side, the logo."""
        me = await asked(context, person, mode, client_id)
        done = await context.house.upload(
            LEDGER, f"{BASE}/issuers/{issuer_id}/logo", WRITE, me, {}, _bounded(request),
            timeout_seconds=PAPER_SECONDS, method="PUT", media_type="application/octet-stream",
        )  # fmt: skip
        after = {name: done.get(name) for name in ("digest", "format", "width", "height")}
        await note(person, request, "logo_changed", issuer_id, after)
        return done

    @routes.delete("/issuers/{issuer_id}/logo", status_code=204, response_class=Response)
    async def drop(
        issuer_id: Reference, request: Request, mode: Mode, client_id: ClientId = None,
        person: Person = writes,
    ) -> Response:  # fmt: skip
        """Take the logo away."""
        me = await asked(context, person, mode, client_id)
        await context.house.send("DELETE", LEDGER, f"{BASE}/issuers/{issuer_id}/logo", WRITE, me)
        await note(person, request, "logo_removed", issuer_id, None)
        return Response(status_code=204)

    return routes
