"""portal-api's wiring."""

import os
import sys
from typing import Any

from fastapi import APIRouter, FastAPI
from mospay_shared.chassis.main import migrations_beside, placeholder_environment
from mospay_shared.chassis.service import Service

from mospay_portal_api import handlers, workers
from mospay_portal_api.clients import House
from mospay_portal_api.routes import context as shared
from mospay_portal_api.routes import (
    credentials,
    directory,
    exceptions,
    fee_plans,
    functions,
    guests,
    invoice_files,
    invoices,
    ip_rules,
    journal,
    logos,
    operations,
    payer,
    payer_gate,
    payer_invites,
    payer_pages,
    payer_session,
    provider_statements,
    reads,
    refunds,
    risk,
    session,
    settlements,
    sharing,
    stream,
    web,
)
from mospay_portal_api.routes.payer_door import Door
from mospay_portal_api.routes.payer_portal import Portal
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import people
from mospay_portal_api.usecases.live import Feed
from mospay_portal_api.usecases.reading import Reader

_KEY = "A" * 43 + "="
_PLACEHOLDERS = {
    "signing_key": _KEY,
    "credential_pepper": _KEY,
    **{
        f"{name}_url": "http://x"
        for name in ("gateway", "router", "ledger", "notifier", "reporter")
    },
}


def create_service(settings: PortalSettings) -> Service:
    """Wire portal-api."""
    service = Service(
        "portal-api",
        settings,
        migrations_folder=migrations_beside(__file__),
        serves_without_broker=True,
    )
    database, house = service.database, House(settings)
    feed = Feed(database, settings)
    context = shared.Context(service, settings, house, feed, Reader(database, house, settings))
    service.subscribe(*handlers.subscriptions(service.relay, feed))
    service.on_open(house.open)
    service.on_open(people.warm_up)
    service.on_close(feed.close)
    service.on_close(house.close)
    service.work(
        *workers.workers(database, settings), workers.confirmations(house, database, settings)
    )
    shared.install_errors(service.app)
    service.app.add_middleware(
        web.SecurityHeaders, https=settings.public_url.startswith("https://")
    )
    for routes in (
        session.router(context),
        directory.companies_router(context),
        directory.clients_router(context),
        directory.services_router(context),
        directory.assignments_router(context),
        ip_rules.router(context),
        credentials.router(context),
        credentials.endpoints_router(context),
        operations.payments_router(context),
        refunds.reads_router(context),
        refunds.resolutions_router(context),
        operations.providers_router(context),
        risk.review_router(context),
        risk.rules_router(context),
        functions.reads_router(context),
        functions.changes_router(context),
        functions.steps_router(context),
        invoice_files.router(context),  # their paths are narrower
        invoices.router(context),
        provider_statements.router(context),
        exceptions.router(context),
        logos.router(context),
        reads.router(context),
        reads.figures_router(context),
        settlements.terms_router(context),  # `run` before the path that ends in an id
        settlements.router(context),
        settlements.payouts_router(context),
        fee_plans.router(context),
        journal.router(context),
        journal.books_router(context),
        journal.reversals_router(context),
        stream.router(context),
        sharing.router(context),
        guests.router(context),
        *_payers(context),
        web.router(settings.web_dir),  # last: it answers every other path
    ):
        service.app.include_router(routes)
    _describe_problems(service.app)
    return service


def _payers(context: shared.Context) -> list[APIRouter]:
    """Return the routes of payers, and of those who let them in."""
    door = Door(context)
    desk, portal = payer.Desk(context), Portal(context, door)
    return [
        payer_invites.router(context),
        payer_invites.mail_router(context),
        payer_session.router(context, door),
        payer.router(desk, door),
        payer_gate.router(portal),
        payer_pages.router(portal, desk),
    ]


def _describe_problems(app: FastAPI) -> None:
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = shared.problem_media(made())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def create_app(settings: PortalSettings) -> FastAPI:
    """Return the ASGI application alone."""
    return create_service(settings).app


def build() -> Service:
    """Build from the environment; documents need none."""
    if sys.argv[1:2] in (["openapi"], ["asyncapi"]):
        os.environ.update(placeholder_environment(PortalSettings, _PLACEHOLDERS))
    return create_service(PortalSettings())
