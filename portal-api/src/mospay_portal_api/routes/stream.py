"""The live stream: Server-Sent Events of what changed, with replay by `Last-Event-ID`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.domain import Person
from mospay_portal_api.routes.context import Context
from mospay_portal_api.storage import people

REPLAY_LIMIT = 500  # rows; a longer gap is fetched anew


class _Subscriber:
    """What one open stream may see and has seen."""

    def __init__(self, person: Person, topics: frozenset[str], last: int) -> None:
        self._person, self._topics, self.last = person, topics, last
        self._sent: int | None = None

    def render(self, row: Any) -> bytes | None:
        """Return the event of a row this subscriber wants, else None."""
        self.last = max(self.last, row["id"])
        payment_id = row["payload"]["id"]
        wanted = row["topic"] in self._topics or f"payment:{payment_id}" in self._topics
        if not wanted or not self._person.sees(row["client_id"]):
            return None
        body = {"stream_id": row["id"], "prev_id": self._sent, "payment": row["payload"]}
        self._sent = row["id"]
        return b"id: %d\nevent: payment\ndata: %s\n\n" % (row["id"], orjson.dumps(body))


def router(context: Context) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/bff/v1", tags=["live"])
    database, feed = context.service.database, context.feed

    async def replay(subscriber: _Subscriber) -> tuple[list[bytes], bool]:
        """Return what was missed; the flag says that too much was, or that it is gone."""
        async with database.transaction() as tx:
            oldest, newest = await people.stream_bounds(tx)
            if subscriber.last < 0:
                subscriber.last = newest
                return [], False
            rows = await people.stream_after(tx, subscriber.last, REPLAY_LIMIT + 1)
        gone = (oldest > subscriber.last + 1) or subscriber.last > newest
        if gone or len(rows) > REPLAY_LIMIT:
            subscriber.last = newest
            return [], True
        return [event for row in rows if (event := subscriber.render(row))], False

    async def events(request: Request, subscriber: _Subscriber) -> AsyncIterator[bytes]:
        queue = feed.join()
        try:
            missed, reset = await replay(subscriber)
            yield b": connected\n\n"
            if reset:
                yield b"event: reset\ndata: {}\n\n"
            for old in missed:
                yield old
            while not context.service.stopping.is_set():
                try:
                    row = await asyncio.wait_for(queue.get(), 1.0)
                except TimeoutError:
                    if await request.is_disconnected():
                        return
                    yield b": ping\n\n"
                    continue
                if row is None:
                    yield b"event: reset\ndata: {}\n\n"
                    return
                if row["id"] > subscriber.last and (event := subscriber.render(row)):
                    yield event
        finally:
            feed.leave(queue)

    @routes.get("/stream", response_class=StreamingResponse)
    async def stream(
        request: Request,
        topics: str = Query("payment", max_length=1000),
        person: Person = Depends(context.person),
    ) -> StreamingResponse:
        """What changes, as it changes: topics `payment`, `metrics`, `payment:{id}`."""
        if feed.full:
            raise Problem(
                503, "too_many_streams", "Too many live streams", headers={"Retry-After": "10"}
            )
        wanted = frozenset(topic for topic in topics.split(",") if topic)
        given = request.headers.get("last-event-id", "")
        subscriber = _Subscriber(person, wanted, int(given) if given.isdigit() else -1)
        return StreamingResponse(
            events(request, subscriber),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    return routes
