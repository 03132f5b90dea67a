"""The live stream: payment events become rows; each process hands them to its open browsers."""

import asyncio
from collections.abc import Sequence
from typing import Any

from mospay_shared.chassis.database import Database, Tx
from mospay_shared.contracts import Event, PaymentEventV1
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

    async def turn(self) -> int:
        """Look for new rows and hand them out; return how many there were."""
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


async def keep_news(tx: Tx, events: Sequence[Event[PaymentEventV1]]) -> None:
    """Write a live row for each payment event."""
    rows: list[tuple[str, str, str, Any]] = []
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
            "updated_at": payment.occurred_at.isoformat(),
        }
        rows.append(("payment", payment.client_id, payment.mode, news))
    if rows:
        await people.insert_stream(tx, rows)
