"""The ASGI layers around calls of client apps: the API log with the caller's address, the gate."""

import asyncio
import time

from fastapi import Request
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.telemetry import current_traceparent
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mospay_gateway.domain.addresses import Proxies
from mospay_gateway.domain.errors import GatewayError
from mospay_gateway.domain.redaction import BODY_LIMIT
from mospay_gateway.routes.answers import answer_problem, problem_of
from mospay_gateway.routes.parts import now
from mospay_gateway.usecases.api_log import ApiLog, Call
from mospay_gateway.usecases.gate import Gate
from mospay_gateway.usecases.limits import headers as limit_headers

_PUBLIC = ("/v1/", "/api/", "/webhooks/")  # what client apps and providers call
_BODIES_LEFT_OUT = ("/v1/callbacks/", "/webhooks/")  # a provider's words are not ours to copy
_OF_PEOPLE = ("/v1/customers", "/v1/invoices")  # names and addresses: refusals alone are kept
_BODILESS = frozenset(("GET", "HEAD", "OPTIONS"))


class ApiLogEdge:
    """Keeps method, path, caller, status, latency and (short) bodies of each call.

    Also says where the call comes from (`state["address"]`), ends a body that dribbles in, and
    adds the RateLimit header fields of the limits the call was held against (`state["limits"]`).
    """

    def __init__(
        self, app: ASGIApp, *, api_log: ApiLog, proxies: Proxies, body_seconds: float
    ) -> None:
        self._app, self._log, self._proxies = app, api_log, proxies
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or not scope["path"].startswith(_PUBLIC):
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["address"] = self._address(scope)
        call = Call(scope["method"], scope["path"], state["address"], now(), state=state)
        bodies = not call.path.startswith(_BODIES_LEFT_OUT)
        of_people = call.path.startswith(_OF_PEOPLE)
        hear = self._hearing(call, receive, bodies)
        started = time.perf_counter()

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                if held := state.get("limits"):
                    message["headers"] = [*message.get("headers", ()), *limit_headers(held)]
            elif bodies and (call.status >= 400 or not of_people):
                call.response_body = _kept(call.response_body, message)
            await send(message)

        try:
            await self._app(scope, hear, say)
        finally:
            call.latency_ms = (time.perf_counter() - started) * 1000
            call.traceparent = current_traceparent()
            self._log.add(call)

    def _address(self, scope: Scope) -> str | None:
        client = scope.get("client")
        forwarded = [
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
        ]
        return self._proxies.caller(client[0] if client else None, forwarded)

    def _hearing(self, call: Call, receive: Receive, bodies: bool) -> Receive:
        """Return `receive` that keeps what the log needs and limits how long a body may take."""
        until = asyncio.get_running_loop().time() + self._body_seconds
        whole = call.method in _BODILESS

        async def hear() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                title = f"The body did not arrive within {self._body_seconds:g} seconds"
                headers = {"Connection": "close"}
                raise Problem(408, "body_too_slow", title, headers=headers) from None
            whole = not message.get("more_body", False)
            if bodies:
                call.request_body = _kept(call.request_body, message)
            return message

        return hear


def _kept(body: bytes, message: Message) -> bytes:
    """Return what is kept of a body with its next piece: one byte too many says it is too long."""
    room = BODY_LIMIT + 1 - len(body)
    piece: bytes = message.get("body", b"")
    return body + piece[:room] if room > 0 and piece else body


class GateEdge:
    """Refuses by address before anything else is looked at: a flood must cost little."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and scope["path"].startswith(_PUBLIC):
            try:
                self._gate.arrive(scope["state"]["address"], scope["path"])
            except GatewayError as error:
                refusal = answer_problem(Request(scope), problem_of(error))
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)
