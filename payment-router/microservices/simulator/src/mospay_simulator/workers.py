"""Time in: what settles later and the callbacks that follow, resumed after a restart."""

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Final

import httpx

from mospay_simulator.clients import send_callback
from mospay_simulator.domain.payments import CALLBACK_RETRY_SECONDS, Callback
from mospay_simulator.storage import Clock, Record

_BATCH_MAX: Final = 64
# A wake-up lost to a bug or a stepped clock costs at most this long.
_SLEEP_SECONDS_MAX: Final = 30.0


async def settle(
    record: Record, clock: Clock, settlements_due: asyncio.Event, callbacks_due: asyncio.Event
) -> None:
    """Settle what is due, for ever; `settlements_due` is set whenever something new may be."""
    while True:
        settlements_due.clear()
        settled = await record.settle_due(clock.now(), _BATCH_MAX)
        if settled:
            callbacks_due.set()
        if settled < _BATCH_MAX:
            await _wait(clock, settlements_due, await record.next_settlement())


async def send_callbacks(
    record: Record,
    clock: Clock,
    callbacks_due: asyncio.Event,
    client: httpx.AsyncClient,
    secret: str | None,
) -> None:
    """Send due callbacks, for ever, up to 64 at a time."""
    while True:
        callbacks_due.clear()
        due = await record.due_callbacks(clock.now(), _BATCH_MAX)
        await asyncio.gather(*(_send(record, clock, callback, client, secret) for callback in due))
        if not due:
            await _wait(clock, callbacks_due, await record.next_callback())


async def _send(
    record: Record,
    clock: Clock,
    callback: Callback,
    client: httpx.AsyncClient,
    secret: str | None,
) -> None:
    taken = await send_callback(client, callback, secret)
    retry_at = None
    if not taken and callback.tries < len(CALLBACK_RETRY_SECONDS):
        delay = timedelta(seconds=CALLBACK_RETRY_SECONDS[callback.tries])
        retry_at = clock.now() + delay
    # Marked after sending: killed in between, the callback is sent twice and never lost.
    await record.reschedule_callback(callback.id, retry_at)


async def _wait(clock: Clock, event: asyncio.Event, until: datetime | None) -> None:
    seconds = _SLEEP_SECONDS_MAX
    if until is not None:
        seconds = min(seconds, (until - clock.now()).total_seconds())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout=max(seconds, 0.001))
