"""The gateway's wiring."""

import asyncio
import datetime as dt
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import structlog
from fastapi import FastAPI
from mospay_shared.chassis.database import DATABASE_DOWN
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.main import migrations_beside, placeholder_environment
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.settings import decode_key
from mospay_shared.chassis.workers import Worker
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from mospay_gateway import handlers, routes, workers
from mospay_gateway.clients import (
    LedgerClient,
    LedgerLimits,
    ReporterClient,
    RouterClient,
    SharedCounts,
)
from mospay_gateway.domain.addresses import AddressRules, Proxies
from mospay_gateway.domain.catalogue import Catalogue
from mospay_gateway.domain.idempotency import Fingerprints
from mospay_gateway.routes import behalf, internal
from mospay_gateway.routes.answers import install_answers
from mospay_gateway.routes.documents import install_document
from mospay_gateway.routes.edge import ApiLogEdge, GateEdge
from mospay_gateway.routes.parts import Parts
from mospay_gateway.routes.trace import trace_source
from mospay_gateway.settings import GatewaySettings, document_values
from mospay_gateway.usecases.acceptance import Acceptor
from mospay_gateway.usecases.api_log import ApiLog
from mospay_gateway.usecases.gate import Gate
from mospay_gateway.usecases.identity import Identity
from mospay_gateway.usecases.limits import Limiter, Rates
from mospay_gateway.usecases.security import SecurityLog
from mospay_gateway.usecases.waiting import Waiters

log = structlog.get_logger()
DESCRIPTION = """Accepts payments of client apps and answers for them.

A payment is on record before it is answered; it is then `processing` until its outcome is proven.
Authenticate with `X-API-Key`, `Authorization: Bearer mp_…`, Basic, or a token. Errors are
`application/problem+json`; the field API (`/api/v1/…`) keeps its own shape."""


def create_service(settings: GatewaySettings) -> Service:
    """Wire the gateway."""
    service = Service(
        "gateway",
        settings,
        migrations_folder=migrations_beside(__file__),
        serves_without_broker=True,
        title="MosPay gateway",
        description=DESCRIPTION,
    )
    database, relay = service.database, service.relay
    catalogue = Catalogue()
    replica = DirectoryReplica(
        "gateway", ("client", "service", "assignment", "credential", "ip_rule"), database, relay
    )
    replica.listen(catalogue.apply)
    waiters = Waiters(database, service.stopping, poll_seconds=settings.waiter_poll_seconds)
    api_log = ApiLog(service.broker, catalogue, capacity=settings.api_log_capacity)
    door = _door(settings, service, catalogue)
    replica.listen(door.gate.on_change)
    parts = _parts(settings, service, catalogue, replica, waiters, door)
    service.subscribe(replica.subscription(), *handlers.subscriptions(waiters))
    service.work(*workers.workers(_ages(settings), database, relay, parts.router, waiters))
    service.on_open(parts.acceptor.open)
    service.on_drain(parts.acceptor.close)
    service.on_close(waiters.close)
    service.on_close(parts.router.close)
    service.on_close(parts.reporter.close)
    service.on_close(parts.ledger.close)
    _run_in_every_process(
        service,
        replica,
        [
            *replica.workers(),
            *door.workers,
            workers.api_log_worker(api_log, settings.api_log_flush_seconds),
        ],
        api_log,
    )
    routes.add_routes(service.app, parts)
    service.app.include_router(internal.router(replica, service.verifier))
    service.app.include_router(behalf.router(parts, service.verifier))
    service.trace_sources.append(trace_source)
    install_answers(service.app)
    install_document(service.app)
    _add_layers(service.app, settings, api_log, door.gate)
    return service


def _add_layers(app: FastAPI, settings: GatewaySettings, api_log: ApiLog, gate: Gate) -> None:
    """Put the layers around: CORS, API log, request ids and body limit (chassis), gate, routes."""
    app.user_middleware.append(Middleware(GateEdge, gate=gate))  # innermost: it answers with ids
    app.add_middleware(
        ApiLogEdge,
        api_log=api_log,
        proxies=Proxies(settings.trusted_proxies),
        body_seconds=settings.body_seconds,
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "Authorization", "X-API-Key", "App-ID", "Content-Type", "Idempotency-Key",
                "Prefer", "X-Device-Id", "X-Request-Id",
            ],
            expose_headers=[
                "Location", "Retry-After", "Idempotent-Replayed", "X-Request-Id", "RateLimit",
                "RateLimit-Policy",
            ],
            max_age=600,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Door:
    """What decides who comes in, and the workers that keep it true in every process."""

    identity: Identity
    gate: Gate
    workers: list[Worker]


def _door(settings: GatewaySettings, service: Service, catalogue: Catalogue) -> _Door:
    """Make the gate with what it looks at."""
    previous = settings.previous_signing_keys.get_secret_value().split(",")
    identity = Identity(
        catalogue,
        signing_key=settings.signing_key.get_secret_value(),
        previous_keys=[key.strip() for key in previous if key.strip()],
        pepper=decode_key(settings.credential_pepper.get_secret_value()),
        token_seconds=settings.token_seconds,
    )
    rates = Rates(
        client=settings.client_rate_per_minute,
        address=settings.address_rate_per_minute,
        callbacks=settings.callback_rate_per_minute,
        tokens=settings.token_rate_per_minute,
    )
    rules, limiter = AddressRules(), Limiter(rates, capacity=settings.limits_capacity)
    security = SecurityLog(service.database, service.relay, capacity=settings.security_capacity)
    counts = None
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        counts = SharedCounts(url, timeout_seconds=settings.redis_timeout_seconds)
        service.on_close(counts.close)

    async def last_words() -> None:
        try:
            await security.publish()
        except (*DATABASE_DOWN, asyncpg.PostgresError) as error:
            log.warning("security_events_lost", reason=repr(error)[:200])

    service.on_drain(last_words)
    return _Door(
        identity,
        Gate(identity, catalogue, rules, limiter, security),
        [
            workers.limits_worker(limiter, counts, settings.limits_sync_seconds),
            workers.security_worker(security, settings.security_window_seconds),
        ],
    )


def _parts(
    settings: GatewaySettings,
    service: Service,
    catalogue: Catalogue,
    replica: DirectoryReplica,
    waiters: Waiters,
    door: _Door,
) -> Parts:
    """Make what the routes are given."""
    signing_key = settings.signing_key.get_secret_value()
    pepper = decode_key(settings.credential_pepper.get_secret_value())
    return Parts(
        database=service.database,
        relay=service.relay,
        catalogue=catalogue,
        complete=lambda: replica.complete,
        identity=door.identity,
        gate=door.gate,
        acceptor=Acceptor(
            service.database,
            service.relay,
            Sealer(settings.secrets_key.get_secret_value()),
            limit=settings.accept_limit,
            runners=settings.accept_runners,
            check_after=dt.timedelta(seconds=settings.news_check_seconds),
        ),
        waiters=waiters,
        router=RouterClient(
            settings.router_url,
            signing_key,
            allowed=settings.allow_private_networks,
            timeout_seconds=settings.router_timeout_seconds,
        ),
        reporter=ReporterClient(
            settings.reporter_url,
            signing_key,
            allowed=settings.allow_private_networks,
            timeout_seconds=settings.reporter_timeout_seconds,
        ),
        ledger=_ledger(settings),
        file_seconds=settings.ledger_file_seconds,
        fingerprints=Fingerprints(pepper),
        callback_limit_bytes=settings.callback_limit_bytes,
        enquire_every=dt.timedelta(seconds=settings.enquire_seconds),
    )


def _ledger(settings: GatewaySettings) -> LedgerClient:
    return LedgerClient(
        settings.ledger_url,
        settings.signing_key.get_secret_value(),
        allowed=settings.allow_private_networks,
        limits=LedgerLimits(
            read_seconds=settings.ledger_timeout_seconds,
            paper_seconds=settings.ledger_paper_seconds,
            calls=settings.ledger_calls,
            calls_of_client=settings.ledger_calls_of_client,
            files=settings.ledger_files,
            files_of_client=settings.ledger_files_of_client,
        ),
    )


def _ages(settings: GatewaySettings) -> workers.Ages:
    return workers.Ages(
        unseen=dt.timedelta(seconds=settings.unseen_seconds),
        news_check=dt.timedelta(seconds=settings.news_check_seconds),
        secrets=dt.timedelta(hours=settings.secrets_hours),
        idempotency=dt.timedelta(hours=settings.idempotency_hours),
        callbacks=dt.timedelta(days=settings.callback_days),
        limit_counters=dt.timedelta(days=settings.limit_counter_days),
        sale_events=dt.timedelta(days=settings.sale_event_days),
        reannounce=dt.timedelta(seconds=settings.reannounce_seconds),
        last_refund_announcement=dt.timedelta(hours=settings.refund_announce_hours),
    )


def _run_in_every_process(
    service: Service, replica: DirectoryReplica, own: Sequence[Worker], api_log: ApiLog
) -> None:
    """Run what lives in this process's memory whatever its roles: the replica, the API log."""
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        try:
            await replica.refresh()
        except (*DATABASE_DOWN, asyncpg.PostgresError) as error:
            log.warning("replica_waits", reason=repr(error)[:200])  # its worker tries again
        tasks.extend(asyncio.create_task(worker.run()) for worker in own)

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api_log.publish()

    service.on_open(start)
    service.on_close(stop)


def create_app(settings: GatewaySettings) -> FastAPI:
    """Return the ASGI application alone."""
    return create_service(settings).app


def build() -> Service:
    """Build from the environment; documents need none."""
    if sys.argv[1:2] in (["openapi"], ["asyncapi"]):
        os.environ.update(placeholder_environment(GatewaySettings, document_values()))
    return create_service(GatewaySettings())
