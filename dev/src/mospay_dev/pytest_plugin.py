"""pytest fixtures: the private test stack, and per-session databases and broker for a service."""

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from mospay_dev.environment import Backing, service_environment
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import (
    clone_database,
    make_database,
    migrate,
    migration_hash,
)
from mospay_dev.infrastructure.processes import free_port
from mospay_dev.services import ROOT, SERVICES

OUTCOMES_LINE = 200  # characters of an error
ServiceEnv = Callable[..., dict[str, str]]


class ByStack(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps together, where tests run side by side, what shares a stack.

    That is a package, the house of e2e and browser tests, the crash suite. Groups begin in the
    order they are found (`--no-loadscope-reorder`), the longest first.
    """

    def _split_scope(self, nodeid: str) -> str:
        parts = nodeid.partition("::")[0].split("/")
        package = "/".join(parts[: parts.index("tests")])
        return package or ("crash" if parts[1] == "crash" else "house")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack:
    """Have xdist hand out whole groups."""
    return ByStack(config, log)


class Outcomes:
    """Writes by test what went wrong with it first, "" where nothing did, as JSON to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a setup, a call or a teardown."""
        known = self._found.setdefault(report.nodeid, "")
        if report.failed and not known:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = str(crash.message if crash else report.longrepr)
            said = (text.strip().splitlines() or ["failed"])[0]
            self._found[report.nodeid] = said[:OUTCOMES_LINE]

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        self._path.write_text(json.dumps(self._found, indent=1) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `./mospay test` asks for."""
    words = "Write how each test ended to this file, as JSON."
    parser.addoption("--outcomes", help=words)  # a text: options go to workers over the wire


def pytest_configure(config: pytest.Config) -> None:
    """Have outcomes written by whoever hears of all tests: not by a worker of many."""
    path: str | None = config.getoption("outcomes")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(Path(path)), "mospay-outcomes")


@pytest.fixture(scope="session")
def infrastructure() -> Iterator[Cluster]:
    """The test instances below `.mospay/test/`: fsync off, kept warm between runs.

    Workers that run side by side have instances of their own (`.mospay/test-gw1`).
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    name = "test-" + worker if worker else "test"
    cluster = Cluster(ROOT / ".mospay" / name, durable=False, say=print)
    cluster.start()
    yield cluster
    if os.environ.get("CI"):
        cluster.stop()


@pytest.fixture(scope="session")
def session_name() -> str:
    """A name no other run has; databases and the virtual host of this session carry it."""
    return "t" + uuid.uuid4().hex[:10]


@pytest.fixture(scope="session")
def backing(infrastructure: Cluster, session_name: str) -> Iterator[Backing]:
    """A virtual host and names of databases for this session; databases are made on demand."""
    ports: dict[str, int] = {}
    for name in (*SERVICES, "simulator", "receiver"):
        ports[name] = free_port(set(ports.values()))
    yield Backing(
        postgres_url=infrastructure.postgres_url,
        broker_url=infrastructure.make_vhost(session_name),
        redis_url=infrastructure.redis_url,
        keys=infrastructure.keys,
        ports=ports,
        databases={name: f"{spec.database}_{session_name}" for name, spec in SERVICES.items()},
    )
    infrastructure.drop_vhost(session_name)


@pytest.fixture(scope="session")
def service_env(
    infrastructure: Cluster, backing: Backing, session_name: str
) -> Iterator[ServiceEnv]:
    """`service_env("ledger", LEDGER_X="1")` → a complete environment with a migrated database."""
    made: set[str] = set()

    def environment(service: str, **overrides: str) -> dict[str, str]:
        env = service_environment(service, backing)
        if service not in made:
            template = _template(infrastructure, service, session_name)
            asyncio.run(
                clone_database(infrastructure.postgres_url, template, backing.databases[service])
            )
            migrate(SERVICES[service], env)  # declares the queues in this session's virtual host
            made.add(service)
        return env | overrides

    yield environment
    asyncio.run(_drop(infrastructure.postgres_url, [backing.databases[name] for name in made]))


def _template(cluster: Cluster, service: str, session_name: str) -> str:
    """Return the name of the migrated template database, making it when migrations changed.

    It is built under this session's own name and renamed when whole, so that a template is never
    half made, whoever else is at work or whatever interrupts this.
    """
    spec = SERVICES[service]
    template = f"{spec.database}_template_{migration_hash(spec)}"
    if asyncio.run(_exists(cluster.postgres_url, template)):
        return template
    building = f"{spec.database}_{session_name}_new"
    backing = Backing(
        postgres_url=cluster.postgres_url,
        broker_url="amqp://none",
        redis_url=cluster.redis_url,
        keys=cluster.keys,
        ports=dict.fromkeys((*SERVICES, "simulator", "receiver"), 1),
        databases={service: building},
    )
    asyncio.run(make_database(cluster.postgres_url, spec, cluster.keys, building))
    try:
        migrate(spec, service_environment(service, backing))
        asyncio.run(_rename(cluster.postgres_url, building, template))
    finally:
        asyncio.run(_drop(cluster.postgres_url, [building]))
    return template


async def _exists(server: str, name: str) -> bool:
    connection = await asyncpg.connect(server)
    try:
        asked = "select exists (select from pg_database where datname = $1)"
        return bool(await connection.fetchval(asked, name))
    finally:
        await connection.close()


async def _rename(server: str, name: str, new_name: str) -> None:
    """Rename a database; where another session was first, theirs stays."""
    connection = await asyncpg.connect(server)
    try:
        with suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute(f'alter database "{name}" rename to "{new_name}"')
    finally:
        await connection.close()


async def _drop(server: str, names: list[str]) -> None:
    connection = await asyncpg.connect(server)
    try:
        for name in names:
            await connection.execute(f'drop database if exists "{name}" with (force)')
    finally:
        await connection.close()
