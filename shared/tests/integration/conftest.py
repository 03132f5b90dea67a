"""A small service of the tests' own: one table, two queues, the whole chassis under it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from mospay_dev.environment import Backing
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import database_url, make_database
from mospay_dev.services import ServiceSpec
from mospay_shared.chassis import schema
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.settings import ServiceSettings

SPEC = ServiceSpec("chassis", "none", "CHASSIS_", "mospay_chassis")
TABLES = [
    *schema.OUTBOX_AND_INBOX_V1,
    *schema.PARTITIONS_V1,
    *schema.DIRECTORY_V1,
    *schema.DIRECTORY_V2,
    "create table effects (id text, client_id text, at timestamptz default clock_timestamp())",
    "create table alembic_version (version_num text)",
    "insert into alembic_version values ('')",
    "alter table effects enable row level security",
    "create policy tenant on effects for select to mospay_chassis_app "
    "using (client_id = current_setting('mospay.client_id', true))",
    "grant select on effects to mospay_chassis_app",
    *schema.grants("mospay_chassis"),
]


@dataclass
class Stage:
    """Where the test service lives."""

    cluster: Cluster
    settings: ServiceSettings
    owner_url: str
    seen: list[str] = field(default_factory=list)

    def service(self, **overrides: Any) -> Service:
        """Build a service that has not started yet."""
        return Service(
            "chassis",
            self.settings.model_copy(update=overrides),
            migrations_folder=Path(__file__).parent / "none",
        )


@pytest.fixture(scope="session")
def stage_base(infrastructure: Cluster, backing: Backing, session_name: str) -> Iterator[Stage]:
    """The database and virtual host, made once a session."""
    name = f"mospay_chassis_{session_name}"
    asyncio.run(make_database(infrastructure.postgres_url, SPEC, infrastructure.keys, name))
    keys = infrastructure.keys

    def url(role: str) -> str:
        return database_url(infrastructure.postgres_url, name, f"mospay_chassis_{role}", keys[role])

    async def create() -> None:
        connection = await asyncpg.connect(url("owner"))
        for statement in TABLES:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(create())
    settings = ServiceSettings(
        database_url=url("app"),
        worker_database_url=url("worker"),
        broker_url=backing.broker_url,
        http_port=1,
        pool_size=4,
    )
    yield Stage(infrastructure, settings, url("owner"))

    async def drop() -> None:
        connection = await asyncpg.connect(infrastructure.postgres_url)
        await connection.execute(f'drop database "{name}" with (force)')
        await connection.close()

    asyncio.run(drop())


@pytest.fixture
def stage(stage_base: Stage) -> Stage:
    """The stage, with nothing seen yet."""
    stage_base.seen = []
    return stage_base


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Run a service's lifespan and yield a client for its routes."""
    async with service.app.router.lifespan_context(service.app):
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://chassis") as client:
            yield client


async def until(check: Any, seconds: float = 15) -> Any:
    """Wait until `await check()` is truthy and return it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (value := await check()):
        assert loop.time() < end, "condition not met in time"
        await asyncio.sleep(0.02)
    return value
