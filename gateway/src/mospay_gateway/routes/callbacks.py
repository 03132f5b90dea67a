"""Callbacks of providers: stored raw, queued, answered at once; belief comes later, elsewhere."""

from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from mospay_shared.chassis.problems import Problem
from mospay_shared.ids import new_id
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from mospay_gateway.routes.answers import json_response
from mospay_gateway.routes.parts import Parts, address_of, now
from mospay_gateway.storage.callbacks import Callback
from mospay_gateway.usecases.callbacks import keep_callback

TAGS: list[str | Enum] = ["callbacks"]
ALIASES = ("razorpay", "paypal")
# What a verifier may need. Everything else (cookies, authorization, our proxies' own) is dropped.
_KEPT = frozenset(
    ("content-type", "content-encoding", "user-agent", "date", "digest", "content-digest",
     "signature", "signature-input", "verif-hash", "stripe-signature")
)  # fmt: skip
_KEPT_PREFIXES = ("x-", "paypal-", "webhook-", "svix-")
_DROPPED_PREFIXES = ("x-forwarded", "x-real-ip", "x-api-key", "x-auth", "x-amz", "x-csrf")
_HEADER_LIMIT, _VALUE_LIMIT = 40, 4096  # headers; characters of one


class CallbackAnswer(BaseModel):
    """The callback is on record."""

    received: bool = True
    callback_id: str


def kept_headers(request: Request) -> dict[str, str]:
    """Return the headers worth keeping, names in lower case."""
    kept: dict[str, str] = {}
    for name, value in request.headers.items():
        known = name in _KEPT or (
            name.startswith(_KEPT_PREFIXES) and not name.startswith(_DROPPED_PREFIXES)
        )
        if known and len(kept) < _HEADER_LIMIT:
            kept[name] = value[:_VALUE_LIMIT]
    return kept


def add_routes(routes: APIRouter, parts: Parts) -> None:
    """Add the routes: `/v1/callbacks/{microservice}` and the aliases `/webhooks/…`."""

    async def keep(request: Request, microservice: str) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect as error:
            raise Problem(400, "client_gone", "The request ended before its body did") from error
        if len(body) > parts.callback_limit_bytes:
            title = f"A callback has at most {parts.callback_limit_bytes} bytes"
            raise Problem(413, "body_too_large", title)
        callback = Callback(
            id=new_id("cbk"),
            microservice=microservice,
            service_id=parts.catalogue.only_service_of(microservice),
            method=request.method,
            path=request.url.path,
            headers=kept_headers(request),
            body=body,
            ip=address_of(request),
            received_at=now(),
        )
        await keep_callback(parts.database, parts.relay, callback, request.state.request_id)
        return json_response({"received": True, "callback_id": callback.id})

    @routes.post("/v1/callbacks/{microservice}", tags=TAGS, response_model=CallbackAnswer)
    async def post_callback(
        request: Request, microservice: Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,40}$")]
    ) -> Response:
        """Take a provider's callback: no credentials of ours, verified by the router."""
        return await keep(request, microservice)

    @routes.put("/v1/callbacks/{microservice}", tags=TAGS, response_model=CallbackAnswer)
    async def put_callback(
        request: Request, microservice: Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,40}$")]
    ) -> Response:
        """Take a provider's callback sent with PUT."""
        return await keep(request, microservice)

    def alias(name: str) -> None:
        @routes.post(
            f"/webhooks/{name}", tags=TAGS, name=f"{name}_webhook", response_model=CallbackAnswer
        )
        async def webhook(request: Request) -> Response:
            """The same as `/v1/callbacks/…`, at the path the provider's own guides name."""
            return await keep(request, name)

    for name in ALIASES:
        alias(name)
