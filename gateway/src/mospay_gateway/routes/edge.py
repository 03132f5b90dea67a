"""The ASGI layer that notes every call of a client app for the API log."""

import time

from mospay_shared.chassis.telemetry import current_traceparent
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mospay_gateway.domain.redaction import BODY_LIMIT
from mospay_gateway.routes.parts import now
from mospay_gateway.usecases.api_log import ApiLog, Call

_LOGGED = ("/v1/", "/api/v1/", "/webhooks/")
_BODIES_LEFT_OUT = ("/v1/callbacks/", "/webhooks/")  # a provider's words are not ours to copy


class ApiLogEdge:
    """Keeps method, path, caller, status, latency and (short) bodies of each call."""

    def __init__(self, app: ASGIApp, *, api_log: ApiLog) -> None:
        self._app, self._log = app, api_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or not scope["path"].startswith(_LOGGED):
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        call = Call(scope["method"], scope["path"], client[0] if client else None, now())
        bodies = not call.path.startswith(_BODIES_LEFT_OUT)
        started = time.perf_counter()

        async def hear() -> Message:
            message = await receive()
            if bodies and len(call.request_body) <= BODY_LIMIT:
                call.request_body += message.get("body", b"")
            return message

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            elif bodies and len(call.response_body) <= BODY_LIMIT:
                call.response_body += message.get("body", b"")
            await send(message)

        try:
            await self._app(scope, hear, say)
        finally:
            call.latency_ms = (time.perf_counter() - started) * 1000
            call.state = scope.get("state") or {}
            call.traceparent = current_traceparent()
            self._log.add(call)
