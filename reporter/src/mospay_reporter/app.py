"""The reporter's wiring."""

import os
import sys

from fastapi import FastAPI
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.main import migrations_beside, placeholder_environment
from mospay_shared.chassis.service import Service

from mospay_reporter import handlers, routes, workers
from mospay_reporter.settings import ReporterSettings
from mospay_reporter.usecases import reading


def create_service(settings: ReporterSettings) -> Service:
    """Wire the reporter."""
    service = Service("reporter", settings, migrations_folder=migrations_beside(__file__))
    service.subscribe(
        *handlers.subscriptions(
            linger_seconds=settings.batch_linger_seconds, limit=settings.batch_limit
        )
    )
    # where a client's days begin, and the currency of its dashboard
    replica = DirectoryReplica("reporter", ("client", "company"), service.database, service.relay)
    service.subscribe(replica.subscription())
    service.work(*replica.workers())
    service.trace_sources.append(reading.refund_hops)
    service.work(
        *workers.workers(service.database, call_retention_days=settings.call_retention_days)
    )
    service.app.include_router(routes.router(service))
    return service


def create_app(settings: ReporterSettings) -> FastAPI:
    """Return the ASGI application alone."""
    return create_service(settings).app


def build() -> Service:
    """Build from the environment; documents need none."""
    if sys.argv[1:2] in (["openapi"], ["asyncapi"]):
        os.environ.update(placeholder_environment(ReporterSettings, {}))
    return create_service(ReporterSettings())
