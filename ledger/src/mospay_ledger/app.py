"""The ledger's wiring."""

import os
import sys

from fastapi import FastAPI
from mospay_shared.chassis.main import migrations_beside, placeholder_environment
from mospay_shared.chassis.service import Service

from mospay_ledger import handlers, routes, workers
from mospay_ledger.settings import LedgerSettings


def create_service(settings: LedgerSettings) -> Service:
    """Wire the ledger."""
    service = Service("ledger", settings, migrations_folder=migrations_beside(__file__))
    service.subscribe(
        *handlers.subscriptions(
            service.relay,
            linger_seconds=settings.batch_linger_seconds,
            limit=settings.batch_limit,
        )
    )
    service.work(*workers.workers(service.database))
    service.app.include_router(routes.router(service))
    service.trace_sources.append(routes.posting_hops)
    return service


def create_app(settings: LedgerSettings) -> FastAPI:
    """Return the ASGI application alone."""
    return create_service(settings).app


def build() -> Service:
    """Build from the environment; documents need none."""
    if sys.argv[1:2] in (["openapi"], ["asyncapi"]):
        os.environ.update(placeholder_environment(LedgerSettings, {}))
    return create_service(LedgerSettings())
