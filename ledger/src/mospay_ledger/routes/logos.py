"""The logo of an issuer: the image itself goes in and comes out, known by its digest."""

import datetime as dt

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import BaseModel, Field

from mospay_ledger.domain.invoices import Row
from mospay_ledger.domain.logos import BYTES_LIMIT, SIDE_LIMIT
from mospay_ledger.routes.billing import READ, WRITE, Id, missing, refusals, seen_by, view_of
from mospay_ledger.routes.common import EXAMPLE_TIME
from mospay_ledger.storage import logos as storage
from mospay_ledger.usecases import logos

MEDIA = {"png": "image/png", "jpg": "image/jpeg"}
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
IMAGES = dict.fromkeys(MEDIA.values(), _IMAGE)


class LogoBody(BaseModel):
    """A logo as it is kept; width and height in pixels, `digest` the SHA-256 of its content."""

    issuer_id: str = Field(examples=["iss_019aa51c000070008000000000000010"])
    format: str = Field(examples=["png"])
    width: int = Field(examples=[640], le=SIDE_LIMIT)
    height: int = Field(examples=[160], le=SIDE_LIMIT)
    bytes: int = Field(examples=[18_204], le=BYTES_LIMIT)
    digest: str = Field(
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
    )
    updated_at: dt.datetime = Field(examples=[EXAMPLE_TIME])


def image(row: Row, request: Request) -> Response:
    """Answer with a logo; 304 to whoever has it already (`If-None-Match`)."""
    etag = f'"{row["digest"]}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'inline; filename="logo.{row["format"]}"',
    }
    known = request.headers.get("if-none-match", "").replace("W/", "")
    if known.strip() == "*" or etag in (one.strip() for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(row["content"], media_type=MEDIA[row["format"]], headers=headers)


async def _uploaded(request: Request) -> bytes:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > BYTES_LIMIT:
            title = f"A logo has at most {BYTES_LIMIT} bytes: send a smaller image"
            raise Problem(413, "too_large", title)
    return content


def add(routes: APIRouter, service: Service) -> None:
    """Add the routes."""
    reader, writer = (Depends(service.verifier.needs(scope)) for scope in (READ, WRITE))

    @routes.get(
        "/issuers/{issuer_id}/logo",
        response_class=Response,
        responses={200: {"content": IMAGES}, 304: {"description": "It is the one you have"}},
    )
    async def logo(issuer_id: Id, request: Request, caller: Caller = reader) -> Response:
        """The logo of an issuer, the image itself; 404 where it has none."""
        async with seen_by(service, caller) as tx:
            row = await storage.find(tx, issuer_id)
        if row is None:
            raise missing("logo")
        return image(row, request)

    @routes.put(
        "/issuers/{issuer_id}/logo",
        openapi_extra={"requestBody": {"required": True, "content": IMAGES}},
    )
    async def keep(issuer_id: Id, request: Request, caller: Caller = writer) -> LogoBody:
        """Make the body, a PNG or JPEG of at most 256 KiB and 2,000 pixels a side, the logo.

        What it is its content says, not a header. What papers can't show is refused (422).
        """
        view, content = view_of(caller), await _uploaded(request)
        async with refusals():
            row = await logos.keep(service.database, view, issuer_id, content)
        return LogoBody(**dict(row))

    @routes.delete("/issuers/{issuer_id}/logo", status_code=204, response_class=Response)
    async def drop(issuer_id: Id, caller: Caller = writer) -> Response:
        """Take the logo away: papers have the issuer's name alone."""
        view = view_of(caller)
        async with refusals(), service.database.transaction() as tx:
            await logos.drop(tx, view, issuer_id)
        return Response(status_code=204)
