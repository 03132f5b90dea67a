"""The ASGI layer around every service: request ids, trace context, body limit, latency."""

import re
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mospay_shared.chassis import metrics, telemetry
from mospay_shared.ids import new_id

_REQUEST_ID = re.compile(rb"^[A-Za-z0-9_.:-]{8,80}$")
_TOO_LARGE = (
    b'{"type":"https://mospay.dev/problems/body_too_large","title":"The body is too large",'
    b'"status":413,"code":"body_too_large","detail":"Send at most %d bytes."}'
)


class BodyTooLarge(Exception):
    """More bytes arrived than the limit allows."""


class Edge:
    """Gives each request an id (`X-Request-Id`, taken over if well-formed) and counts it."""

    def __init__(
        self, app: ASGIApp, *, body_limit_bytes: int, streamed: Mapping[str, int] | None = None
    ) -> None:
        # `streamed`: paths that take a file a piece at a time, each with a limit of its own
        self._app, self._limit, self._streamed = app, body_limit_bytes, streamed or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.match(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        traceparent = telemetry.new_traceparent(headers.get(b"traceparent", b"").decode("latin-1"))
        telemetry.set_traceparent(traceparent)
        started, status = time.perf_counter(), 500
        limit = self._streamed.get(scope["path"], self._limit)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            length = headers.get(b"content-length", b"0")
            if not length.isdigit() or int(length) > limit:
                raise BodyTooLarge
            await self._app(scope, self._bounded(receive, limit), answer)
        except BodyTooLarge:
            await _refuse(answer, limit)
        finally:
            route: Any = scope.get("route")
            metrics.HTTP_SECONDS.labels(
                scope["method"] if scope["method"].isalpha() else "other",
                getattr(route, "path", "unmatched"),
                f"{status // 100}xx",
            ).observe(time.perf_counter() - started)

    def _bounded(self, receive: Receive, limit: int) -> Receive:
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise BodyTooLarge
            return message

        return limited


async def _refuse(send: Send, limit: int) -> None:
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": _TOO_LARGE % limit})
