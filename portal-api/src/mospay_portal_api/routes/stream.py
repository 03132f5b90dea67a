"""The live stream: Server-Sent Events of what changed, with replay by `Last-Event-ID`."""

import asyncio
from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from mospay_shared.chassis.problems import Problem

from mospay_portal_api.domain.errors import Fault, Invalid, NotSignedIn
from mospay_portal_api.domain.people import Person
from mospay_portal_api.domain.stream import TOPIC_LIMIT, Wish, parse_topics
from mospay_portal_api.routes.bodies import BIGINT
from mospay_portal_api.routes.context import COOKIE, PROBLEMS, Context
from mospay_portal_api.usecases import people
from mospay_portal_api.usecases.live import News

RETRY_MS = 2000  # how long a browser waits before it comes back
STEP_SECONDS = 1.0  # how soon a stream sees that the service stops or the browser has gone


def render(news: News) -> bytes:
    """Return an event as it travels; `prev_id` is what this subscriber was sent before."""
    if news.payment is None:
        at = news.stream_id
        return b'id: %d\nevent: reset\ndata: {"stream_id":%d}\n\n' % (at, at)
    body = {"stream_id": news.stream_id, "prev_id": news.prev_id, "payment": news.payment}
    return b"id: %d\nevent: payment\ndata: %s\n\n" % (news.stream_id, orjson.dumps(body))


def _last_id(request: Request) -> int | None:
    """Return the id the browser saw last; one that is no id of ours is before all of them."""
    given = request.headers.get("last-event-id", "")
    if not given:
        return None
    plain = given.isascii() and given.isdigit() and len(given) < 20
    return min(int(given), BIGINT) if plain else -1


def router(context: Context) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/bff/v1", tags=["live"], responses=PROBLEMS)
    service, settings, feed = context.service, context.settings, context.feed

    async def still_signed_in(request: Request) -> bool:
        """Say whether the session holds; an open page alone is no use of it."""
        try:
            token = request.cookies.get(COOKIE)
            await people.who(service.database, settings, token, touch=False)
        except NotSignedIn:
            return False
        return True

    async def events(
        request: Request, person: Person, topics: frozenset[str]
    ) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        subscriber = await feed.join(person, Wish(person.client_ids, topics), _last_id(request))
        try:
            # The position at once, so that whoever reconnects before any event can name it.
            yield b"retry: %d\nid: %d\n\n" % (RETRY_MS, subscriber.start)
            said = checked = clock()
            while not service.stopping.is_set():
                if clock() - checked >= settings.stream_check_seconds:
                    checked = clock()
                    if not await still_signed_in(request):
                        return
                try:
                    news = await asyncio.wait_for(subscriber.waiting.get(), STEP_SECONDS)
                except TimeoutError:
                    if clock() - said >= settings.stream_ping_seconds:
                        said = clock()
                        yield b": ping\n\n"
                    continue
                said = clock()
                yield render(news)
        finally:
            feed.leave(subscriber)

    @routes.get("/stream", response_class=StreamingResponse)
    async def stream(
        request: Request,
        topics: str = Query("payment", max_length=4000),
        person: Person = Depends(context.person),
    ) -> StreamingResponse:
        """What changes, as it changes: topics `payment`, `metrics`, `payment:{id}`."""
        known, wrong = parse_topics(topics)
        if wrong or not known or len(known) > TOPIC_LIMIT:
            words = f"is a list of at most {TOPIC_LIMIT}: payment, metrics, payment:pay_…"
            raise Invalid([Fault("topics", "unknown_topic", words)])
        if feed.full:
            title = "Too many live streams are open here"
            raise Problem(503, "too_many_streams", title, headers={"Retry-After": "10"})
        return StreamingResponse(
            events(request, person, known),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return routes
