"""The router's wiring: one process takes commands, sends payments, and asks what became of them."""

import os
import socket
import sys

from fastapi import FastAPI
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.main import migrations_beside
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id

from mospay_payment_router import handlers, routes
from mospay_payment_router.clients import Provider
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.settings import RouterSettings, callback_secrets, settings_for_documents
from mospay_payment_router.storage import views
from mospay_payment_router.storage.dispatcher import Functions
from mospay_payment_router.usecases.accept import Acceptance
from mospay_payment_router.usecases.answers import Answers
from mospay_payment_router.usecases.believe import Believer
from mospay_payment_router.usecases.callbacks import Callbacks
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_payment_router.usecases.enquire import Enquiries
from mospay_payment_router.usecases.sending import Claims, Leasing
from mospay_payment_router.workers import Rounds, Sender

NAME = "payment-router"
DESCRIPTION = "Takes accepted payments to their providers and finds out what became of each."


def create_service(settings: RouterSettings) -> Service:
    """Wire the service from its settings; nothing is opened yet."""
    service = Service(
        NAME, settings, migrations_folder=migrations_beside(__file__), description=DESCRIPTION
    )
    database, relay = service.database, service.relay
    replica = DirectoryReplica(NAME, ("client", "service", "assignment"), database, relay)
    catalogue = Catalogue(
        database,
        replica,
        settings.allowed_hosts,
        settings.not_found_grace_seconds,
        settings.directory_wait_seconds,
    )
    functions = Functions(
        settings.function_database_url.get_secret_value(),
        NAME,
        settings.function_pool_size,
        settings.function_seconds,
    )
    sealer = Sealer(settings.secrets_key.get_secret_value())
    slots = Slots(
        settings.in_flight, settings.in_flight_per_client, settings.in_flight_per_provider
    )
    provider = Provider(
        settings.allow_private_networks, settings.in_flight + settings.enquiries_in_flight
    )
    believer = Believer(relay, settings.enquiry_seconds, settings.attention_after_seconds)
    answers = Answers(database, functions, sealer, believer)
    enquiries = Enquiries(database, functions, sealer, relay, believer, answers)
    leasing = Leasing(
        owner=f"{socket.gethostname()}:{os.getpid()}:{new_id('run')[-8:]}",
        margin_seconds=settings.lease_margin_seconds,
        spare_seconds=settings.lease_spare_seconds,
        announce_after_seconds=settings.announce_after_seconds,
        first_enquiry_seconds=settings.enquiry_seconds[0],
    )
    sender = Sender(provider, answers, slots, settings.callback_url)
    rounds = Rounds(
        database=database,
        provider=provider,
        claims=Claims(database, slots, sealer, leasing, sender.send),
        leasing=leasing,
        answers=answers,
        enquiries=enquiries,
        callbacks=Callbacks(
            database, believer, callback_secrets(), settings.callback_match_seconds
        ),
        enquiries_in_flight=settings.enquiries_in_flight,
        secrets_hours=settings.secrets_hours,
    )
    sender.when_freed(rounds.ready.wake)
    acceptance = Acceptance(
        catalogue, functions, sealer, slots, relay, leasing, sender.send, rounds.ready.wake
    )
    service.subscribe(replica.subscription(), *handlers.subscriptions(acceptance, rounds.callbacks))
    service.work(*replica.workers(), catalogue.worker, *rounds.workers())
    for opening in (replica.refresh, catalogue.open, functions.open, provider.open, sender.open):
        service.on_open(opening)
    service.on_drain(sender.drain)
    service.on_drain(rounds.drain)
    service.on_close(provider.close)
    service.on_close(functions.close)
    service.app.include_router(routes.router(service))
    service.trace_sources.append(views.hops)
    return service


def build() -> Service:
    """Build the service from the environment; placeholders do for printing its documents."""
    if sys.argv[1:2] in (["openapi"], ["asyncapi"]):
        return create_service(settings_for_documents())
    return create_service(RouterSettings())


def create_app(settings: RouterSettings) -> FastAPI:
    """Return the HTTP application, its lifespan running the whole service."""
    return create_service(settings).app
