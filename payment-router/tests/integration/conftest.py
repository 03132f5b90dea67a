"""The router in-process over real PostgreSQL and RabbitMQ, with a real provider to call."""

import asyncio
import base64
import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import asyncpg
import httpx
import orjson
import pytest
from aiohttp import web
from mospay_dev.environment import Backing
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import database_url
from mospay_payment_router.app import create_service
from mospay_payment_router.settings import RouterSettings
from mospay_payment_router.storage.dispatcher import Functions
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import Outgoing, PaymentCallbackV1, ProcessPaymentV1, outgoing
from mospay_shared.contracts.directory import AppV1, AssignmentV1, ClientV1, ServiceV1
from mospay_shared.ids import new_id

FAST = {
    "enquiry_seconds": [0.1, 0.2, 0.4],
    "callback_match_seconds": [0.1, 0.2, 0.3],
    "not_found_grace_seconds": 0.3,
    "lease_margin_seconds": 0.3,
    "lease_spare_seconds": 0.7,
    "announce_after_seconds": 0.4,
    "function_seconds": 1.0,
    "risk_seconds": 1.0,  # a busy machine is no reason for the default
}


async def until(check: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until `await check()` is truthy and return it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (value := await check()):
        assert loop.time() < end, "condition not met in time"
        await asyncio.sleep(0.02)
    return value


@dataclass
class Answering:
    """What the test's own provider does for a reference, and every request it saw."""

    url: str
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    plays: dict[str, list[Any]] = field(default_factory=dict)

    def seen(self, reference: str, *, enquiries: bool = False) -> int:
        """How many payments (or enquiries) it was asked for."""
        return sum(
            1
            for path, ref, _, _ in self.requests
            if ref == reference and path.endswith("Status") == enquiries
        )


def success(reference: str, amount: str = "1000") -> tuple[int, dict[str, Any]]:
    """The answer of a provider that was paid."""
    return 200, {
        "outcome": "succeeded",
        "reference": reference,
        "amount": amount,
        "provider_reference": f"prov_{reference}",
    }


def held_until(release: asyncio.Event) -> Callable[[str], Any]:
    """Return an answer of success that waits for `release`."""

    async def answer(reference: str) -> Any:
        await release.wait()
        return success(reference)

    return answer


@pytest.fixture
async def provider() -> AsyncIterator[Answering]:
    """An HTTP provider; `plays["default"]` or `plays[kind]` is a function(reference) → answer."""
    answering = Answering("")

    async def on_post(request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = orjson.loads(raw)
        if request.path == "/callbacks":
            reference, key = "", "callback"
        elif isinstance(body, dict):
            reference = body["refund_id"]
            key = "refund_enquiry" if request.path.endswith("Status") else "refund"
        else:
            reference = next((item["v"] for item in body if item["i"] == 10), "")
            key = "enquiry" if request.path.endswith("Status") else "payment"
        answering.requests.append((request.path, reference, dict(request.headers), body))
        plays = answering.plays.get(key) or [success]
        play = plays.pop(0) if len(plays) > 1 else plays[0]
        result = play(reference)
        if asyncio.iscoroutine(result):
            result = await result
        status, answer = result
        data = answer if isinstance(answer, bytes) else orjson.dumps(answer)
        return web.Response(status=status, body=data, content_type="application/json")

    app = web.Application()
    app.router.add_post("/{tail:.*}", on_post)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    answering.url = f"http://127.0.0.1:{port}"
    yield answering
    await runner.cleanup()


@pytest.fixture(scope="session")
def simulator(backing: Backing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The simulator as a process of its own."""
    url = f"http://127.0.0.1:{backing.ports['simulator']}"
    env = os.environ | {
        "SIMULATOR_HTTP_PORT": str(backing.ports["simulator"]),
        "SIMULATOR_DATABASE_PATH": str(tmp_path_factory.mktemp("sim") / "effects.sqlite"),
        "SIMULATOR_ASYNC_SECONDS": "0.4",
        "SIMULATOR_LATE_SECONDS": "1",
        "SIMULATOR_SLOW_SECONDS": "0.5",
        "SIMULATOR_HANG_SECONDS": "3",
    }
    process = subprocess.Popen([sys.executable, "-m", "mospay_simulator"], env=env)
    try:
        for _ in range(500):
            try:
                if httpx.get(url + "/healthz").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Merchant:
    """A client with one assigned service."""

    client_id: str
    app_id: str
    service_id: str
    microservice: str
    version: int
    service: str = "collection"
    route: str = "payment"


@dataclass
class Stage:
    """A running router, the broker next to it, and the database behind it."""

    service: Service
    settings: RouterSettings
    channel: aio_pika.abc.AbstractChannel
    database: Any
    events: dict[str, list[dict[str, Any]]]
    http: httpx.AsyncClient
    keys: Any

    @property
    def wiring(self) -> Any:
        """What the process is made of."""
        return self.service.app.state.wiring

    async def publish(self, *messages: Outgoing) -> None:
        """Publish messages in packs of one, as their producers would."""
        for message in messages:
            exchange = await self.channel.get_exchange(
                "mospay.commands" if message.command else "mospay.events", ensure=False
            )
            body = b"[" + message.body + b"]"
            await exchange.publish(aio_pika.Message(body), message.type)

    async def merchant(
        self,
        base_url: str,
        *,
        connector: dict[str, Any] | None = None,
        timeout: float = 3.0,
        microservice: str = "",
        mode: str = "test",
        wait: bool = True,
        routes: tuple[str, ...] = ("payment",),
        app_id: str = "",
        service: str = "collection",
        client_id: str = "",
        currency: str = "RWF",
    ) -> Merchant:
        """Tell the router of a new client, service and assignment; wait for its functions."""
        _VERSION[0] += 3
        tag = new_id("x")[-10:]
        made = Merchant(
            client_id=client_id or new_id("cli"),
            app_id=app_id or f"app{tag}",
            service_id=new_id("srv"),
            microservice=microservice or f"micro{tag}",
            version=_VERSION[0],
            service=service,
            route=routes[0],
        )
        if connector is None:
            connector = {"authoritative_enquiry": True, "reference_dedupe": True}
        offered = ServiceV1(
            service_id=made.service_id,
            microservice=made.microservice,
            name=service,
            title="Collection",
            currency=currency,
            urls={mode: base_url},
            routes=list(routes),
            provider_timeout_seconds=timeout,
            active=True,
            version=made.version - 2,
            connector=connector,
        )
        await self.publish(*_directory(made, offered, mode))
        if wait:

            async def mapped() -> bool:
                found: int = await self.database.fetchval(
                    "select count(*) from provider_functions "
                    "where app_id = $1 and microservice = $2",
                    made.app_id,
                    made.microservice,
                )
                return found == len(routes)

            await until(mapped)
        return made

    def command(self, merchant: Merchant, **changes: Any) -> ProcessPaymentV1:
        """Return the command for a payment of 1000 RWF."""
        now = dt.datetime.now(dt.UTC)
        values: dict[str, Any] = {
            "payment_id": new_id("pay"),
            "client_id": merchant.client_id,
            "mode": "test",
            "app_id": merchant.app_id,
            "service_id": merchant.service_id,
            "directory_version": merchant.version,
            "microservice": merchant.microservice,
            "service": merchant.service,
            "route": merchant.route,
            "amount_minor": 1000,
            "currency": "RWF",
            "phone": "+250780000000",
            "reference": new_id("r"),
            "fields": {"f009": "till-1"},
            "accepted_at": now,
            "send_before": now + dt.timedelta(minutes=15),
            "metadata": {"order": "7"},
        }
        return ProcessPaymentV1(**(values | changes))

    async def process(self, command: ProcessPaymentV1) -> str:
        """Publish the command and return the payment's id."""
        await self.publish(
            outgoing(
                "payments.process.v1",
                command.payment_id,
                command,
                source="gateway",
                correlation_id="req_1",
            )
        )
        return command.payment_id

    async def pay(self, merchant: Merchant, **changes: Any) -> str:
        """Process a new payment."""
        return await self.process(self.command(merchant, **changes))

    async def callback(self, microservice: str, body: bytes, headers: dict[str, str]) -> str:
        """Publish a provider's callback as the gateway would."""
        told = PaymentCallbackV1(
            callback_id=new_id("cbk"),
            microservice=microservice,
            method="POST",
            headers=headers,
            body_base64=base64.b64encode(body).decode(),
            received_at=dt.datetime.now(dt.UTC),
        )
        await self.publish(
            outgoing("payments.callback.v1", told.callback_id, told, source="gateway")
        )
        return told.callback_id

    async def payment(self, payment_id: str) -> asyncpg.Record | None:
        """Return the payment's row."""
        return await self.database.fetchrow("select * from payments where id = $1", payment_id)

    async def attempt(self, payment_id: str) -> asyncpg.Record:
        """Return the row of the payment's one attempt."""
        rows = await self.database.fetch("select * from attempts where payment_id = $1", payment_id)
        assert len(rows) == 1
        return rows[0]

    async def ends(self, payment_id: str, status: str, seconds: float = 30) -> asyncpg.Record:
        """Wait until a payment has this status and return its row."""
        last: list[Any] = [None]

        async def reached() -> Any:
            last[0] = row = await self.payment(payment_id)
            return row if row is not None and row["status"] == status else None

        try:
            return await until(reached, seconds)
        except AssertionError:
            shown = dict(last[0]) if last[0] else None
            raise AssertionError(f"{payment_id} is not {status}: {shown}") from None

    async def told(
        self, payment_id: str, count: int, *, announced: bool = False
    ) -> list[dict[str, Any]]:
        """Wait for the payment's events and return them in the order of their versions.

        The announcement of one that takes its time is left out, unless `announced`: whether there
        is one depends on how busy the machine is.
        """

        async def arrived() -> Any:
            found = [
                event
                for event in self.events.get(payment_id, [])
                if (announced or event["type"] != "payment.processing.v1")
                and event["type"] != "payment.risk_assessed.v1"
            ]
            return found if len(found) >= count else None

        found = await until(arrived)
        return sorted(found, key=lambda e: e["data"]["version"])

    def token(self, scope: str, **claims: Any) -> dict[str, str]:
        """Return the headers of a caller from portal-api."""
        signer = TokenSigner("portal-api", self.keys["portal_signing"])
        return {"Authorization": f"Bearer {signer.token('payment-router', scope, **claims)}"}

    @property
    def sealer(self) -> Sealer:
        """Seals as the gateway does."""
        return Sealer(f"k1:{self.keys['payment_secrets']}")


_VERSION = [10]


def _directory(made: Merchant, offered: ServiceV1, mode: str) -> list[Outgoing]:
    """Return the events by which portal-api tells of a client and its assignment."""
    client = ClientV1(
        client_id=made.client_id,
        company_id=new_id("com"),
        name="Shop",
        apps=[AppV1(app_id=made.app_id, mode=mode)],
        currency="RWF",
        time_zone="Africa/Kigali",
        active=True,
        version=made.version - 1,
    )
    assignment = AssignmentV1(
        assignment_id=new_id("asg"),
        client_id=made.client_id,
        service_id=made.service_id,
        active=True,
        version=made.version,
    )
    told = [("service", offered), ("client", client), ("assignment", assignment)]
    return [
        outgoing(f"directory.{kind}_changed.v1", made.client_id, body, source="portal-api")
        for kind, body in told
    ]


@pytest.fixture
def router_env(service_env: Any) -> dict[str, str]:
    """The router's environment on the test stack."""
    env: dict[str, str] = service_env("payment-router")
    return env


def settings_of(env: dict[str, str], **changes: Any) -> RouterSettings:
    """Return settings from an environment, quick ones for tests."""
    values = {key.removeprefix("ROUTER_").lower(): value for key, value in env.items()}
    return RouterSettings(**(values | FAST | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Run a service and yield a client for its routes."""
    async with service.app.router.lifespan_context(service.app):
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            yield client


@pytest.fixture
def owner_url(router_env: dict[str, str], infrastructure: Cluster, backing: Backing) -> str:
    """A superuser's URL of the router's database, to look into every table."""
    return database_url(infrastructure.postgres_url, backing.databases["payment-router"])


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to wait is tried again at once."""
    monkeypatch.setattr("mospay_shared.chassis.inbox.RETRY_SECONDS", (0.1,))


@pytest.fixture
async def database(router_env: dict[str, str], owner_url: str) -> AsyncIterator[Any]:
    """One connection of a superuser, where no router runs."""
    connection = await asyncpg.connect(owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def functions(router_env: dict[str, str]) -> AsyncIterator[Functions]:
    """The dispatcher alone, with 0.4 s for a batch."""
    made = Functions(router_env["ROUTER_FUNCTION_DATABASE_URL"], "test", 3, 0.4)
    await made.open()
    yield made
    await made.close()


@asynccontextmanager
async def staged(env: dict[str, str], url: str, keys: Any, **changes: Any) -> AsyncIterator[Stage]:
    """Run a router with these settings and gather its events."""
    settings = settings_of(env, **changes)
    connection = await aio_pika.connect(settings.broker_url.get_secret_value())
    database = await asyncpg.create_pool(url, min_size=1, max_size=3)
    events: dict[str, list[dict[str, Any]]] = {}
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        for key in ("payment.#", "directory.#", "refund.#", "provider.#"):
            await queue.bind("mospay.events", key)
        sink = await channel.declare_queue(exclusive=True)
        await sink.bind("mospay.commands", "directory.snapshot_requested.v1")

        async def gather(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            async with message.process():
                for event in orjson.loads(message.body):
                    events.setdefault(event["subject"], []).append(event)

        await queue.consume(gather)
        await sink.consume(gather)
        service = create_service(settings)
        async with running(service) as http:
            yield Stage(service, settings, channel, database, events, http, keys)
    await database.close()


@pytest.fixture
async def stage(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster
) -> AsyncIterator[Stage]:
    """A running router."""
    async with staged(router_env, owner_url, infrastructure.keys) as made:
        yield made
