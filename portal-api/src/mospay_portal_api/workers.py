"""Time into portal-api: the one poller behind all open streams, and housekeeping."""

import asyncio
from typing import Any

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.workers import Worker
from prometheus_client import Gauge

from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.storage import people

STREAMS = Gauge("mospay_portal_streams", "Open live streams")
POLL_LIMIT = 500  # rows a look
QUEUE_LIMIT = 1000  # rows a slow browser may be behind before it is told to fetch anew


class Feed:
    """Hands new stream rows to every open stream of this process."""

    def __init__(self, database: Database, settings: PortalSettings) -> None:
        self._database, self._settings = database, settings
        self._listeners: set[asyncio.Queue[Any]] = set()
        self._last: int | None = None
        self.worker = Worker("portal.feed", self._turn, settings.stream_poll_seconds)

    @property
    def full(self) -> bool:
        """Say whether this process has as many open streams as it may."""
        return len(self._listeners) >= self._settings.stream_connections

    def join(self) -> "asyncio.Queue[Any]":
        """Open a listener; it gets rows, or None when it fell behind or the service stops."""
        queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE_LIMIT)
        self._listeners.add(queue)
        STREAMS.set(len(self._listeners))
        return queue

    def leave(self, queue: "asyncio.Queue[Any]") -> None:
        """Close a listener."""
        self._listeners.discard(queue)
        STREAMS.set(len(self._listeners))

    async def _turn(self) -> int:
        if not self._listeners:
            self._last = None
            return 0
        async with self._database.transaction() as tx:
            if self._last is None:
                self._last = (await people.stream_bounds(tx))[1]
                return 0
            rows = await people.stream_after(tx, self._last, POLL_LIMIT)
        for row in rows:
            self._last = row["id"]
            for queue in list(self._listeners):
                if queue.full():
                    self.leave(queue)
                    queue.get_nowait()
                    queue.put_nowait(None)
                else:
                    queue.put_nowait(row)
        return len(rows)


def housekeeping(database: Database, settings: PortalSettings) -> Worker:
    """Return the worker that drops ended sessions and old stream rows."""

    async def turn() -> int:
        async with database.transaction() as tx:
            await people.delete_old(tx, settings.stream_kept_seconds)
        return 0

    return Worker("portal.housekeeping", turn, idle_seconds=60)
