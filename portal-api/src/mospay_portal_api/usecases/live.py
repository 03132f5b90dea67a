"""The live stream: payment events become rows; one look at them serves all streams of a process.

Rows become visible in the order of their ids (storage), so "after the last id" misses none. What a
subscriber is sent carries the id of what it was sent before, so a browser can tell a gap.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from mospay_shared.chassis.database import DATABASE_DOWN, Database, Tx
from mospay_shared.contracts import Event, PaymentEventV1
from prometheus_client import Gauge

from mospay_portal_api.domain.people import Person
from mospay_portal_api.domain.stream import Wish
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.storage import stream
from mospay_portal_api.storage.view import seen_by

log = structlog.get_logger()
STREAMS = Gauge("mospay_portal_streams", "Open live streams")
POLL_LIMIT = 500  # rows a look
REPLAY_LIMIT = 500  # rows; a longer gap is fetched anew
QUEUE_LIMIT = 1000  # events a slow browser may be behind before it is told to fetch anew
PRUNE_LIMIT = 5000  # rows a turn


@dataclass(frozen=True, slots=True)
class News:
    """One event for one subscriber; `payment` None means: something was missed, read again."""

    stream_id: int
    prev_id: int
    payment: Any | None


@dataclass(eq=False)
class Subscriber:
    """One open stream: what it wants, how far it has looked, and what waits to be sent."""

    wish: Wish
    start: int = 0  # where it begins: what the browser saw last, or now
    position: int = 0  # the last row considered
    sent: int = 0  # the last row sent, or where the stream began
    waiting: "asyncio.Queue[News]" = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT))

    def offer(self, row: Any) -> None:
        """Take a row that is wanted; one that fell too far behind is told to read again."""
        if row["id"] <= self.position:
            return
        self.position = row["id"]
        payload = row["payload"]
        if not self.wish.takes(row["client_id"], row["topic"], payload["id"]):
            return
        if self.waiting.full():
            while not self.waiting.empty():
                self.waiting.get_nowait()
            self.reset()
            return
        self.waiting.put_nowait(News(row["id"], self.sent, payload))
        self.sent = row["id"]

    def reset(self) -> None:
        """Say that something was missed; the stream goes on from where it is."""
        self.sent = self.position
        self.waiting.put_nowait(News(self.position, self.position, None))


class Feed:
    """Hands new stream rows to every open stream of this process; looks only while one is open."""

    def __init__(self, database: Database, settings: PortalSettings) -> None:
        self._database, self._settings = database, settings
        self._subscribers: set[Subscriber] = set()
        self._last = 0
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Say whether this process has as many open streams as it may."""
        return len(self._subscribers) >= self._settings.stream_connections

    def wake(self) -> None:
        """Say that rows were committed here."""
        self._wake.set()

    async def join(self, person: Person, wish: Wish, last: int | None) -> Subscriber:
        """Open a subscriber after `last` (from now on when None), what it missed already waiting.

        A `last` that was pruned, lies ahead of us or is too far back is answered with a reset.
        """
        subscriber = Subscriber(wish)
        async with self._turn:  # no look in between: a row is either replayed or handed out
            async with self._database.transaction() as tx:
                pruned, newest = await stream.bounds(tx)
            if not self._subscribers:
                self._last = newest
            subscriber.start = subscriber.position = subscriber.sent = newest
            if last is not None and last != newest:
                await self._replay(person, subscriber, last, pruned, newest)
            self._subscribers.add(subscriber)
            STREAMS.set(len(self._subscribers))
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._look())
        return subscriber

    async def _replay(
        self, person: Person, subscriber: Subscriber, last: int, pruned: int, newest: int
    ) -> None:
        rows: Sequence[Any] = []
        if pruned <= last < newest:
            async with seen_by(self._database, person) as tx:
                rows = await stream.after(tx, last, REPLAY_LIMIT + 1)
        if not pruned <= last < newest or len(rows) > REPLAY_LIMIT:
            subscriber.reset()
            return
        subscriber.start = subscriber.position = subscriber.sent = last
        for row in rows:
            subscriber.offer(row)
        subscriber.position = max(subscriber.position, newest)

    def leave(self, subscriber: Subscriber) -> None:
        """Close a subscriber."""
        self._subscribers.discard(subscriber)
        STREAMS.set(len(self._subscribers))

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while self._subscribers:
            self._wake.clear()
            try:
                async with self._turn:
                    full = await self._once() == POLL_LIMIT
            except DATABASE_DOWN as error:
                log.warning("feed_waits", reason=repr(error)[:200])
                full = False
            except Exception:
                log.exception("feed_failed")
                full = False
            if not full:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._settings.stream_poll_seconds)

    async def _once(self) -> int:
        async with self._database.transaction() as tx:
            rows = await stream.after(tx, self._last, POLL_LIMIT)
        for row in rows:
            self._last = row["id"]
            for subscriber in self._subscribers:
                subscriber.offer(row)
        return len(rows)


async def keep_news(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
    """Write a live row for each payment event."""
    rows: list[tuple[str, str, str, Any, Any]] = []
    for event in events:
        payment = event.data
        news = {
            "id": payment.payment_id,
            "client_id": payment.client_id,
            "mode": payment.mode,
            "status": payment.status,
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
            "service": payment.service,
            "version": payment.version,
            "updated_at": payment.occurred_at.isoformat().replace("+00:00", "Z"),
        }
        whole = payment.model_dump(mode="json")
        rows.append((payment.client_id, payment.mode, payment.payment_id, news, whole))
    if rows:
        await stream.insert(tx, rows)


async def prune(database: Database, settings: PortalSettings) -> int:
    """Drop rows past the time a browser may ask for them again; return how many."""
    async with database.transaction() as tx:
        return await stream.prune(tx, settings.stream_kept_seconds, PRUNE_LIMIT)
