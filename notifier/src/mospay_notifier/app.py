"""The notifier's wiring."""

import os
import sys

from fastapi import FastAPI
from mospay_shared.chassis.main import migrations_beside, placeholder_environment
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service

from mospay_notifier import handlers, routes
from mospay_notifier.settings import NotifierSettings
from mospay_notifier.workers import Sender, invoice_mailer, payer_mailer


def create_service(settings: NotifierSettings) -> Service:
    """Wire the notifier."""
    service = Service("notifier", settings, migrations_folder=migrations_beside(__file__))
    sealer = Sealer(settings.secrets_key.get_secret_value())
    sender = Sender(service, settings, sealer)
    mailers = invoice_mailer(service, settings), payer_mailer(service, settings)
    service.subscribe(
        *handlers.subscriptions(
            sender.worker.wake,
            linger_seconds=settings.batch_linger_seconds,
            limit=settings.batch_limit,
        )
    )
    service.subscribe(*handlers.mail_subscriptions(*(one.worker.wake for one in mailers)))
    service.on_open(sender.open)
    service.on_drain(sender.drain)
    service.on_close(sender.close)
    service.work(sender.worker, *(one.worker for one in mailers))
    service.app.include_router(routes.endpoints_router(service, settings, sealer))
    wake = sender.worker.wake
    service.app.include_router(routes.endpoint_actions_router(service, settings, sealer, wake))
    service.app.include_router(routes.deliveries_router(service, wake))
    service.trace_sources.append(routes.delivery_hops(len(settings.schedule_seconds)))
    return service


def create_app(settings: NotifierSettings) -> FastAPI:
    """Return the ASGI application alone."""
    return create_service(settings).app


def build() -> Service:
    """Build from the environment; documents need none."""
    if sys.argv[1:2] in (["openapi"], ["asyncapi"]):
        seed = "A" * 43 + "="
        nowhere = dict.fromkeys(("ledger_url", "portal_url"), "http://127.0.0.1:1")
        key = {"secrets_key": f"k1:{seed}", "signing_key": seed, **nowhere}
        os.environ.update(placeholder_environment(NotifierSettings, key))
    return create_service(NotifierSettings())
