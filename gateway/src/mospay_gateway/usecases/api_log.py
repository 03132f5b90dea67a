"""The API log: calls held in memory, published in packs, dropped and counted when it overflows."""

import asyncio
import datetime as dt
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson
from aio_pika import Message
from aio_pika.abc import AbstractChannel, DeliveryMode
from aio_pika.exceptions import AMQPError
from mospay_shared.chassis.broker import EVENTS, Broker
from mospay_shared.contracts import ApiCalledV1, Outgoing, outgoing
from mospay_shared.contracts.envelope import CONTENT_TYPE, PACK_LIMIT, PACK_LIMIT_BYTES
from mospay_shared.ids import new_id
from prometheus_client import Counter

from mospay_gateway.domain.catalogue import Catalogue
from mospay_gateway.domain.redaction import redact

WIRE_TYPE = "api.called.v1"
TURN_LIMIT = 1000  # calls published a turn
SLICE = 16  # calls made into events before answers have their turn again (about a millisecond)
CONFIRM_SECONDS = 5.0
DROPPED = Counter("mospay_gateway_api_log_dropped", "Calls the API log could not keep")
FAILED = Counter("mospay_gateway_api_log_failures", "Turns of the API log that met no broker")


@dataclass(slots=True)
class Call:
    """One HTTP call while it is made; bodies are raw until they are published."""

    method: str
    path: str
    ip: str | None
    called_at: dt.datetime
    status: int = 500
    latency_ms: float = 0.0
    state: dict[str, Any] = field(default_factory=dict)
    traceparent: str | None = None
    request_body: bytes = b""
    response_body: bytes = b""


class ApiLog:
    """A ring of calls; `publish` empties it. Nothing here may slow an answer or lose a payment."""

    def __init__(self, broker: Broker, catalogue: Catalogue, *, capacity: int) -> None:
        self._broker, self._catalogue, self._capacity = broker, catalogue, capacity
        self._calls: deque[Call] = deque()
        self._channel: AbstractChannel | None = None

    def add(self, call: Call) -> None:
        """Keep a call; the oldest goes when the ring is full."""
        if len(self._calls) >= self._capacity:
            self._calls.popleft()
            DROPPED.inc()
        self._calls.append(call)

    async def publish(self) -> int:
        """Publish what is held, straight to the exchange; return how many calls."""
        calls = [self._calls.popleft() for _ in range(min(TURN_LIMIT, len(self._calls)))]
        if not calls:
            return 0
        try:
            for pack in _packs(await self._events(calls)):
                await self._send(pack)
        except (AMQPError, ConnectionError, TimeoutError, OSError, RuntimeError):
            self._channel = None
            FAILED.inc()
            room = max(0, self._capacity - len(self._calls))
            self._calls.extendleft(reversed(calls[len(calls) - min(room, len(calls)) :]))
            DROPPED.inc(max(0, len(calls) - room))
            return 0
        return len(calls)

    async def _events(self, calls: list[Call]) -> list[Outgoing]:
        events: list[Outgoing] = []
        try:
            for start in range(0, len(calls), SLICE):
                events += [self._event(call) for call in calls[start : start + SLICE]]
                await asyncio.sleep(0)  # a second's calls in one go would hold up every answer
        except asyncio.CancelledError:  # the last turn of this process publishes them
            self._calls.extendleft(reversed(calls))
            raise
        return events

    def _event(self, call: Call) -> Outgoing:
        state = call.state
        secret, masked = self._catalogue.secret_codes, self._catalogue.masked_codes
        answer = redact(call.response_body, secret, masked)
        request_id = state.get("request_id") or new_id("req")
        body = ApiCalledV1(
            request_id=request_id,
            client_id=state.get("client_id"),
            mode=state.get("mode"),
            method=call.method[:8],
            path=call.path[:300],
            status=call.status,
            latency_ms=round(call.latency_ms, 3),
            error_code=_code(answer) if call.status >= 400 else None,
            payment_id=state.get("payment_id"),
            ip=call.ip,
            request_body=redact(call.request_body, secret, masked),
            response_body=answer,
            called_at=call.called_at,
        )
        return outgoing(
            WIRE_TYPE,
            request_id,  # a call is no hop of the payment it asks about
            body,
            source="gateway",
            correlation_id=request_id,
            traceparent=call.traceparent,
        )

    async def _send(self, pack: list[Outgoing]) -> None:
        channel = self._channel
        if channel is None or channel.is_closed:
            channel = self._channel = await self._broker.publish_channel()
        exchange = await channel.get_exchange(EVENTS, ensure=False)
        message = Message(
            b"[" + b",".join(event.body for event in pack) + b"]",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=pack[0].id,
            type=WIRE_TYPE,
            app_id="gateway",
            content_type=CONTENT_TYPE,
            timestamp=dt.datetime.now(dt.UTC),
        )
        await exchange.publish(message, WIRE_TYPE, mandatory=False, timeout=CONFIRM_SECONDS)


def _packs(events: list[Outgoing]) -> list[list[Outgoing]]:
    packs: list[list[Outgoing]] = [[]]
    size = 0
    for event in events:
        full = len(packs[-1]) >= PACK_LIMIT or size + len(event.body) > PACK_LIMIT_BYTES
        if packs[-1] and full:
            packs.append([])
            size = 0
        packs[-1].append(event)
        size += len(event.body) + 1
    return packs


def _code(answer: str | None) -> str | None:
    """Return the stable code of a refusal."""
    body = orjson.loads(answer) if answer else None
    code = body.get("code") if isinstance(body, dict) else None
    return code[:80] if isinstance(code, str) else None
