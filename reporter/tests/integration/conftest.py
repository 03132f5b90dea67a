"""A reporter of the tests' own, over the real database; each test makes its own clients."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.pytest_plugin import ServiceEnv
from mospay_reporter.app import create_service
from mospay_reporter.settings import ReporterSettings
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner

Get = Callable[..., Any]
PREFIX = "REPORTER_"


@pytest.fixture(scope="session")
def settings(service_env: ServiceEnv) -> ReporterSettings:
    """Settings over a fresh, migrated database."""
    env = service_env("reporter", REPORTER_BATCH_LINGER_SECONDS="0.02")
    values: dict[str, Any] = {k.removeprefix(PREFIX).lower(): v for k, v in env.items()}
    return ReporterSettings(**values)


@pytest.fixture
async def service(settings: ReporterSettings) -> AsyncIterator[Service]:
    """A reporter whose pools are open; nothing runs in its background."""
    made = create_service(settings)
    await made.database.open()
    yield made
    await made.database.close()


@pytest.fixture
async def get(service: Service, infrastructure: Cluster) -> AsyncIterator[Get]:
    """`await get("/payments", client_id=…, mode=…)`: a call with a token of that tenant.

    Without a tenant the token is the operator's. Query parameters go in `params`.
    """
    signers = {
        "portal-api": TokenSigner("portal-api", infrastructure.keys["portal_signing"]),
        "gateway": TokenSigner("gateway", infrastructure.keys["gateway_signing"]),
    }
    transport = httpx.ASGITransport(app=service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://reporter") as client:

        async def call(
            path: str,
            *,
            params: Any = None,
            scope: str = "payments:read reports:read trace:read",
            client_id: str | None = None,
            mode: str | None = None,
            by: str = "portal-api",
        ) -> httpx.Response:
            token = signers[by].token(
                "reporter", scope, client_id=client_id, mode=mode, actor="usr_1"
            )
            return await client.get(
                f"/internal/v1{path}",
                params=params,
                headers={"Authorization": f"Bearer {token}"},
            )

        yield call


async def until(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until `await check()` is truthy and return it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (value := await check()):
        assert loop.time() < end, "condition not met in time"
        await asyncio.sleep(0.02)
    return value
