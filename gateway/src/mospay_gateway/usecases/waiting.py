"""Callers who wait for an outcome: one poll a process for all of them, while there are any."""

import asyncio
import contextlib
from collections import defaultdict
from typing import Any

import structlog
from mospay_shared.chassis.database import Database

from mospay_gateway.domain.payments import Payment
from mospay_gateway.storage import payments

log = structlog.get_logger()


class Waiters:
    """Holds requests until their payment's wait is over, the time is up, or we are stopping.

    The poll makes it work with any number of processes; `nudge` only makes it sooner.
    """

    def __init__(self, database: Database, stopping: asyncio.Event, *, poll_seconds: float) -> None:
        self._database, self._stopping, self._poll_seconds = database, stopping, poll_seconds
        self._waiting: dict[str, set[asyncio.Future[Payment]]] = defaultdict(set)
        self._nudged = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    def nudge(self) -> None:
        """Say that news were committed: look now."""
        self._nudged.set()

    async def wait(self, payment: Payment, seconds: float) -> Payment:
        """Return the payment once its wait is over, or as it was given when the time is up."""
        if seconds <= 0 or payment.wait_over or self._stopping.is_set():
            return payment
        future: asyncio.Future[Payment] = asyncio.get_running_loop().create_future()
        self._waiting[payment.id].add(future)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        stop = asyncio.create_task(self._stopping.wait())
        until: set[asyncio.Future[Any]] = {future, stop}
        try:
            await asyncio.wait(until, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return future.result() if future.done() else payment
        finally:
            stop.cancel()
            futures = self._waiting[payment.id]
            futures.discard(future)
            if not futures:
                del self._waiting[payment.id]

    async def close(self) -> None:
        """Stop polling."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        while self._waiting:
            self._nudged.clear()
            try:
                async with self._database.transaction() as tx:
                    over = await payments.find_over(tx, list(self._waiting))
            except Exception as error:  # whoever waits gets the 202 of its acceptance in time
                log.warning("waiters_poll_failed", reason=repr(error)[:200])
                await asyncio.sleep(self._poll_seconds * 10)
                continue
            for payment in over:
                for future in self._waiting.get(payment.id, ()):
                    if not future.done():
                        future.set_result(payment)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), self._poll_seconds)
