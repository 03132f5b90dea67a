"""`create_app(settings)`: the only wiring of the connector."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from mospay_generic import __doc__ as summary
from mospay_generic import routes
from mospay_generic.clients import Provider
from mospay_generic.settings import Settings
from mospay_generic.storage import Record
from mospay_generic.usecases import Connector

# A call that has no answer after its time-out and this much more was cut off.
SPARE_SECONDS = 5


def create_app(settings: Settings) -> FastAPI:
    """The application; nothing is opened before its lifespan starts."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # addresses are nobody's business
    record = Record(settings.database_path)
    provider = Provider(settings, record)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await record.open()
        async with provider:
            yield
        await record.close()

    app = FastAPI(
        title=f"MosPay connector {settings.name}",
        version="0.1.0",
        summary=summary,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    connector = Connector(provider, record, settings.timeout_seconds + SPARE_SECONDS)
    routes.install(app, connector, settings)
    return app
