"""The ledger in this process, over a real database and broker."""

import os
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from mospay_ledger.app import create_service
from mospay_ledger.settings import LedgerSettings
from mospay_shared.chassis.service import Service


@pytest.fixture(scope="session")
def ledger_env(service_env: Callable[..., dict[str, str]]) -> dict[str, str]:
    """The complete environment, its database migrated."""
    return service_env("ledger")


@pytest.fixture
async def ledger(
    ledger_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """A running ledger."""
    for name, value in ledger_env.items():
        monkeypatch.setitem(os.environ, name, value)
    service = create_service(LedgerSettings())
    async with service.app.router.lifespan_context(service.app):
        yield service


@pytest.fixture
async def worker_connection(
    ledger_env: dict[str, str],
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Direct SQL as the role the service itself uses."""
    connection = await asyncpg.connect(ledger_env["LEDGER_WORKER_DATABASE_URL"])
    yield connection
    await connection.close()
