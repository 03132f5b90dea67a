"""The ledger's wiring."""

import asyncio
import os
import sys
from collections.abc import Sequence

from fastapi import FastAPI
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.main import migrations_beside, placeholder_environment
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service

from mospay_ledger import handlers, routes, workers
from mospay_ledger.clients import GatewayClient
from mospay_ledger.settings import LedgerSettings, document_values
from mospay_ledger.usecases import chain
from mospay_ledger.usecases.paying import Till


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
    # where a client's days end, and its name for papers
    replica = DirectoryReplica("ledger", ("client",), service.database, service.relay)
    service.subscribe(replica.subscription())
    service.work(*replica.workers())
    service.work(*workers.settlement_workers(service.database, service.relay, settings))
    till = _till(service, settings)
    service.subscribe(
        *handlers.intent_subscriptions(
            till, linger_seconds=settings.batch_linger_seconds, limit=settings.batch_limit
        )
    )
    service.work(*workers.workers(service.database, settings))
    service.work(*workers.paying_workers(service.database, service.relay, settings, till))
    service.work(*workers.invoice_workers(service.database, service.relay, settings))
    service.work(*workers.reconciliation_workers(service.database, service.relay, settings))
    service.app.include_router(routes.router(service, settings, till))
    service.trace_sources.append(routes.posting_hops)
    return service


def _till(service: Service, settings: LedgerSettings) -> Till:
    """Make what takes payments of invoices."""
    gateway = GatewayClient(
        settings.gateway_url,
        settings.signing_key.get_secret_value(),
        allowed=settings.allow_private_networks,
        timeout_seconds=settings.gateway_timeout_seconds,
    )
    service.on_close(gateway.close)
    sealer = Sealer(settings.secrets_key.get_secret_value())
    return Till(service.database, service.relay, gateway, sealer, settings)


def create_app(settings: LedgerSettings) -> FastAPI:
    """Return the ASGI application alone."""
    return create_service(settings).app


def build() -> Service:
    """Build from the environment; documents need none."""
    if sys.argv[1:2] in (["openapi"], ["asyncapi"]):
        os.environ.update(placeholder_environment(LedgerSettings, document_values()))
    return create_service(LedgerSettings())


def verify_chain(arguments: Sequence[str]) -> int:
    """Verify the hash chain (from a block on, if one is named): 0 whole, 1 broken, 2 misused."""
    if len(arguments) > 1 or not all(argument.isdecimal() for argument in arguments):
        sys.stderr.write("usage: python -m mospay_ledger verify [FIRST_BLOCK]\n")
        return 2
    return asyncio.run(_verify_chain(int(arguments[0]) if arguments else 1))


async def _verify_chain(first: int) -> int:
    settings = LedgerSettings()
    service, entries, start = create_service(settings), 0, first
    await service.database.open()
    try:
        while True:
            async with service.database.transaction() as tx:
                found = await chain.verify(tx, first, settings.verify_blocks)
            entries += found.entries
            if found.fault is not None:
                fault = found.fault
                sys.stdout.write(
                    f"BROKEN: {fault.what} at block {fault.block_id}, entry {fault.entry_id}\n"
                )
                return 1
            if found.next_block is None:
                sys.stdout.write(
                    f"whole: blocks {start} to {found.last_block}, {entries} entries, "
                    f"head {found.head_hash}\n"
                )
                return 0
            first = found.next_block
    finally:
        await service.database.close()
