"""Tokens: Basic credentials for a short-lived EdDSA JWT, and the keys that verify it."""

from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from mospay_gateway.domain.errors import NotAuthenticated
from mospay_gateway.routes.answers import json_response
from mospay_gateway.routes.field_api import FieldError
from mospay_gateway.routes.parts import Parts, address_of

TAGS: list[str | Enum] = ["authentication"]


class TokenAnswer(BaseModel):
    """A token and how long it is good for, in seconds."""

    status: str = Field("200", examples=["200"])
    message: str = Field(examples=["Token issued"])
    token: str
    token_type: str = Field(examples=["Bearer"])
    expires_in: int = Field(examples=[900])


class JsonWebKeySet(BaseModel):
    """Public keys that verify our tokens (RFC 7517)."""

    keys: list[dict[str, Any]]


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes."""

    @routes.post(
        "/api/v1/auth/token",
        tags=TAGS,
        response_model=TokenAnswer,
        responses={code: {"model": FieldError} for code in (401, 403, 429, 503)},
    )
    async def issue_token(
        request: Request, app_id: Annotated[str | None, Header(alias="App-ID")] = None
    ) -> Response:
        """Exchange Basic credentials and the App-ID header for a token."""
        parts.insist_on_directory()
        authorization = request.headers.get("authorization", "")
        if authorization.partition(" ")[0].lower() != "basic":
            raise NotAuthenticated("Send Basic credentials: username:password in base64")
        if not app_id:
            raise NotAuthenticated("Send the App-ID header", "app_id_missing")
        caller = parts.gate.authenticate_password(
            authorization, app_id, address_of(request), request.scope["path"]
        )
        parts.admit(request, caller)
        body = {
            "status": "200",
            "message": "Token issued",
            "token": parts.identity.token(caller),
            "token_type": "Bearer",
            "expires_in": parts.identity.token_seconds,
        }
        return json_response(body, headers={"Cache-Control": "no-store"})

    @routes.get("/.well-known/jwks.json", tags=TAGS, response_model=JsonWebKeySet)
    async def jwks() -> Response:
        """The public keys that verify our tokens."""
        headers = {"Cache-Control": "public, max-age=300"}
        return json_response(parts.identity.jwks(), headers=headers)
