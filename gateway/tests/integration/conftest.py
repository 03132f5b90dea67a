"""The gateway in this process over a real database and broker, and a house around it in messages.

Each test makes its own client; the directory is fed as portal-api feeds it, by messages.
"""

import asyncio
import datetime as dt
import hashlib
import hmac
import itertools
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
import asyncpg
import httpx
import orjson
import pytest
import structlog
from mospay_gateway.app import create_service
from mospay_gateway.settings import GatewaySettings
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.settings import decode_key
from mospay_shared.contracts import (
    AssignmentV1,
    ClientV1,
    Contract,
    CredentialsPartV1,
    CredentialV1,
    IpRuleV1,
    PaymentEventV1,
    PaymentStatus,
    ServiceV1,
    SnapshotPartV1,
    outgoing,
)
from mospay_shared.contracts.registry import MESSAGES
from mospay_shared.ids import new_id

structlog.configure(  # as JSON: drawing tracebacks for a terminal takes seconds
    processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
)
_VERSIONS = itertools.count(int(time.time() * 1000))
PHONE = "+250780000000"
_KNOWN_VERSION = "select version from directory_entity where kind = $1 and entity_id = $2"


@dataclass
class Merchant:
    """A client with a service and credentials of test mode; `body` is valid for it."""

    client: ClientV1
    service: ServiceV1
    assignment: AssignmentV1
    key: CredentialV1
    login: CredentialV1
    api_key: str
    username: str
    password: str

    @property
    def app_id(self) -> str:
        """The App ID in test mode."""
        return self.client.apps[0].app_id

    @property
    def headers(self) -> dict[str, str]:
        """The API key as a header."""
        return {"X-API-Key": self.api_key}

    def body(self, **changes: Any) -> dict[str, Any]:
        """A valid body for `/v1/payments`; None takes a member away."""
        values: dict[str, Any] = {
            "service": self.service.name,
            "route": "payment",
            "amount_minor": 1000,
            "currency": "RWF",
            "phone": PHONE,
            "reference": "ref-" + secrets.token_hex(8),
        }
        return {k: v for k, v in (values | changes).items() if v is not None}

    def fields(self, **changes: Any) -> dict[str, Any]:
        """A valid body for the field API; None takes a member away."""
        values: dict[str, Any] = {
            "f000": self.service.microservice, "f001": self.service.name, "f002": "payment",
            "f003": self.app_id, "f004": "1000.00", "f005": PHONE, "f006": "customer",
            "f007": "", "f008": "their-password", "f009": "device",
            "f010": "txn_" + secrets.token_hex(8),
        }  # fmt: skip
        return {k: v for k, v in (values | changes).items() if v is not None}


@dataclass
class Gateway:
    """A running gateway: HTTP in, its service object, and SQL as its worker role."""

    service: Service
    http: httpx.AsyncClient
    sql: "asyncpg.Connection[asyncpg.Record]"
    env: dict[str, str]

    async def publish(self, wire_type: str, *bodies: bytes) -> None:
        """Publish packs of one event each, as whoever produces the type does."""
        connection = await aio_pika.connect(self.service.broker.url)
        kind = "commands" if MESSAGES[wire_type].command else "events"
        async with connection, connection.channel() as channel:
            exchange = await channel.get_exchange(f"mospay.{kind}")
            for body in bodies:
                await exchange.publish(aio_pika.Message(b"[" + body + b"]"), wire_type)

    async def tell(self, *entities: Contract) -> None:
        """Change the directory, as portal-api does, and wait until the gateway knows."""
        for entity in entities:
            kind = kind_of(entity)
            wire = f"directory.{kind}_changed.v1"
            await self.publish(wire, outgoing(wire, "dir", entity, source="portal-api").body)
        for entity in entities:
            kind = kind_of(entity)
            entity_id, version = getattr(entity, f"{kind}_id"), getattr(entity, "version")  # noqa: B009

            async def known(
                kind: str = kind, entity_id: str = entity_id, version: int = version
            ) -> bool:
                found = await self.sql.fetchval(_KNOWN_VERSION, kind, entity_id)
                return (found or 0) >= version

            await eventually(known)
        await replica_of(self.service).refresh()  # memory follows the table; here it does so now

    async def merchant(self, **service: Any) -> Merchant:
        """Make a client with everything it needs; keyword arguments change its service."""
        made = new_merchant(self.env, **service)
        await self.tell(made.client, made.service, made.assignment, made.key, made.login)
        return made

    async def pay(
        self, merchant: Merchant, key: str | None = None, wait: int | None = None, **changes: Any
    ) -> httpx.Response:
        """POST /v1/payments."""
        headers = {**merchant.headers, "Idempotency-Key": key or secrets.token_hex(8)}
        if wait is not None:
            headers["Prefer"] = f"wait={wait}"
        return await self.http.post("/v1/payments", json=merchant.body(**changes), headers=headers)

    async def count(self, table: str, where: str, *args: Any) -> int:
        """Count rows."""
        found: int = await self.sql.fetchval(f"select count(*) from {table} where {where}", *args)
        return found


def kind_of(entity: Contract) -> str:
    """Return a directory entity's kind on the wire."""
    if isinstance(entity, IpRuleV1):
        return "ip_rule"
    return type(entity).__name__.removesuffix("V1").lower()


def replica_of(service: Service) -> DirectoryReplica:
    """Return the directory replica a gateway holds."""
    replica = getattr(service.subscriptions[0].handlers["directory.client_changed.v1"], "__self__")  # noqa: B009
    assert isinstance(replica, DirectoryReplica)
    return replica


def new_merchant(env: dict[str, str], **service: Any) -> Merchant:
    """Make the entities of a client, unknown to anybody yet."""
    name = secrets.token_hex(5)
    pepper = decode_key(env["GATEWAY_CREDENTIAL_PEPPER"])
    client = ClientV1(
        client_id=new_id("cli"), company_id=new_id("cmp"), name=name,
        apps=[{"app_id": f"{name}_test", "mode": "test"}],
        currency="RWF", time_zone="Africa/Kigali", answer_wait_seconds=1, active=True,
        version=next(_VERSIONS),
    )  # fmt: skip
    values: dict[str, Any] = {
        "service_id": new_id("svc"), "microservice": f"sim{name}", "name": f"collection{name}",
        "title": "Collection", "currency": "RWF", "urls": {"test": "http://127.0.0.1:1"},
        "routes": ["payment"], "limits": {"min_minor": 100, "max_minor": 5_000_000},
        "active": True, "version": next(_VERSIONS),
    }  # fmt: skip
    made = ServiceV1(**(values | service))
    assignment = AssignmentV1(
        assignment_id=new_id("asg"), client_id=client.client_id, service_id=made.service_id,
        active=True, version=next(_VERSIONS),
    )  # fmt: skip
    prefix, secret, password = name, secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    shared = {"client_id": client.client_id, "app_id": f"{name}_test", "mode": "test"}
    key = CredentialV1(
        credential_id=new_id("crd"), kind="api_key", lookup=prefix, **shared,
        secret_hash=hashlib.sha256(secret.encode()).hexdigest(), version=next(_VERSIONS),
    )  # fmt: skip
    login = CredentialV1(
        credential_id=new_id("crd"), kind="api_password", lookup=f"u_{name}", **shared,
        secret_hash=hmac.digest(pepper, password.encode(), "sha256").hex(),
        version=next(_VERSIONS),
    )  # fmt: skip
    return Merchant(
        client, made, assignment, key, login, f"mp_test_{prefix}_{secret}", f"u_{name}", password
    )


def ip_rule(cidr: str, kind: str = "deny", **values: Any) -> IpRuleV1:
    """Make an address rule, for everybody unless `client_id` is given."""
    made = {"ip_rule_id": new_id("ipr"), "kind": kind, "cidr": cidr, "version": next(_VERSIONS)}
    return IpRuleV1(**(made | values))


def newer(entity: Any, **changes: Any) -> Any:
    """Return the next version of a directory entity."""
    return entity.model_copy(update={**changes, "version": next(_VERSIONS)})


async def eventually(fact: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Wait until a fact holds and return it."""
    until = time.monotonic() + seconds
    while True:
        found = await fact()
        if found or time.monotonic() > until:
            assert found, "it did not come to be in time"
            return found
        await asyncio.sleep(0.02)


class Tap:
    """A queue of the test's own that hears what the gateway publishes."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self.seen: list[dict[str, Any]] = []

    async def about(self, subject: str, wire_type: str, seconds: float = 20) -> dict[str, Any]:
        """Return the first event of a type about a subject, as soon as it is there."""

        async def found() -> dict[str, Any] | None:
            await self.drain()
            return next((e for e in self.of(subject) if e["type"] == wire_type), None)

        event: dict[str, Any] = await eventually(found, seconds)
        return event

    async def drain(self) -> None:
        """Hear everything that is there by now."""
        while (message := await self._queue.get(fail=False, no_ack=True)) is not None:
            self.seen.extend(orjson.loads(message.body))

    def of(self, subject: str) -> list[dict[str, Any]]:
        """Return what was heard about a subject so far."""
        return [e for e in self.seen if e["subject"] == subject]


@pytest.fixture
async def tap(gateway_env: dict[str, str]) -> AsyncIterator[Tap]:
    """Hears everything from here on."""
    connection = await aio_pika.connect(gateway_env["GATEWAY_BROKER_URL"])
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        for name in ("mospay.commands", "mospay.events"):
            await queue.bind(await channel.get_exchange(name), "#")
        yield Tap(queue)


@asynccontextmanager
async def running(
    env: dict[str, str], **overrides: str
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """Run a further gateway, as another process would be; its answers come as they are."""
    service = make_service(env, **overrides)
    async with service.app.router.lifespan_context(service.app):
        transport = httpx.ASGITransport(app=service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            yield service, http


def news(payment: dict[str, Any], merchant: Merchant, **changes: Any) -> PaymentEventV1:
    """Return what the router would say of a payment."""
    now = dt.datetime.now(dt.UTC)
    values: dict[str, Any] = {
        "payment_id": payment["id"], "client_id": merchant.client.client_id, "mode": "test",
        "app_id": merchant.app_id, "service_id": merchant.service.service_id,
        "microservice": merchant.service.microservice, "service": merchant.service.name,
        "route": "payment", "amount_minor": 1000, "currency": "RWF",
        "status": PaymentStatus.SUCCEEDED, "version": 2, "reference": "r",
        "provider_reference": "sim_1", "accepted_at": now, "occurred_at": now,
    }  # fmt: skip
    return PaymentEventV1(**(values | changes))


def wire(body: PaymentEventV1) -> tuple[str, bytes]:
    """Return a payment event's type and envelope."""
    name = f"payment.{body.status}.v1"
    return name, outgoing(name, body.payment_id, body, source="payment-router").body


@pytest.fixture(scope="session")
def gateway_env(service_env: Callable[..., dict[str, str]]) -> dict[str, str]:
    """The complete environment, its database migrated."""
    env = service_env("gateway", GATEWAY_ALLOWED_ORIGINS="https://shop.example")
    asyncio.run(_stand_in_for_the_others(env["GATEWAY_BROKER_URL"]))
    return env


async def _stand_in_for_the_others(broker_url: str) -> None:
    """Make a queue that takes what the other services' queues would take, and nothing else."""
    connection = await aio_pika.connect(broker_url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue("test.others", durable=True)
        for message in MESSAGES.values():
            exchange = "mospay.commands" if message.command else "mospay.events"
            await queue.bind(await channel.get_exchange(exchange), message.name)


def make_service(env: dict[str, str], **overrides: str) -> Service:
    """Make a gateway of an environment, as a process of its own would."""
    before = dict(os.environ)
    os.environ.update(env | overrides)
    try:
        return create_service(GatewaySettings())
    finally:
        os.environ.clear()
        os.environ.update(before)


async def send_snapshot(service: Service, sql: Any) -> None:
    """Answer the gateway's request for a snapshot with an empty one."""
    asked = "select request_id from directory_snapshot order by requested_at desc limit 1"
    request_id = await eventually(lambda: sql.fetchval(asked))
    part = SnapshotPartV1(
        request_id=request_id, requested_by="gateway", part=1, last=True, high_water=1
    )
    keys = CredentialsPartV1(request_id=request_id, part=1, last=True)
    connection = await aio_pika.connect(service.broker.url)
    async with connection, connection.channel() as channel:
        for exchange, wire, body in (
            ("mospay.events", "directory.snapshot_part.v1", part),
            ("mospay.commands", "directory.credentials_part.v1", keys),
        ):
            target = await channel.get_exchange(exchange)
            text = outgoing(wire, request_id, body, source="portal-api").body
            await target.publish(aio_pika.Message(b"[" + text + b"]"), wire)


@pytest.fixture
async def sql(
    gateway_env: dict[str, str],
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Direct SQL as the role the service itself uses."""
    connection = await asyncpg.connect(gateway_env["GATEWAY_WORKER_DATABASE_URL"])
    yield connection
    await connection.close()


@pytest.fixture
async def gateway(
    gateway_env: dict[str, str], sql: "asyncpg.Connection[asyncpg.Record]"
) -> AsyncIterator[Gateway]:
    """A running gateway that knows the directory."""
    # another test's gateway asks for news; this one must not take its payments from under it
    async with running(gateway_env, GATEWAY_NEWS_CHECK_SECONDS="86400") as (service, http):
        if not await sql.fetchval(
            "select exists (select 1 from directory_snapshot where parts_done)"
        ):
            await send_snapshot(service, sql)

        async def knows() -> bool:
            return (await http.get("/api/v1/client/profile")).status_code == 401

        await eventually(knows)
        yield Gateway(service, http, sql, gateway_env)
