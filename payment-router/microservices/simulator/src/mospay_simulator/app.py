"""`create_app(settings)`: the only wiring of the simulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from mospay_simulator import __doc__ as summary
from mospay_simulator import routes
from mospay_simulator.clients import callback_client
from mospay_simulator.settings import Settings
from mospay_simulator.storage import Clock, MemoryRecord, Record, SqliteRecord
from mospay_simulator.workers import send_callbacks, settle


def create_app(settings: Settings) -> FastAPI:
    """The application; nothing is opened before its lifespan starts."""
    delays = {
        "async": timedelta(seconds=settings.async_seconds),
        "late": timedelta(seconds=settings.late_seconds),
        "window": timedelta(seconds=settings.window_seconds),
    }
    record: Record = (
        MemoryRecord(delays)
        if settings.record == "memory"
        else SqliteRecord(settings.database_path, delays)
    )
    clock = Clock(record)
    provider = routes.Provider(record, clock, settings, asyncio.Event(), asyncio.Event())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        secret = settings.callback_secret
        await record.open()
        await clock.open()
        async with callback_client(settings.callback_timeout_seconds) as client:
            provider.tasks = [
                asyncio.create_task(
                    settle(record, clock, provider.settlements_due, provider.callbacks_due)
                ),
                asyncio.create_task(
                    send_callbacks(
                        record,
                        clock,
                        provider.callbacks_due,
                        client,
                        None if secret is None else secret.get_secret_value(),
                    )
                ),
            ]
            yield
            for task in provider.tasks:
                task.cancel()
            await asyncio.gather(*provider.tasks, return_exceptions=True)
        await record.close()

    app = FastAPI(
        title="MosPay payment simulator",
        version="0.1.0",
        summary=summary,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    routes.install(app, provider)
    return app
