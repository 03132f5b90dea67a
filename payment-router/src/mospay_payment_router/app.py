"""The router's wiring: one process takes commands, sends payments, and asks what became of them."""

import os
import socket
import sys

from fastapi import FastAPI
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.main import migrations_beside
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.settings import decode_key
from mospay_shared.ids import new_id

from mospay_payment_router import handlers, routes
from mospay_payment_router.clients import Provider
from mospay_payment_router.domain.breaker import BreakerRules, Breakers
from mospay_payment_router.domain.risk import Decision
from mospay_payment_router.domain.slots import Slots
from mospay_payment_router.settings import RouterSettings, callback_secrets, settings_for_documents
from mospay_payment_router.storage import views
from mospay_payment_router.storage.dispatcher import Functions
from mospay_payment_router.storage.risk import Counters
from mospay_payment_router.usecases.accept import Acceptance
from mospay_payment_router.usecases.answers import Answers
from mospay_payment_router.usecases.believe import Believer
from mospay_payment_router.usecases.callbacks import Callbacks
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_payment_router.usecases.enquire import Enquiries
from mospay_payment_router.usecases.epochs import current_epoch
from mospay_payment_router.usecases.failover import Failover, Router
from mospay_payment_router.usecases.operations import Operations
from mospay_payment_router.usecases.providers import Health, Providers
from mospay_payment_router.usecases.refunds import Refunds
from mospay_payment_router.usecases.review import Reviews
from mospay_payment_router.usecases.risk import Risk
from mospay_payment_router.usecases.risk_history import Histories, Upkeep
from mospay_payment_router.usecases.risk_rules import Digests, Policies, RiskSettings
from mospay_payment_router.usecases.sending import Claims, Leasing
from mospay_payment_router.usecases.trials import Trials
from mospay_payment_router.usecases.versions import Limits
from mospay_payment_router.workers import RefundRounds, Rounds, Sender

NAME = "payment-router"
TRIAL_POOL = 2  # connections: one runs a trial, the other one may have to end it
DESCRIPTION = "Takes accepted payments to their providers and finds out what became of each."


class Wiring:
    """Everything of one process, made in the order in which it depends on each other."""

    def __init__(self, service: Service, settings: RouterSettings) -> None:
        self.service, self.settings = service, settings
        self._know()
        self._weigh()
        self._send()
        self._look_after()

    def _know(self) -> None:
        """What payments are taken under: directory, functions, credentials, breakers."""
        database, settings = self.service.database, self.settings
        self.sealer = Sealer(settings.secrets_key.get_secret_value())
        self.replica = DirectoryReplica(
            NAME, ("client", "service", "assignment"), database, self.service.relay
        )
        self.catalogue = Catalogue(
            database,
            self.replica,
            settings.allowed_hosts,
            settings.not_found_grace_seconds,
            settings.directory_wait_seconds,
        )
        self.functions = Functions(
            settings.function_database_url.get_secret_value(),
            NAME,
            settings.function_pool_size,
            settings.function_seconds,
        )
        self.trials = Functions(  # of their own: a draft that hangs keeps no payment waiting
            settings.function_database_url.get_secret_value(),
            f"{NAME}-trial",
            TRIAL_POOL,
            settings.function_seconds,
        )
        self.slots = Slots(
            settings.in_flight, settings.in_flight_per_client, settings.in_flight_per_provider
        )
        rules = BreakerRules(
            window_seconds=settings.breaker_window_seconds,
            least_calls=settings.breaker_calls,
            failing_share=settings.breaker_failing_share,
            open_seconds=settings.breaker_open_seconds,
        )
        self.breakers = Breakers(rules, self.slots.cap)
        self.providers = Providers(database, self.sealer)
        self.health = Health(database, self.service.relay, self.breakers)
        self.leasing = Leasing(
            owner=f"{socket.gethostname()}:{os.getpid()}:{new_id('run')[-8:]}",
            margin_seconds=settings.lease_margin_seconds,
            spare_seconds=settings.lease_spare_seconds,
            announce_after_seconds=settings.announce_after_seconds,
            first_enquiry_seconds=settings.enquiry_seconds[0],
        )

    def _weigh(self) -> None:
        """What is asked of a payment before its first attempt."""
        database, settings = self.service.database, self.settings
        digests = Digests(decode_key(settings.risk_key.get_secret_value()))
        self.policies = Policies(database)
        self.risk_settings = RiskSettings(
            database,
            digests,
            self.policies.worker.wake,
            settings.risk_rules_limit,
            settings.risk_entries_limit,
        )
        self.counters = Counters(
            settings.worker_database_url.get_secret_value(), NAME, settings.risk_pool_size
        )
        self.histories = Histories(self.policies, digests)
        self.risk = Risk(
            self.policies,
            self.counters,
            digests,
            self.histories,
            self.service.relay,
            settings.risk_seconds,
            Decision(settings.risk_default),
        )
        self.upkeep = Upkeep(database, self.histories, self.counters, settings.risk_payer_days)

    def _send(self) -> None:
        """What takes a payment to its provider and believes the answer."""
        database, relay, settings = self.service.database, self.service.relay, self.settings
        self.provider = Provider(
            settings.allow_private_networks,
            settings.in_flight + settings.enquiries_in_flight + settings.refunds_in_flight,
        )
        self.believer = Believer(relay, settings.enquiry_seconds, settings.attention_after_seconds)
        failover = Failover(
            database,
            self.catalogue,
            self.functions,
            self.sealer,
            lambda: self.rounds.ready.wake(),
        )
        self.answers = Answers(database, self.functions, self.sealer, self.believer, failover)
        self.sender = Sender(
            self.provider,
            self.answers,
            self.slots,
            settings.callback_url,
            self.providers,
            self.breakers,
        )
        self.refund_rounds = RefundRounds(
            self.provider,
            self.leasing,
            settings.callback_url,
            settings.refunds_in_flight,
            self.providers.headers,
            database.due("refunds where next_action_at <= now()"),
        )
        self.refunds = Refunds(
            database,
            self.functions,
            relay,
            settings.enquiry_seconds,
            settings.attention_after_seconds,
            self.refund_rounds.worker.wake,
        )
        self.refund_rounds.serve(self.refunds)

    def _look_after(self) -> None:
        """What comes back to payments: rounds over what is due, and the way in."""
        database, relay, settings = self.service.database, self.service.relay, self.settings
        self.operations = Operations(database, self.believer)
        self.rounds = Rounds(
            database=database,
            provider=self.provider,
            claims=Claims(database, self.slots, self.sealer, self.leasing, self.sender.send),
            leasing=self.leasing,
            answers=self.answers,
            enquiries=Enquiries(
                database, self.functions, self.sealer, relay, self.believer, self.answers
            ),
            callbacks=Callbacks(
                database,
                self.believer,
                callback_secrets(),
                settings.callback_match_seconds,
                self.refunds,
            ),
            operations=self.operations,
            catalogue=self.catalogue,
            credentials=self.providers.headers,
            refunds=self.refund_rounds.worker,
            enquiries_in_flight=settings.enquiries_in_flight,
            secrets_hours=settings.secrets_hours,
        )
        self.desk = routes.Desk(
            self.service,
            self.catalogue,
            Trials(self.trials, settings.replay_seconds),
            Limits(settings.function_source_bytes, settings.function_versions),
        )
        self.sender.when_freed(self.rounds.ready.wake)
        self.acceptance = Acceptance(
            self.catalogue,
            self.functions,
            self.sealer,
            self.slots,
            relay,
            self.leasing,
            self.sender.send,
            self.rounds.ready.wake,
            Router(self.catalogue, self.providers, self.breakers),
            self.risk,
        )
        self.reviews = Reviews(
            self.believer,
            relay,
            self.histories,
            self.rounds.ready.wake,
            settings.announce_after_seconds,
        )

    async def know_epoch(self) -> None:
        """Find out what this database may have forgotten."""
        started_at = await current_epoch(self.service.database)
        self.acceptance.epoch_started_at = self.refunds.epoch_started_at = started_at


def create_service(settings: RouterSettings) -> Service:
    """Wire the service from its settings; nothing is opened yet."""
    service = Service(
        NAME, settings, migrations_folder=migrations_beside(__file__), description=DESCRIPTION
    )
    own = service.app.state.wiring = Wiring(service, settings)
    rounds = own.rounds
    woken = handlers.Woken(rounds.callbacks, rounds.enquire, rounds.cancels)
    service.subscribe(
        own.replica.subscription(),
        *handlers.subscriptions(own.acceptance, own.operations, own.refunds, own.reviews, woken),
    )
    service.work(
        *own.replica.workers(),
        own.catalogue.worker,
        *rounds.workers(),
        own.refund_rounds.worker,
        own.providers.worker,
        own.health.worker,
        own.policies.worker,
        *own.upkeep.workers(),
    )
    openings = (own.know_epoch, own.replica.refresh, own.catalogue.open, own.providers.open,
                own.functions.open, own.trials.open, own.provider.open, own.sender.open,
                own.policies.open, own.counters.open)  # fmt: skip
    for opening in openings:
        service.on_open(opening)
    service.on_drain(own.sender.drain)
    service.on_drain(rounds.drain)
    service.on_drain(own.refund_rounds.drain)
    service.on_drain(own.upkeep.drain)
    service.on_close(own.provider.close)
    service.on_close(own.counters.close)
    service.on_close(own.functions.close)
    service.on_close(own.trials.close)
    service.app.include_router(routes.router(service, own.providers, own.risk_settings, own.desk))
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
